"""Whether R models of one shape, written with in turn token by token, cost less than one after the other.

python -m benchmarks.replicas [--models builtin:pico,builtin:nano] [--replicas 4]

One pass over R weight sets reads R weight sets: bandwidth is not saved. What stacking could save is the part of a token
that is not kernels (Python, calls, the draw), which this prints, in processor time (robust on a busy machine).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from collapselab.config.schema import RunConfig
from collapselab.engine.choose import make_engines
from collapselab.engine.interface import Engine
from collapselab.inputs.models import load_model

NUM_TOKENS, NUM_ROUNDS = 100, 7


def microseconds(work: Callable[[], None], tokens: int) -> float:
    """The processor time per token, the median of several rounds after one to warm up."""
    found: list[float] = []
    for _ in range(NUM_ROUNDS + 1):
        begun = time.process_time()
        work()
        found.append((time.process_time() - begun) / tokens * 1e6)
    return statistics.median(found[1:])


def measure(name: str, num_replicas: int) -> dict[str, float]:
    """Microseconds per token: one after the other, in turn, and the kernels' part alone (without the draw)."""
    models = [load_model(name) for _ in range(num_replicas)]
    engines = [make_engines(m.model, "native", write="float32", score="float32")[0] for m in models]
    rule, noise = RunConfig().sampling, torch.ones(1, models[0].vocab_size)

    def token(engine: Engine, position: int, last: int, *, draws: bool) -> int:
        logits = engine.read([[last]], [position], last_only=True)
        return engine.draw(logits, noise, rule)[0].token if draws else last

    def one_after_the_other(*, draws: bool = True) -> None:
        for engine in engines:
            engine.begin(1, NUM_TOKENS)
            last = 0
            for position in range(NUM_TOKENS):
                last = token(engine, position, last, draws=draws)

    def in_turn() -> None:
        for engine in engines:
            engine.begin(1, NUM_TOKENS)
        last = [0] * num_replicas
        for position in range(NUM_TOKENS):
            last = [token(engine, position, last[i], draws=True) for i, engine in enumerate(engines)]

    total = num_replicas * NUM_TOKENS
    return {
        "one after the other": microseconds(one_after_the_other, total),
        "in turn": microseconds(in_turn, total),
        "without the draw": microseconds(lambda: one_after_the_other(draws=False), total),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", default="builtin:pico,builtin:nano")
    parser.add_argument("--replicas", type=int, default=4)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.models.split(","):
        values = ", ".join(f"{what} {value:.0f}" for what, value in measure(name, chosen.replicas).items())
        sys.stdout.write(f"{name}, {chosen.replicas} replicas, µs of processor time per token: {values}\n")


if __name__ == "__main__":
    main()
