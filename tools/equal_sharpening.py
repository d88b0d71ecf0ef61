"""At which temperature models sharpen equally, and at which learning rates their updates are then equally large.

python tools/equal_sharpening.py MODEL … --nats 0.08 --rates 1.6e-4 3.2e-4

Each model writes 64 samples before any update, with the same noise at every temperature, until the mean of KL(q‖p) over
their tokens is `--nats`. Ten steps at that temperature and at the first rate then give its relative update. AdamW's
updates are proportional to the rate, so the rates of the further models are those of the first, scaled. The lines are
those of `EQUAL_SHARPENING` in src/collapselab/sweep/sampler.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from collapselab import load_runs, run
from collapselab.analysis.comparisons import update_sizes
from collapselab.config.schema import RunConfig, Sampling
from collapselab.inputs.models import load_model
from collapselab.randomness import rng
from collapselab.step.learner import Writer

NUM_SAMPLES, NUM_TOKENS, ROUNDS = 64, 200, 6


def sharpening(writer: Writer, temperature: float) -> tuple[float, float]:
    """The mean of KL(q‖p) over the tokens of samples of the untouched model, and its standard error."""
    rule = Sampling(temperature=temperature, top_k=None)
    noise = [rng(0, "sample", 0, i) for i in range(NUM_SAMPLES)]
    prompts = [writer.tokenizer.prompt("")] * NUM_SAMPLES
    written = writer.write(prompts, rule, noise, num_tokens=NUM_TOKENS, context=writer.context_length)
    means = np.array([np.mean([draw.sharpening_nats for draw in draws]) for draws in written.draws])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(NUM_SAMPLES))


def temperature_for(writer: Writer, nats: float) -> tuple[float, float, float]:
    """The temperature below 1 at which the sharpening is so large, with the value reached and its standard error.

    KL(q‖p) goes nearly as (1/T − 1)², so that is where each round extrapolates from.
    """
    excess = 0.25
    for _ in range(ROUNDS):
        found, error = sharpening(writer, round(1 / (1 + excess), 3))
        temperature, excess = round(1 / (1 + excess), 3), excess * float(np.sqrt(nats / found))
        if abs(found / nats - 1) < 0.01:
            break
    return temperature, found, error


def relative_update(model: str, temperature: float, rate: float) -> float:
    """The mean relative update of the first ten steps of seed 0."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(
            "demo", model=model, temperature=temperature, top_k=None, lr=rate, max_steps=10, full_every=0,
            keep_checkpoints=False, out=out,
        )  # fmt: skip
        runs = load_runs(out)
        return float(update_sizes(runs.runs, runs.steps).iloc[0])


def main(models: list[str], nats: float, rates: list[float]) -> None:
    """Prints a line for each model."""
    first = None
    for name in models:
        writer = Writer(load_model(name), RunConfig(model=name))
        temperature, found, error = temperature_for(writer, nats)
        size = relative_update(name, temperature, rates[0])
        first = size if first is None else first
        scaled = ", ".join(f"{rate * first / size:.3g}" for rate in rates)
        sys.stdout.write(f'"{name}": ({temperature}, ({scaled})),  # {found:.4f} ± {error:.4f} nats, {size:.3g}\n')
        sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--nats", type=float, required=True)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    arguments = parser.parse_args()
    main(arguments.models, arguments.nats, arguments.rates)
