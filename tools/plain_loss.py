"""Loss by `disjoint[n]` in a plain `transformers` loop, to compare with `collapselab eval`.

python tools/plain_loss.py MODEL TEXT N
"""

import sys

import torch

from collapselab.inputs.models import load_model
from collapselab.inputs.texts import load_text

name, text, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
loaded = load_model(name)
ids = loaded.tokenizer.encode(load_text(text).text)
total, count = 0.0, 0
with torch.no_grad():
    for start in range(0, len(ids), n):
        window = torch.tensor([ids[start : start + n]])
        if window.shape[1] > 1:
            total += loaded.model(window, labels=window).loss.double().item() * (window.shape[1] - 1)
            count += window.shape[1] - 1
print(f"{total / count:.9f} nats per token over {count} tokens")
