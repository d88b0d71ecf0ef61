"""What the tests of the benchmarks share: sizes and figures small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.costs import (
    Ceilings,
    Size,
)
from benchmarks.measure import Timed, spread
from benchmarks.models import Shape
from benchmarks.results import BenchResult, median_floors, variant_results
from benchmarks.workload import Workload

CEILINGS = Ceilings(1e9, 1e10, 4e10, {})

# One parameter read, ten in the layers, four for the logits, and so on: small enough to count by hand.
SIZE = Size(
    parameters=100,
    read_parameters=50,
    body_parameters=10,
    head_parameters=4,
    layers=2,
    attention_width=3,
    kv_width=1,
)
WORK = Workload("any", max_new_tokens=3, window_tokens=4, num_windows=5)

SMALL = {
    "gpt2": Shape(1, 16, 2, 300, context=64),
    "llama": Shape(1, 16, 2, 300, context=64, family="llama", mlp_width=24, kv_heads=1),
}


def silent(message: str) -> None:
    pass


def timed(*seconds: float, **phases: tuple[float, ...]) -> list[Timed[dict[str, float]]]:
    return [Timed(s, {name: values[i] for name, values in phases.items()}) for i, s in enumerate(seconds)]


def result_by_hand() -> BenchResult:
    phases = ("evaluate", "generate", "update")
    runs = {
        "authors": timed(40.0, 60.0, **dict.fromkeys(phases, (20.0, 30.0))),
        "transformers": timed(10.0, 30.0, **dict.fromkeys(phases, (2.0, 3.0))),
        "fast": timed(5.0, 6.0, **dict.fromkeys((*phases, "measure"), (1.0, 2.0))),
    }
    ceilings = [CEILINGS, replace(CEILINGS, read_bytes_per_s=2e9, bfloat16_flops_per_s=1e10)]
    return BenchResult(
        task="iteration",
        model="any",
        n=2,
        date="2026-01-31T00:00:00+00:00",
        workload=WORK,
        size=SIZE,
        machine={"cpu": "a cpu", "cores": 2, "threads": 1, "fingerprint": "abc"},
        ceilings={
            "read_bytes_per_s": spread([30e9]),
            "float32_flops_per_s": spread([0.25e12]),
            "bfloat16_flops_per_s": spread([2e12]),
        },
        probes=ceilings,
        floor_s=median_floors("iteration", SIZE, WORK, ceilings),
        variants=variant_results("iteration", WORK, SIZE, runs, ceilings, {"fast": 3_000_000_000}),
    )
