"""The text barcode of a run: steps downward, token positions across, dark where the text repeats itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import percent
from collapselab.metrics.matches import match_lengths
from collapselab.report.captions import events_in_words, run_in_words
from collapselab.report.entries import Figure
from collapselab.report.run_figure import events_of
from collapselab.report.selection import OneRun, one_run
from collapselab.report.theme import RULE_COLOR, WIDTH, layered, legend, themed
from collapselab.rundir.frames import Runs

MAX_ROWS = 200
MIN_COPIED = 8  # tokens: minimum length of a passage copied from the previous sample
BOUNDS = (4, 8, 16, 32)  # lengths of repeated passages, in tokens, at which the next shade begins
REPEATED = ("4 to 7", "8 to 15", "16 to 31", "32 or more")
COPIED = "previous step"
JUDGED = "degenerate"
EDGE_COLOR, EDGE_PX = "#b3261e", (2, 7)
COLORS = ("#f6c667", "#74b49b", "#2f7fa8", "#14213d", "#e4d3e4")
NEW_COLOR = "#f7f7f7"
MIN_HEIGHT, MAX_HEIGHT, ROW_HEIGHT = 140, 420, 6
LINE_PX = 13  # between the labels of two events

Ids = Sequence[int]


def select(runs: Runs) -> OneRun | None:
    found = one_run(runs)
    return None if found is None or found.samples.empty else found


def draw(run: OneRun) -> alt.LayerChart:
    """Each row is the first judged sample of a step, for at most 200 evenly spaced steps.

    A token is coloured by the length of the longest passage it belongs to that occurs earlier in the same sample;
    otherwise by whether it belongs to a passage of at least 8 tokens that occurs in the sample of the previous step.
    """
    model = str(run.row.get("model", "a model")).removeprefix("builtin:")
    shares = [percent(repeated_share(run.samples["token_ids"].iloc[i])) for i in (0, -1)]
    title = f"What {model} writes: {shares[0]} repetition at the start, {shares[1]} at the end"
    height = min(MAX_HEIGHT, max(MIN_HEIGHT, ROW_HEIGHT * min(MAX_ROWS, len(run.samples))))
    return themed(panel(run, WIDTH, height).properties(title=title))


def panel(run: OneRun, width: int, height: int, *, is_alone: bool = True) -> alt.LayerChart:
    """The barcode alone; its events are rules, with labels beside the panel if it is alone."""
    steps = cast(list[int], run.samples["step"].astype(int).tolist())
    texts = cast(list[list[int]], run.samples["token_ids"].tolist())
    data: Frame = pd.DataFrame(_rows(steps, texts))
    data = data.assign(is_degenerate=data["step"].isin(_degenerate_steps(run.steps)))
    num_tokens = max(1, *(len(ids) for ids in texts), 1)
    end = int(data["end"].max())
    words = "position in the sample (tokens)" if is_alone else "position (tokens)"
    x = alt.X("start:Q", title=words, scale=alt.Scale(domain=[0, num_tokens], nice=False))
    y_scale = alt.Scale(domain=[steps[0], end], nice=False, reverse=True)
    y = alt.Y("step:Q", title="step", scale=y_scale, axis=alt.Axis(grid=False, format="d", tickCount=8))
    names = [*REPEATED, COPIED]
    shown = [*names, JUDGED] if data["is_degenerate"].any() else names
    key = legend("repeats (tokens):", shown)
    degenerate = data[data["is_degenerate"]]
    edge = alt.Chart(degenerate[["step", "end"]]).mark_rect(color=EDGE_COLOR, clip=False)
    edge = edge.encode(y=y, y2="end:Q", x=alt.value(width + EDGE_PX[0]), x2=alt.value(width + EDGE_PX[1]))
    rects = alt.Chart(data).transform_flatten(["start", "stop", "kind"])
    rects = rects.transform_calculate(words=f"{names}[datum.kind]").mark_rect(strokeWidth=0)
    color = alt.Color("words:N", scale=alt.Scale(domain=shown, range=[*COLORS, EDGE_COLOR][: len(shown)]), legend=key)
    tooltip = ["step:Q", alt.Tooltip("start:Q", title="from token"), alt.Tooltip("stop:Q", title="to"), "words:N"]
    bars = rects.encode(x=x, x2="stop:Q", y=y, y2="end:Q", color=color, tooltip=tooltip)
    ground = alt.Chart(data).mark_rect(color=NEW_COLOR).encode(y=y, y2="end:Q")
    rules, labels = _events(run.row, (steps[0], end), height, y)
    return layered(ground, bars, edge, *rules, *(labels if is_alone else []), width=width, height=height)


def caption(run: OneRun) -> str:
    first, last = run.samples.iloc[0], run.samples.iloc[-1]
    shares = [repeated_share(sample["token_ids"]) for sample in (first, last)]
    return (
        f"{run_in_words(run.row)}: each row is the sample of one step, from step {first['step']} (top) to "
        f"{last['step']}, each column a token position. Tokens are coloured where they repeat earlier text of the same "
        f"sample, by the length of the passage; lilac marks copies from the previous step, red at the edge steps that "
        f"were judged degenerate. "
        f"The share of tokens in repeated passages of at least 4 tokens goes from "
        f"{percent(shares[0])} in the first row to {percent(shares[1])} in the last. {events_in_words(run.row)}"
    )


def repeated_share(ids: Ids) -> float:
    """The share of tokens in repeated passages of at least 4 tokens."""
    return float(np.mean(repeat_lengths(ids) >= BOUNDS[0])) if ids else 0.0


def repeat_lengths(ids: Ids, before: Ids = ()) -> NDArray[np.int_]:
    """For each token, the length of the longest passage it belongs to that also occurs earlier, overlap allowed.

    Earlier means earlier in the same sequence or anywhere in the previous one. 0 for a token that is new.
    """
    # A separator token that occurs in neither stops matches at the border.
    border = [] if not before else [max(*ids, *before, 0) + 1]
    lengths = match_lengths([*before, *border, *ids])[len(before) + len(border) :]
    covered = np.zeros(len(ids), dtype=int)
    for start, length in enumerate(lengths):
        covered[start : start + length] = np.maximum(covered[start : start + length], length)
    return covered


def _degenerate_steps(steps: Frame) -> list[int]:
    if "degenerate" not in steps:
        return []
    return cast(list[int], steps.loc[steps["degenerate"].fillna(False).astype(bool), "step"].astype(int).tolist())


def _rows(steps: Sequence[int], texts: Sequence[Ids]) -> list[dict[str, Any]]:
    """One row per drawn step: where it ends, and its coloured stretches as lists."""
    count = min(len(steps), MAX_ROWS)
    drawn = sorted({round(i * (len(steps) - 1) / max(1, count - 1)) for i in range(count)})
    typical = int(np.median(np.diff([steps[i] for i in drawn]))) if len(drawn) > 1 else 1
    ends = [*(steps[i] for i in drawn[1:]), steps[drawn[-1]] + typical]
    rows: list[dict[str, Any]] = []
    for i, end in zip(drawn, ends, strict=True):
        kinds = _kinds(texts[i], texts[i - 1] if i else ())
        edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
        stretches = [(a, b, int(kinds[a])) for a, b in pairwise(edges) if b > a and kinds[a] >= 0]
        lists = {name: [stretch[k] for stretch in stretches] for k, name in enumerate(("start", "stop", "kind"))}
        rows.append({"step": steps[i], "end": end, **lists})
    return rows


def _kinds(ids: Ids, before: Ids) -> NDArray[np.int_]:
    """For each token the index of its legend entry, -1 where it is new."""
    kinds = np.searchsorted(BOUNDS, repeat_lengths(ids), side="right") - 1
    if before:
        kinds[(kinds < 0) & (repeat_lengths(ids, before) >= MIN_COPIED)] = len(REPEATED)
    return kinds


def _events(
    row: Mapping[str, Any], steps: tuple[int, int], height: int, y: alt.Y
) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """A rule at each event inside the range, and its label beside the panel, below the previous label."""
    first, end = steps
    rules: list[alt.Chart] = []
    labels: list[alt.Chart] = []
    lowest = -math.inf
    for step, words in (event for event in events_of(row) if first <= event[0] <= end):
        place = height * (step - first) / (end - first)
        lowest = max(place, lowest + LINE_PX)
        at = alt.Chart(alt.InlineData(values=[{"step": step}])).encode(y=y)
        rules.append(at.mark_rule(color=RULE_COLOR, strokeDash=[4, 2]))
        text = at.mark_text(text=f"{words}, step {step}", align="left", dx=12, dy=lowest - place, color=RULE_COLOR)
        labels.append(text.encode(x=alt.value("width")))
    return rules, labels


FIGURE = Figure(
    "The text barcode: how repetition takes over one run",
    select,
    draw,
    caption,
    "no run on its own text has samples.",
)
