"""Phrases that captions share: which runs, their onsets, and the range of their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from collapselab.analysis.survival import Frame, median_onset
from collapselab.collapse.words import EVENTS, MARKED_EVENTS
from collapselab.report.describe import rate_and_seed
from collapselab.report.values import counted, known


def runs_in_words(table: Frame) -> str:
    """The number of runs, their models and their number of seeds."""
    models = ", ".join(dict.fromkeys(table["model_label"]))
    return f"{counted(len(table), 'run')} of {models} with {counted(table['seed'].nunique(), 'seed')}"


def run_in_words(row: Mapping[str, Any]) -> str:
    return f"One run ({row['run']}): {', '.join([row['model'], *rate_and_seed(row)])}"


def events_in_words(row: Mapping[str, Any]) -> str:
    found = [f"{EVENTS[name].label} at step {int(row[name])}" for name in MARKED_EVENTS if known(row, name)]
    return sentence(f"{', '.join(found)}.") if found else "No onset of collapse."


def onsets_in_words(table: Frame) -> str:
    onsets = int(table["is_event"].sum())
    censored = f", {len(table) - onsets} had none (censored)" if onsets < len(table) else ""
    return f"{onsets} of {counted(len(table), 'run')} had an onset{censored}."


def medians_in_words(table: Frame, legend: str, separator: str) -> str:
    """The median onset of each curve; if a curve has several models, of each model."""
    by_model = table["model_label"].nunique() > 1 and legend != "model"
    parts: list[str] = []
    for curve, runs in table.groupby("curve", sort=False):
        groups = runs.groupby("model_label", sort=False) if by_model else [("", runs)]
        steps = [f"{model} {_median(part)}".strip() for model, part in groups]
        parts.append(f"{curve if legend == 'model' else f'{legend} {curve}'}: {', '.join(steps)}")
    return separator.join(parts)


def tendency(curves: Iterable[Iterable[Frame]]) -> str | None:
    """Whether onset comes "earlier" or "later" along the groups of runs of each curve; `None`: neither.

    By the medians of neighbouring groups, of which two thirds have to go the same way.
    """
    steps: list[float] = []
    for groups in curves:
        medians = [_median_step(runs) for runs in groups]
        steps += [after - before for before, after in pairwise(medians) if before is not None and after is not None]
    for word, sign in (("earlier", -1), ("later", 1)):
        if steps and sum(sign * step > 0 for step in steps) > len(steps) * 2 / 3:
            return word
    return None


def _median_step(runs: Frame) -> float | None:
    return median_onset(runs["duration"].to_numpy(), runs["is_event"].to_numpy()).estimate


def _median(runs: Frame) -> str:
    median = _median_step(runs)
    return "not reached" if median is None else f"{median:.0f}"


def span(values: Sequence[float] | Any, digits: int = 2) -> str:
    """From the smallest to the largest."""
    finite = [float(value) for value in values if not math.isnan(value)]
    low, high = (f"{end:.{digits}f}" for end in (min(finite), max(finite)))
    return low if low == high else f"{low} to {high}"


def sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
