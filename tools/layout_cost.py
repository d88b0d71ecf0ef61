"""What hard line ends cost a model of wrapped text: bits per byte with and without them, by `disjoint[256]`.

    python tools/layout_cost.py builtin:nano austen

A wrapped text says more than the same text unwrapped: at every blank, whether the line ends there. By the chain rule
its loss is the loss on the words plus the loss on this choice: -log p(line end) where a line was wrapped, and
-log(1 - p(line end)) at every blank. Without these terms the loss can be compared with one on unwrapped text.
(The second term includes the ends of paragraphs, which an unwrapped text must also encode: 1 % of it.)
"""

from __future__ import annotations

import math
import sys

import torch
from collapselab.data import load_text
from collapselab.models import load_model

CONTEXT = 256


def main(name: str, text_id: str) -> None:
    """Prints both values."""
    loaded = load_model(name)
    text = load_text(text_id).text
    ids, decode = loaded.tokenizer.encode(text), loaded.tokenizer.decode
    (line_end,) = loaded.tokenizer.encode("\n")
    begins_with_blank = torch.tensor([decode([i]).startswith(" ") for i in range(loaded.vocab_size)])
    total = layout = 0.0
    num_bytes = 0
    for start in range(0, len(ids) - 1, CONTEXT):
        window_T = torch.tensor(ids[start : start + CONTEXT])
        with torch.no_grad():
            logp_TV = loaded.model(window_T[None]).logits[0].double().log_softmax(-1)[:-1]
        targets_T = window_T[1:]
        total -= logp_TV.gather(1, targets_T[:, None]).sum().item()
        is_end_T = window_T == line_end
        # A line end next to another one ends a paragraph.
        is_wrap_T = is_end_T[1:] & ~is_end_T[:-1]
        is_wrap_T[:-1] &= ~is_end_T[2:]
        logp_end_T = logp_TV[:, line_end]
        layout -= logp_end_T[is_wrap_T].sum().item()
        layout -= torch.log1p(-logp_end_T[begins_with_blank[targets_T]].exp()).sum().item()
        num_bytes += len(decode(targets_T.tolist()).encode())
    bits = [nats / math.log(2) / num_bytes for nats in (total, layout, total - layout)]
    print(f"{name} {text_id}: {bits[0]:.4f} bits per byte, line ends {bits[1]:.4f}, the rest {bits[2]:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
