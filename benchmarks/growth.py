"""How the cost of a step grows with parameters, new tokens and batch size, compared with the machine's ceilings."""

from __future__ import annotations

import csv
import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby, product
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks import ours
from benchmarks.costs import Ceilings, Size, floors, rates_for, typical
from benchmarks.measure import Timed, alternate, spread
from benchmarks.models import SHAPES, locate
from benchmarks.probe import machine, make_probe
from benchmarks.results import SCHEMA_VERSION, dtype_of
from benchmarks.suite import SEED, Note, model_size, now, timed_call
from benchmarks.workload import Workload
from collapselab.errors import InputError
from collapselab.records import dumps
from collapselab.rundir.machine import available_bytes

Panel = Literal["parameters", "new tokens", "batch size"]
PANELS: tuple[Panel, ...] = ("parameters", "new tokens", "batch size")
SIZES = tuple(name for name in SHAPES if name.startswith("gpt2-"))
# A sample of 1024 with its prompt would not fit GPT-2's context.
NEW_TOKENS = (100, 200, 400, 700, 1023)
BATCH_SIZES = (1, 2, 4, 8, 16)
CROP_CONTEXT = 100  # the authors'
OVERHEAD_BYTES = 1_500_000_000  # in addition to weights, gradients and moments: libraries, logits, activations

Turns = list[Timed[dict[str, float]]]


@dataclass(frozen=True)
class Case:
    """One point of a panel: a model and the work of a turn."""

    panel: Panel
    model: str
    workload: Workload


@dataclass(frozen=True)
class Point:
    """One row of growth.csv: seconds of a whole step and of its phases, medians of n runs, with their floors.

    Measured values are `None` for a model that does not fit in memory; its floor is a prediction.
    """

    panel: Panel
    numerics: str
    model: str
    parameters: int
    context_mode: str
    max_new_tokens: int
    batch_size: int
    floor_s: float
    floor_generate_s: float
    floor_evaluate_s: float
    floor_update_s: float
    n: int
    median_s: float | None
    least_s: float | None
    greatest_s: float | None
    generate_s: float | None
    evaluate_s: float | None
    update_s: float | None
    measure_s: float | None
    all_s: str | None

    @property
    def x(self) -> int:
        """The position of the point on its panel's axis."""
        return {
            "parameters": self.parameters,
            "new tokens": self.max_new_tokens,
            "batch size": self.batch_size,
        }[self.panel]


def cases(
    model: str,
    *,
    sizes: Sequence[str] = SIZES,
    new_tokens: Sequence[int] = NEW_TOKENS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int | None = None,
) -> list[Case]:
    """The points of the three panels, grouped by model; `model` is that of the last two panels."""
    crop = Workload(model, threads, context=CROP_CONTEXT, context_mode="crop")
    whole = Workload(model, threads)
    of_model = [
        *(Case("new tokens", model, replace(whole, max_new_tokens=n)) for n in new_tokens),
        *(Case("new tokens", model, replace(crop, max_new_tokens=n)) for n in new_tokens),
        *(Case("batch size", model, replace(whole, batch_size=n)) for n in batch_sizes),
    ]
    return [*(Case("parameters", name, Workload(name, threads)) for name in sizes), *of_model]


def grow(
    points: Sequence[Case],
    numerics: Sequence[str],
    *,
    n: int,
    note: Note,
    probe: Callable[[], Ceilings] | None = None,
) -> tuple[list[Point], Ceilings]:
    """Measures every case with every kind of numerics, one model in memory at a time; (points, median ceilings).

    Args:
        points: the cases to measure.
        numerics: some of exact, fast.
        n: counted turns, after one warm-up.
        note: called with progress messages.
        probe: measures the ceilings before each measurement; `None`: the probe of this machine.

    Raises:
        InputError: unknown numerics or an unknown model.
    """
    if unknown := set(numerics) - set(ours.NUMERICS):
        raise InputError(f"unknown numerics {sorted(unknown)[0]!r}", f"known: {', '.join(ours.NUMERICS)}")
    measure_ceilings = probe or make_probe()
    ceilings: list[Ceilings] = []
    found: list[tuple[Case, str, Size, Turns]] = []
    for name, group in groupby(points, key=lambda case: case.model):
        with tempfile.TemporaryDirectory(prefix="collapselab-growth-") as folder:
            size = model_size(name)
            located = locate(name, Path(folder), SEED) if _fits(size) else None
            if located is None:
                note(f"{name} needs more memory than is free; only its floor is written")
            for case, kind in product(group, numerics):
                ceilings.append(measure_ceilings())
                turns: Turns = []
                if located is not None:
                    note(f"{name}, {kind}, {case.panel}, {case.workload.max_new_tokens} × {case.workload.batch_size} …")
                    turns = _measure(kind, replace(case.workload, model=located), n)
                found.append((case, kind, size, turns))
    at_median = typical(ceilings)
    return [_point(case, kind, size, at_median, turns) for case, kind, size, turns in found], at_median


def save(points: Sequence[Point], ceilings: Ceilings, folder: Path) -> tuple[Path, ...]:
    """Writes growth.csv (one row per point; unmeasured values are empty) and growth.json (with machine and date)."""
    table, tree = folder / "growth.csv", folder / "growth.json"
    with table.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [field.name for field in fields(Point)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)
    about = {"schema_version": SCHEMA_VERSION, "date": now(), "machine": machine(), "ceilings": asdict(ceilings)}
    tree.write_text(dumps({**about, "points": [asdict(point) for point in points]}, indent=1), encoding="utf-8")
    return table, tree


def _fits(size: Size) -> bool:
    return size.training_bytes + OVERHEAD_BYTES <= available_bytes()


def _measure(numerics: str, workload: Workload, n: int) -> Turns:
    gc.collect()  # the previous model
    return alternate({"turn": timed_call(numerics, "iteration", workload)}, n)["turn"]


def _point(case: Case, numerics: str, size: Size, ceilings: Ceilings, turns: Turns) -> Point:
    floor = floors(size, case.workload, rates_for(dtype_of(numerics), ceilings))
    seconds = spread([turn.seconds for turn in turns]) if turns else None
    phases = {phase: median(turn.value[phase] for turn in turns) for phase in turns[0].value} if turns else {}
    return Point(
        panel=case.panel,
        numerics=numerics,
        model=case.model,
        parameters=size.parameters,
        context_mode=case.workload.context_mode,
        max_new_tokens=case.workload.max_new_tokens,
        batch_size=case.workload.batch_size,
        floor_s=sum(floor.values()),
        floor_generate_s=floor["generate"],
        floor_evaluate_s=floor["evaluate"],
        floor_update_s=floor["update"],
        n=len(turns),
        median_s=None if seconds is None else seconds.median,
        least_s=None if seconds is None else seconds.least,
        greatest_s=None if seconds is None else seconds.greatest,
        generate_s=phases.get("generate"),
        evaluate_s=phases.get("evaluate"),
        update_s=phases.get("update"),
        measure_s=phases.get("measure"),
        all_s=None if seconds is None else " ".join(f"{value:.6g}" for value in seconds.values),
    )
