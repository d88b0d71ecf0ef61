"""Makes the shipped models: held-out texts, tokenizer, and models of unwrapped novels with their cards.

    python tools/pretrain.py prepare        # writes held-out texts and tokenizer to src/collapselab/builtin
    python tools/pretrain.py train nano     # writes src/collapselab/builtin/nano
    python tools/pretrain.py card nano      # the card's losses and samples, computed again
    python tools/pretrain.py train nano --seed 1 --out results/pretraining    # another one: nano-seed-1 there

`train` continues from its checkpoint in `--work` (by default runs/pretraining) if there is one; an interrupted
training ends with the same weights as an uninterrupted one. The novels come from Debian's `r-cran-janeaustenr` and
`r-cran-tokenizers` (`apt-get install r-cran-janeaustenr r-cran-tokenizers`); `--texts DIR` takes them from a folder
with `austen/*.txt` and `moby-dick/moby-dick.txt` instead.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from novel_batches import Batches, train_tokenizer
from novels import read_novels, split_unwrapped
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel

from collapselab.config.protocols import Protocol
from collapselab.config.schema import Sampling
from collapselab.engine.decoding import generate
from collapselab.engine.plain import PlainEngine
from collapselab.errors import InputError
from collapselab.inputs.encoded_text import encode_text
from collapselab.inputs.models import load_model
from collapselab.inputs.tokenizers import BUILTIN, builtin_tokenizer
from collapselab.randomness import rng
from collapselab.step.evaluate import evaluate, plan

# Shape letters: B sequences, T positions, V words, H heads, D width of a head.
CONTEXT, VOCAB_SIZE = 256, 2048
SHAPES = {"pico": (44, 2, 2), "nano": (96, 3, 2), "micro": (192, 4, 3), "mini": (256, 7, 4)}  # width, layers, heads
SAMPLE_TOKENS, NUM_SAMPLES = 200, 3
REPORT_EVERY, CHECKPOINT_EVERY_S = 100, 120.0  # steps between log lines; minimum time between checkpoints


@dataclass(frozen=True)
class Recipe:
    """How every size is trained; only the learning rate depends on the width, as its inverse square root."""

    num_steps: int = 6400
    batch_size: int = 16
    learning_rate_at_width_100: float = 5e-3
    warmup_steps: int = 200
    decay_share: float = 0.5
    dropout: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * CONTEXT

    def learning_rate(self, step: int, width: int) -> float:
        """Linear warm-up, a constant, and a linear decay to 0 over the last `decay_share` of the steps."""
        peak = self.learning_rate_at_width_100 * math.sqrt(100 / width)
        left = (self.num_steps - step) / (self.decay_share * self.num_steps)
        return peak * min(1.0, (step + 1) / self.warmup_steps, left)


def causal_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Attention by two matrix products in bfloat16, (B, H, T, D): 2.4 times as fast as torch's own on a CPU."""
    query, key, value = (x.to(torch.bfloat16) for x in (query, key, value))
    B, H, T, D = query.shape
    future_TT = torch.full((T, T), -math.inf, dtype=torch.bfloat16).triu(1)
    with torch.autocast("cpu", enabled=False):
        scores = torch.baddbmm(
            future_TT.expand(B * H, T, T), query.flatten(0, 1), key.flatten(0, 1).mT, alpha=1 / math.sqrt(D)
        )
        return (scores.softmax(-1) @ value.flatten(0, 1)).view(B, H, T, D).transpose(1, 2), None


AttentionInterface.register("pretraining", causal_attention)


def build_model(name: str, recipe: Recipe, vocab_size: int, seed: int) -> GPT2LMHeadModel:
    """A model of GPT-2's architecture with random weights."""
    width, num_layers, num_heads = SHAPES[name]
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=CONTEXT,
        n_embd=width,
        n_layer=num_layers,
        n_head=num_heads,
        resid_pdrop=recipe.dropout,
        embd_pdrop=recipe.dropout,
        attn_pdrop=0.0,
        # The same function as GPT-2's "gelu_new", in one fused operation.
        activation_function="gelu_pytorch_tanh",
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).train()


def build_optimizer(model: GPT2LMHeadModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def update(model: GPT2LMHeadModel, optimizer: torch.optim.AdamW, recipe: Recipe, batch_BT: Tensor) -> float:
    """Loss in nats per token of one batch, before the step on it."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_BTV = model(batch_BT, use_cache=False).logits
    loss = cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), batch_BT[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def train(
    name: str, seed: int, recipe: Recipe, books: dict[str, str], tokenizer: Tokenizer, checkpoint: Path
) -> tuple[GPT2LMHeadModel, dict[str, Any]]:
    """(the trained model, a record of its training), continued from the checkpoint if there is one."""
    batches = Batches(books, tokenizer, (recipe.batch_size, CONTEXT), seed)
    model = build_model(name, recipe, tokenizer.get_vocab_size(), seed)
    model.set_attn_implementation("pretraining")
    optimizer = build_optimizer(model, recipe)
    settings = {"name": name, "seed": seed, **asdict(recipe)}
    begin, cpu_s, losses, recent = 0, 0.0, [], []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["settings"] != settings:
            raise InputError(
                f"{checkpoint} belongs to a different training: {saved['settings']}", "give another --work"
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        begin, cpu_s, losses = saved["step"], saved["cpu_s"], saved["train_nll_nats"]
    cpu_before_s, saved_at = time.process_time() - cpu_s, time.monotonic()
    for step in range(begin, recipe.num_steps):
        torch.manual_seed((seed << 32) + step)  # for the dropout: the generator's state need not be saved
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, SHAPES[name][0])
        recent.append(update(model, optimizer, recipe, batches.at(step)))
        is_last = step + 1 == recipe.num_steps
        if not is_last and (step + 1) % REPORT_EVERY:
            continue
        losses.append(round(sum(recent) / len(recent), 4))
        recent, cpu_s = [], time.process_time() - cpu_before_s
        print(f"{name} {seed}: {step + 1}/{recipe.num_steps} loss {losses[-1]} {cpu_s:.0f} core-seconds", flush=True)
        if is_last or time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "settings": settings}
            state |= {"step": step + 1, "cpu_s": cpu_s, "train_nll_nats": losses}
            replace_with(checkpoint, functools.partial(torch.save, state))
            saved_at = time.monotonic()
    told = {"tokens_per_epoch": batches.tokens_per_epoch, "tokens_seen": recipe.num_steps * recipe.tokens_per_step}
    return model, told | {"cpu_s": round(cpu_s), "train_nll_nats": losses}


def replace_with(path: Path, write: Any) -> None:
    """Writes a temporary file and renames it, so that a crash leaves either the old or the new file intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    write(beside)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def save_model(folder: Path, model: GPT2LMHeadModel, tokenizer: Tokenizer) -> None:
    """Writes a model folder: fp16 weights, configuration without dropout, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    model.config.embd_pdrop = model.config.resid_pdrop = 0.0
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(folder)
    if folder.parent != BUILTIN:  # the shipped models share one
        tokenizer.save(str(folder / "tokenizer.json"))
    replace_with(folder / "model.safetensors", lambda path: save_file(state, path, metadata={"format": "pt"}))


def measure(folder: Path, held_out: dict[str, str]) -> dict[str, Any]:
    """The card's facts about the saved weights: loss on each held-out text, and the first samples drawn."""
    loaded = load_model(str(folder))
    engine, protocol, losses = PlainEngine(loaded.model), Protocol("disjoint", CONTEXT), {}
    for text_id, text in held_out.items():
        planned = plan(protocol, encode_text(loaded.tokenizer, text), rng(0, "evaluation", 0))
        loss = evaluate(engine, planned, loaded.tokenizer.end_of_text_id)
        losses[text_id] = {k: getattr(loss, k) for k in ("nll_nats", "perplexity", "bits_per_byte")}
    rule, noise = Sampling(temperature=0.8, top_k=None), [rng(1, "sample", i) for i in range(NUM_SAMPLES)]
    made = generate(
        engine,
        [[loaded.tokenizer.end_of_text_id]] * NUM_SAMPLES,
        rule,
        noise,
        vocab_size=loaded.vocab_size,
        max_new_tokens=SAMPLE_TOKENS,
        context=CONTEXT,
    )
    return {
        "parameters": loaded.num_parameters,
        "held_out": losses,
        "protocol": protocol.name,
        "samples": [loaded.tokenizer.decode(ids) for ids in made.token_ids],
        "sample_rule": "temperature 0.8 from the end-of-text token",
    }


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Writes card.json and prints its losses and samples."""
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    (folder / "card.json").write_text(text, encoding="utf-8")
    print(card["held_out"], *card["samples"], sep="\n\n")


def prepare(books: dict[str, str], held_out: dict[str, str]) -> None:
    """Writes the held-out texts and the tokenizer."""
    for text_id, text in held_out.items():
        (BUILTIN / "texts" / f"{text_id}.txt").write_text(text, encoding="utf-8")
    train_tokenizer(books, VOCAB_SIZE).save(str(BUILTIN / "tokenizer.json"))


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory: returning each large tensor to the system costs a third of the time."""
    trim_threshold, mmap_max = -1, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "train", "card"))
    parser.add_argument("name", nargs="?", choices=tuple(SHAPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--texts", default="debian")
    parser.add_argument("--out", type=Path, help="folder for NAME-seed-SEED; by default the shipped model is replaced")
    parser.add_argument("--work", type=Path, default=Path("runs/pretraining"), help="folder of the checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(1)
    books, held_out = split_unwrapped(read_novels(args.texts))
    if args.what == "prepare":
        prepare(books, held_out)
        return
    if args.name is None:
        parser.error(f"which model? one of {', '.join(SHAPES)}")
    shown = f"{args.name}-seed-{args.seed}"
    folder = BUILTIN / args.name if args.out is None else args.out / shown
    if args.what == "card":
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        write_card(folder, card | measure(folder, held_out))
        return
    keep_freed_memory()
    recipe, tokenizer = Recipe(), builtin_tokenizer().backend
    checkpoint = args.work / f"{shown}.pt"
    model, told = train(args.name, args.seed, recipe, books, tokenizer, checkpoint)
    save_model(folder, model, tokenizer)
    about = {
        "name": f"builtin:{args.name}" if args.out is None else shown,
        "architecture": f"GPT-2 (transformers GPT2LMHeadModel), tied embeddings, context {CONTEXT}",
        **told,
        **measure(folder, held_out),
        "recipe": {"seed": args.seed, "shape": SHAPES[args.name], **asdict(recipe)},
        "training_text": "Jane Austen's six novels and Moby-Dick (public domain), unwrapped, without the held-out ends",
        "command": f"python tools/pretrain.py {' '.join(sys.argv[1:])}",
        "torch": torch.__version__,
        "licence": "Apache-2.0 (weights); texts in the public domain",
    }
    write_card(folder, about)


if __name__ == "__main__":
    main()
