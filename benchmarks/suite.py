"""One series of measurements: every variant and the probe alternate in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks import authors, ours, plain
from benchmarks.costs import Ceilings, Size, size_of
from benchmarks.measure import Timed, alternate, peak_rss_bytes
from benchmarks.models import SHAPES, locate, skeleton
from benchmarks.probe import machine, make_probe
from benchmarks.results import (
    VARIANTS,
    BenchResult,
    median_ceilings,
    median_floors,
    variant_results,
)
from benchmarks.workload import Arm, Task, Workload
from collapselab.errors import InputError, nearest
from collapselab.inputs.models import load_model
from collapselab.rundir.machine import available_bytes

MEMORY_TURNS = 2  # two turns, so that writing and evaluation also run with the optimiser's state in memory
SEED = 0
Note = Callable[[str], None]


def bench(
    task: Task,
    workload: Workload,
    *,
    n: int,
    variants: Sequence[str],
    with_memory: bool,
    note: Note,
    probe: Callable[[], Ceilings] | None = None,
) -> BenchResult:
    """The result of one series of a task.

    Args:
        task: iteration (a whole turn), decode, evaluate or update.
        workload: the work; its model is a name of `models.SHAPES`, or what `load_model` reads.
        n: counted rounds, after one warm-up.
        variants: some of authors, transformers, exact, fast.
        with_memory: also measure peak memory, each variant in a separate process.
        note: called with progress messages.
        probe: measures the ceilings in every round; `None`: the probe of this machine.

    Raises:
        InputError: an unknown variant or model, or more memory than there is.
    """
    chosen, model = check_variants(variants), workload.model
    with tempfile.TemporaryDirectory(prefix="collapselab-bench-") as folder:
        note(f"preparing {model} …")
        size = model_size(model)
        check_memory(size, task, len(chosen))
        located = replace(workload, model=locate(model, Path(folder), SEED))
        peaks = _peaks(chosen, task, located, note) if with_memory else {}
        note(f"loading {', '.join(chosen)} …")
        calls = {name: timed_call(name, task, located) for name in chosen}
        runs, ceilings = _series(calls, probe or make_probe(), n, note)
    return BenchResult(
        task=task,
        model=model,
        n=n,
        date=now(),
        workload=workload,
        size=size,
        machine=machine(),
        ceilings=median_ceilings(ceilings),
        probes=ceilings,
        floor_s=median_floors(task, size, workload, ceilings),
        variants=variant_results(task, workload, size, runs, ceilings, peaks),
    )


def now() -> str:
    """Date and time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_variants(names: Sequence[str]) -> list[str]:
    """The variants in their fixed order; ratios compare later ones with earlier ones.

    Raises:
        InputError: an unknown name, or none.
    """
    for name in names:
        if name not in VARIANTS:
            raise InputError(f"unknown variant {name!r}", nearest(name, VARIANTS))
    if not names:
        raise InputError("no variant is named", f"known: {', '.join(VARIANTS)}")
    return [name for name in VARIANTS if name in names]


def model_size(name: str) -> Size:
    """The size of a model, given a shape's name or a name that `load_model` knows.

    Raises:
        InputError: neither.
    """
    if name not in SHAPES and name.endswith("-shape"):
        raise InputError(f"unknown shape {name!r}", nearest(name, SHAPES))
    return size_of(skeleton(SHAPES[name]) if name in SHAPES else load_model(name).model)


def check_memory(size: Size, task: Task, num_arms: int) -> None:
    """Refuses more models at once than fit in memory, instead of being killed halfway.

    Raises:
        InputError: the message says what would fit.
    """
    each = size.training_bytes if task in ("iteration", "update") else size.training_bytes // 4
    available = available_bytes()
    if num_arms * each > available:
        raise InputError(
            f"{num_arms} variants of {size.parameters / 1e6:.0f} M parameters need {num_arms * each / 1e9:.1f} GB, "
            f"{available / 1e9:.1f} GB are free",
            "name fewer variants (--variants authors,fast), or a smaller model",
        )


def make_arm(name: str, workload: Workload) -> Arm:
    """A variant with its own model and optimiser."""
    makers: dict[str, Callable[[], Arm]] = {
        "authors": lambda: authors.arm(workload),
        "transformers": lambda: plain.arm(workload),
    }
    return makers.get(name, lambda: ours.arm(workload, name))()


def timed_call(name: str, task: Task, workload: Workload) -> Callable[[], dict[str, float]]:
    """The run of a variant in one round; it resets the number of threads to the variant's initial one."""
    former = torch.get_num_threads()
    if workload.threads is not None:
        torch.set_num_threads(workload.threads)
    arm = make_arm(name, workload)
    own_threads = torch.get_num_threads()
    torch.set_num_threads(former)

    def call() -> dict[str, float]:
        torch.set_num_threads(own_threads)
        return arm.call(task)

    return call


def _series(
    calls: dict[str, Callable[[], dict[str, float]]], probe: Callable[[], Ceilings], n: int, note: Note
) -> tuple[dict[str, list[Timed[dict[str, float]]]], list[Ceilings]]:
    """The runs by variant, and the ceilings of each round, measured with this process's initial number of threads."""
    threads = torch.get_num_threads()
    ceilings: list[Ceilings] = []

    def measure() -> dict[str, float]:
        torch.set_num_threads(threads)
        ceilings.append(probe())
        return {}

    def tell(done: int) -> None:
        note(f"round {done} of {n + 1} done" + (" (warm-up)" if done == 1 else ""))

    try:
        runs = alternate({"probe": measure, **calls}, n, on_round=tell)
    finally:
        torch.set_num_threads(threads)
    return {name: timed for name, timed in runs.items() if name != "probe"}, ceilings[-n:]


def _peaks(names: Sequence[str], task: Task, workload: Workload, note: Note) -> dict[str, int]:
    peaks: dict[str, int] = {}
    for name in names:
        note(f"peak memory of {name} …")
        peaks[name] = peak_rss_bytes(_turns, name, task, workload)
    return peaks


def _turns(name: str, task: Task, workload: Workload) -> None:
    call = timed_call(name, task, workload)
    for _ in range(MEMORY_TURNS):
        call()
