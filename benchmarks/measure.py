"""Fair timing: alternating runs, paired ratios, all raw values; peak memory in a separate process. Without torch."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """One run of a task: its time and its result."""

    seconds: float
    value: T


@dataclass(frozen=True)
class Spread:
    """Repeated measurements, in order, with their statistics.

    `coverage`: the confidence that [minimum, maximum] contains the true median, for independent measurements:
    1 - 2^(1-n) (93.75 % for n = 5; 0 for one measurement).
    """

    median: float
    least: float
    greatest: float
    lower_quartile: float
    upper_quartile: float
    coverage: float
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """Median, extremes and quartiles (linear interpolation) of measurements."""
    assert values, "nothing was measured"
    lower, median, upper = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    coverage = 1.0 - 2.0 ** (1 - len(values))
    return Spread(median, min(values), max(values), lower, upper, coverage, tuple(values))


def ratios(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """The speed ratios of `fast`, pair by pair; both ran once per round."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def alternate(
    tasks: Mapping[str, Callable[[], T]],
    n: int,
    *,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, list[Timed[T]]]:
    """Runs of each task, by name: n rounds in which each task runs once, after uncounted `warmups`.

    Every other round runs in reverse order, so that a drift of the machine's speed favours no task. `on_round` receives
    the number of finished rounds, warm-ups included.
    """
    found: dict[str, list[Timed[T]]] = {name: [] for name in tasks}
    gc.collect()
    gc.freeze()  # exclude existing objects from collection, which would take half a second before each run
    try:
        for i in range(warmups + n):
            for name in list(tasks)[:: 1 if i % 2 == 0 else -1]:
                timed = _timed(tasks[name], clock)
                if i >= warmups:
                    found[name].append(timed)
            if on_round is not None:
                on_round(i + 1)
    finally:
        gc.unfreeze()
    return found


def _timed(task: Callable[[], T], clock: Callable[[], float]) -> Timed[T]:
    gc.collect()  # collect garbage outside the timed region
    begun = clock()
    value = task()
    return Timed(clock() - begun, value)


def peak_rss_bytes(function: Callable[..., object], *arguments: object) -> int:
    """Peak memory of a new process that called a function of a module."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        return child.submit(_peak_after, function, arguments).result()


def _peak_after(function: Callable[..., object], arguments: Sequence[object]) -> int:
    function(*arguments)
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts the parent's memory at the fork into the child's ru_maxrss; VmHWM is of this program alone.
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
