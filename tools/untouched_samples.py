"""Samples of models as they are before any self-training: the healthy text of results/rules.

    python tools/untouched_samples.py OUT [--count 400] [--models builtin:nano smollm2-135m …]

Writes OUT/MODEL-tTEMPERATURE.jsonl: 200 tokens a line (top-k 500, after the begin token), their mean loss
and the entropy they were drawn from. Seeds are 0, 1, …: what is there already is kept, more can be added.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.inputs.models import load_model
from collapselab.randomness import rng
from collapselab.step.learner import Writer

MODELS = (
    "builtin:pico",
    "builtin:nano",
    "builtin:micro",
    "builtin:mini",
    "smollm2-135m",
)
TEMPERATURES = (0.8, 1.0)
BATCH = 8


def extend(path: Path, writer: Writer, config: RunConfig, count: int) -> None:
    """Adds samples to a file until it has `count`."""
    known = sum(1 for _ in path.open(encoding="utf-8")) if path.exists() else 0
    with path.open("a", encoding="utf-8") as file:
        for first in range(known, count, BATCH):
            noise = [rng(seed, "sample", 0) for seed in range(first, min(first + BATCH, count))]
            prompts = [writer.tokenizer.prompt("")] * len(noise)
            made = writer.write(
                prompts, config.sampling, noise, num_tokens=200, context=min(writer.context_length, 1024)
            )
            for ids, nll, entropy in zip(made.token_ids, made.nll_nats, made.entropy_nats, strict=True):
                line = {
                    "token_ids": ids,
                    "nll_nats": nll,
                    "entropy_nats": entropy,
                    "text": writer.tokenizer.decode(ids),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
    print(path.name, count, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--models", nargs="+", default=MODELS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.models:
        loaded = load_model(model, device="cpu")
        for temperature in TEMPERATURES:
            changes = {"model": model, "numerics": "fast", "threads": 1, "sampling.temperature": temperature}
            config = override(RunConfig(), changes)
            name = f"{model.removeprefix('builtin:').rpartition('/')[2]}{'-built-in' if ':' in model else ''}"
            extend(args.out / f"{name}-t{temperature}.jsonl", Writer(loaded, config), config, args.count)


if __name__ == "__main__":
    main()
