"""The data of the page's explorer, within a budget: the curves of a run, and values and samples of some of its steps.

A page of a hundred long runs cannot hold every sample. Curves keep evenly spaced steps; samples are kept at the first
and the last step, at the events of the run, and between them as many as fit.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.survival import Frame
from collapselab.collapse.numbers import ANY_TEXT, NUMBERS, PANELS, drawn_in
from collapselab.collapse.words import MARKED_EVENTS
from collapselab.report.curves import with_derived
from collapselab.report.packing import columns_for_json, json_list, packed
from collapselab.rundir.frames import Runs

PAGE_CHARS = 5_500_000  # of packed runs in a page; figures and the code that draws them take the rest of 10 MB
PAGE_CURVE_POINTS, MAX_CURVE_POINTS, MIN_CURVE_POINTS = 100_000, 1000, 100
MAX_SAMPLE_CHARS = 20_000  # of one sample: longer ones are not read, and one broken run would fill the page
SAMPLES_A_ROLE = 2  # shown of a step with many samples
_CHARS_TO_PACKED, _CHARS_A_ROW = 3, 200  # first guesses: JSON characters per packed character, and per row

Columns = dict[str, NDArray[Any]]
Sample = dict[str, Any]
Ids = Sequence[int]


@dataclass(frozen=True)
class ExplorerRun:
    """One run as the page holds it, and how much of it was kept."""

    packed: str
    last_step: int | None
    num_steps: int
    num_curve_points: int
    num_steps_shown: int
    num_sampled_steps: int


@dataclass(frozen=True)
class _Records:
    """A run's steps in order, its drawn and its recorded columns, and its samples by step, each with ids and ends."""

    steps: list[int]
    curves: Columns
    values: Columns
    samples: dict[int, list[tuple[Sample, Ids, Ids | None]]]
    events: list[int]


def explorer_runs(runs: Runs) -> Iterator[ExplorerRun]:
    """The runs of a page, in the order of `runs.runs`, each within its share of the page."""
    all_steps, all_samples = cast(Frame, runs.steps), cast(Frame, runs.samples)
    num_runs = len(runs.runs)
    curves, values = (columns_for_json(frame) for frame in (_curves(all_steps), _values(all_steps)))
    rows_of, samples_of = (frame.groupby("run", sort=False).indices for frame in (all_steps, all_samples))
    max_points = min(MAX_CURVE_POINTS, max(MIN_CURVE_POINTS, PAGE_CURVE_POINTS // num_runs))
    no_rows = np.arange(0)
    for row in cast(list[dict[str, Any]], runs.runs.to_dict("records")):
        at = rows_of.get(row["run"], no_rows)
        records = _Records(
            steps=cast(list[int], curves["step"][at].tolist()),
            curves=_known(curves, at),
            values=_known(values, at),
            samples=_samples_by_step(all_samples.iloc[samples_of.get(row["run"], no_rows)]),
            events=[int(row[name]) for name in MARKED_EVENTS if name in row and not pd.isna(row[name])],
        )
        yield _within(records, max_points, PAGE_CHARS // num_runs)


def kept_steps(steps: Sequence[int], events: Sequence[int], at_most: int) -> list[int]:
    """Some of the steps, in order: ends and events, then half of the rest evenly, half densest at the first event.

    At most as many as requested, except that ends and events are always kept. Steps are ascending; an event between
    two steps counts as the later one.
    """
    if len(steps) <= at_most:
        return list(steps)
    last = len(steps) - 1
    of_events = [min(bisect.bisect_left(steps, event), last) for event in sorted(events)]
    kept = {0, last, *of_events}
    num_even, num_near = (at_most - len(kept) + 1) // 2, (at_most - len(kept)) // 2
    kept |= {round(i * last / (num_even + 1)) for i in range(1, num_even + 1)}
    if num_near > 0:
        center = of_events[0] if of_events else 0
        by_distance = sorted(range(len(steps)), key=lambda i: (abs(i - center), i))
        kept |= {by_distance[round(last ** (i / num_near))] for i in range(1, num_near + 1)}
    return [steps[i] for i in sorted(kept)]


def _within(records: _Records, max_points: int, max_chars: int) -> ExplorerRun:
    """The run with as many of its samples as fit into this number of packed characters."""
    steps, samples = records.steps, records.samples
    sampled = [
        step for step in steps if step in samples
    ]  # others come from a run that was killed before it wrote their record
    # If there are probes, they are judged.
    probed = [step for step in sampled if any(sample["role"] == "probe" for sample, *_ in samples[step])]
    candidates = probed or sampled or steps
    points = set(kept_steps(steps, records.events, max_points))

    def pack(at_most: int) -> tuple[str, set[int]]:
        kept = set(kept_steps(candidates, records.events, at_most))
        return packed(_chosen(records, points | kept, kept)), kept

    chars = sum(len(sample["text"]) for step in candidates for sample, *_ in samples.get(step, []))
    at_most = max(1, _CHARS_TO_PACKED * max_chars // (_CHARS_A_ROW + chars // max(1, len(candidates))))
    text, kept = pack(at_most)
    if len(text) < 0.7 * max_chars and len(kept) < len(candidates):
        at_most = at_most * max_chars // len(text)
        text, kept = pack(at_most)
    while len(text) > max_chars and at_most > 1:
        at_most = max(1, int(min(at_most, len(kept)) * 0.9 * max_chars / len(text)))
        text, kept = pack(at_most)
    last_step = steps[-1] if steps else None
    return ExplorerRun(text, last_step, len(steps), len(points | kept), len(kept), len(sampled))


def _chosen(records: _Records, drawn: set[int], kept: set[int]) -> dict[str, Any]:
    points, stops = ([i for i, step in enumerate(records.steps) if step in some] for some in (drawn, kept))
    values = [json_list(column[stops]) for column in records.values.values()]
    samples = {step: [with_tokens(*sample) for sample in records.samples.get(step, [])] for step in kept}
    return {
        "curves": {name: json_list(column[points]) for name, column in records.curves.items()},
        "names": list(records.values),
        "stops": [
            {
                "step": records.steps[i],
                "values": [column[place] for column in values],
                "samples": samples[records.steps[i]],
            }
            for place, i in enumerate(stops)
        ],
    }


def with_tokens(sample: Sample, ids: Ids, ends: Ids | None) -> Sample:
    """The sample with the lengths of its tokens in JavaScript's units of text, if their ends were recorded.

    With the ids too, if its tokens could not be told apart by their texts: parts of characters have none.
    """
    if ends is None:
        return sample
    text: str = sample["text"]
    borders = [0, *(min(end, len(text)) for end in ends)] if "cut" in sample else [0, *ends]
    pieces = [text[start:end] for start, end in pairwise(borders)]
    is_plain = text.isascii()
    lengths = [len(piece) if is_plain else len(piece.encode("utf-16-le", "surrogatepass")) // 2 for piece in pieces]
    is_told_apart = len(set(zip(ids, pieces, strict=True))) == len(set(ids)) == len(set(pieces))
    return sample | {"tokens": lengths} | ({} if is_told_apart else {"ids": list(ids)})


def _samples_by_step(samples: Frame) -> dict[int, list[tuple[Sample, Ids, Ids | None]]]:
    """The first samples of each role, by step; a very long one is cut, with the number of characters that were cut."""
    found: dict[int, list[tuple[Sample, Ids, Ids | None]]] = {}
    ends: list[Any] = samples["token_ends"].tolist() if "token_ends" in samples else [None] * len(samples)
    columns = (samples[name].tolist() for name in ("step", "role", "text", "token_ids"))
    for (step, role), group in groupby(zip(*columns, ends, strict=True), key=lambda row: (row[0], row[1])):
        rows = list(group)
        for *_, text, ids, its_ends in rows[:SAMPLES_A_ROLE]:
            sample: Sample = {"role": role, "text": text[:MAX_SAMPLE_CHARS]}
            sample |= {"cut": len(text) - MAX_SAMPLE_CHARS} if len(text) > MAX_SAMPLE_CHARS else {}
            sample |= {"of": len(rows)} if len(rows) > 1 else {}
            found.setdefault(int(step), []).append(
                (sample, ids, cast(Ids, its_ends) if isinstance(its_ends, list) else None)  # NaN in an older record
            )
    return found


def _curves(steps: Frame) -> Frame:
    """The columns that are drawn."""
    steps = with_derived(steps)
    names = cast(list[str], steps.columns.tolist())
    return steps[["step", *(name for panel in PANELS for name in drawn_in(panel, names))]]


def _values(steps: Frame) -> Frame:
    """The recorded values shown beside a sample: no times, and each loss once."""
    names = cast(list[str], steps.columns.tolist())
    others = ("run", "step", *(name for name in NUMBERS if f"{name}[{ANY_TEXT}]" in NUMBERS))
    return steps[[name for name in names if name not in others and not name.startswith("seconds_")]]


def _known(columns: Columns, rows: NDArray[np.intp]) -> Columns:
    """The rows of one run, without its empty columns."""
    parts = {name: column[rows] for name, column in columns.items()}
    return {name: part for name, part in parts.items() if not bool(pd.isna(part).all())}
