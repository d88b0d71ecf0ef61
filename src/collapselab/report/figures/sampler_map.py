"""The map of self-training: what becomes of a model, by temperature and truncation, and lines of equal pull."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.sampler import arms
from collapselab.analysis.survival import Frame
from collapselab.report.captions import sentence, span
from collapselab.report.contours import Point, contour
from collapselab.report.entries import Figure
from collapselab.report.samplers import CUTS, REGIMES, sampler_runs
from collapselab.report.selection import left_out
from collapselab.report.theme import WIDTH, layered, panel_title, panel_width, themed
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

ROW_PX, GAP = 36, 44
LEVELS = (-1.0, -0.3, 0.0, 0.3, 1.0, 2.0)  # nats per token
# Safe for colour-blind readers: blue, light grey, orange; in the freeze, the stronger the blue, the earlier.
EARLY, LATE, DRIFT, MELT = "#08306b", "#c6dbef", "#f0efea", "#f0a030"
INK, PAPER, LINE = "#111111", "#ffffff", "#222222"
NO_CUT = "none"


@dataclass(frozen=True)
class Panel:
    """One kind of truncation: the values on its two axes; an axis of one value is not drawn."""

    cut: str
    temperatures: Sequence[float]
    values: Sequence[str]


@dataclass(frozen=True)
class Map:
    """One row per cell (`panel`, `column`, `row`, and what is known of the arm), and how many arms have no place."""

    cells: Frame
    panels: Sequence[Panel]
    row: Frame
    left_out: str


def select(runs: Runs) -> Map | None:
    """The arms that differ in temperature and one kind of truncation only: those of the model and rate with most."""
    table: Frame = sampler_runs(runs)
    known: Frame = arms(runs)
    table = table[~table["sampling.greedy"].astype(bool)]
    if table.empty:
        return None
    most = table.groupby("others", sort=False)["arm"].nunique().idxmax()
    table = table[table["others"] == most]
    by_arm = table.groupby("arm")
    found = known[known["arm"].isin(table["arm"])].set_index("arm")
    found = found.assign(pull=by_arm["pull"].mean(), horizon=by_arm["duration"].max()).reset_index()
    parts = {cut: found[found[[other for other in CUTS if other != cut]].isna().all(axis=1)] for cut in CUTS}
    varied = [cut for cut in CUTS if parts[cut][cut].nunique(dropna=False) > 1]
    panels = [_panel(cut, parts[cut]) for cut in varied or [max(CUTS, key=lambda cut: len(parts[cut]))]]
    cells: Frame = pd.concat([_cells(parts[panel.cut.replace("-", "_")], panel) for panel in panels])
    if cells["arm"].nunique() < 2:
        return None
    return Map(cells, panels, table.iloc[0], left_out(len(known) - cells["arm"].nunique()))


def _panel(cut: str, part: Frame) -> Panel:
    """Truncation gets stronger from above to below: fewer tokens of top-k and top-p, a larger share of min-p.

    Temperatures of runs without truncation alone are left out.
    """
    values = sorted(part[cut].dropna().unique(), reverse=cut != "min_p")
    names = [NO_CUT] * bool(part[cut].isna().any()) + [short(value) for value in values]
    crossed = part.loc[part[cut].notna(), "temperature"] if values else part["temperature"]
    return Panel(cut.replace("_", "-"), sorted(crossed.unique()), names)


def _cells(part: Frame, panel: Panel) -> Frame:
    part = part[part["temperature"].isin(panel.temperatures)]
    value = part[panel.cut.replace("-", "_")].map(short, na_action="ignore").fillna(NO_CUT)
    is_reached = part["onset"].notna()
    label = part["onset"].map("{:.0f}".format).where(is_reached, "> " + part["horizon"].map("{:.0f}".format))
    columns = {
        "temperature": part["temperature"],
        "truncation": value,
        "regime": part["regime"],
        "onset": part["onset"].clip(lower=0.5),
    }
    columns |= {"label": label, "pull": part["pull"].round(4), "runs": part["num_runs"], "panel": panel.cut}
    columns |= {"column": part["temperature"].map(panel.temperatures.index), "row": value.map(panel.values.index)}
    return pd.DataFrame(columns | {"share": part["onset_share"].round(2), "arm": part["arm"]})


def draw(shown: Map) -> alt.VConcatChart:
    """A cell per arm with the median step of onset; the first kind of truncation large, the others small below it."""
    first, *others = shown.panels
    width = panel_width(2, GAP)
    rows: list[alt.LayerChart | alt.HConcatChart] = [
        _chart(shown, first, 2 * width + GAP if others else WIDTH, is_first=True)
    ]
    if others:
        rows.append(alt.hconcat(*(_chart(shown, panel, width, is_first=False) for panel in others), spacing=GAP))
    words = "What becomes of a model trained on its own text, by sampler"
    subtitle = [
        "in each cell the median step of onset; blue: freeze, the stronger the earlier; grey: drift; orange: melt"
    ]
    if shown.cells["pull"].notna().any():
        lines = (
            "lines: equal pull of the sampler: by how many nats per token its entropy is below the model's; thick: 0"
        )
        subtitle.append(lines)
    title = alt.TitleParams(words, subtitle=subtitle)
    return themed(alt.vconcat(*rows, spacing=24, title=title, data=shown.cells.drop(columns="arm")))


def _chart(shown: Map, panel: Panel, width: int, *, is_first: bool) -> alt.LayerChart:
    cells: Frame = shown.cells[shown.cells["panel"] == panel.cut]
    x = _axis("x", [short(value) for value in panel.temperatures], "temperature")
    y = _axis("y", panel.values, panel.cut)
    here = alt.Chart().transform_filter(f"datum.panel === {json.dumps(panel.cut)}")
    boxes = here.transform_calculate(
        left="datum.column - 0.5", right="datum.column + 0.5", top="datum.row - 0.5", bottom="datum.row + 0.5"
    )
    boxes = boxes.encode(x=x("left"), x2="right", y=y("top"), y2="bottom", tooltip=_tooltip(panel))
    fills, ink = _colors(shown.cells)
    layers = [
        boxes.transform_filter(f"datum.regime === '{regime}'")
        .mark_rect(stroke=PAPER, strokeWidth=1)
        .encode(fill=alt.value(fill) if isinstance(fill, str) else alt.Fill(**fill))
        for regime, fill in fills.items()
    ]
    layers += _contours(cells, panel, x, y)
    layers += _texts(here.encode(x=x("column"), y=y("row"), fill=ink), _named(cells) if is_first else {}, fills)
    title = alt.Undefined if is_first else panel_title(panel.cut)
    return layered(*layers, width=width, height=ROW_PX * len(panel.values), title=title)


def _colors(cells: Frame) -> tuple[dict[str, Any], Any]:
    """The colour of the cells of each regime, fixed or by onset, and that of the words on them."""
    onsets = cells.loc[cells["regime"] == "freeze", "onset"]
    low, high = (float(onsets.min()), float(onsets.max())) if len(onsets) else (1.0, 2.0)
    high = max(high, low + 1)
    shade = alt.Scale(type="log", domain=[low, high], range=[EARLY, LATE], interpolate="lab")
    onset = {"shorthand": "onset:Q", "scale": shade, "legend": None}
    is_dark = f"datum.regime === 'freeze' && datum.onset < {(low * high) ** 0.5}"
    ink = alt.condition(is_dark, alt.value(PAPER), alt.value(INK))
    return {"freeze": onset, "drift": DRIFT, "melt": MELT}, ink


def _texts(middle: alt.Chart, named: Mapping[str, tuple[int, int]], fills: Mapping[str, Any]) -> list[alt.Chart]:
    """The step of onset in each cell, and above it the regime in those that name one."""
    is_named = " || ".join(f"(datum.column === {c} && datum.row === {r})" for c, r in named.values()) or "false"
    size = 12 if named else 10
    texts: tuple[tuple[alt.Chart, dict[str, Any], str], ...] = (
        (middle.transform_filter(f"!({is_named})"), {"fontSize": size}, "label:N"),
        (middle.transform_filter(is_named), {"fontSize": size, "dy": 8}, "label:N"),
        (middle.transform_filter(is_named), {"fontSize": 13, "fontWeight": "bold", "dy": -7}, "regime:N"),
    )
    layers: list[alt.Chart] = []
    for chart, look, field in texts:
        # In the colour of its cell around each text: lines pass behind it.
        layers += [
            chart.transform_filter(f"datum.regime === '{regime}'")
            .mark_text(strokeWidth=4, strokeJoin="round", **look)
            .encode(text=field, stroke=alt.value(fill) if isinstance(fill, str) else alt.Stroke(**fill))
            for regime, fill in fills.items()
        ]
        layers.append(chart.mark_text(**look).encode(text=field))
    return layers


def _axis(channel: str, names: Sequence[str], title: str) -> Callable[[str], Any]:
    """The channel of a field that counts cells, labelled with these names; one name needs no axis."""
    labels = f"{json.dumps(list(names))}[datum.value]"
    axis = alt.Axis(
        values=list(range(len(names))), labelExpr=labels, title=title, grid=False, ticks=False, domain=False
    )
    scale = alt.Scale(domain=[-0.5, len(names) - 0.5], nice=False, zero=False, reverse=channel == "y")
    kind = alt.X if channel == "x" else alt.Y
    return lambda field: kind(f"{field}:Q", scale=scale, axis=axis if len(names) > 1 else None)


def _tooltip(panel: Panel) -> list[alt.Tooltip]:
    named = {"temperature": "temperature", "truncation": panel.cut, "regime": "regime", "label": "step of onset"}
    numbers = {"share": "share with onset", "pull": "pull (nats per token)", "runs": "runs"}
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in (named | numbers).items()]


def _named(cells: Frame) -> dict[str, tuple[int, int]]:
    """The cell nearest to the middle of each regime, which has the regime's name."""
    found: dict[str, tuple[int, int]] = {}
    for regime, part in cells.groupby("regime", sort=False):
        places = part[["column", "row"]].astype(float)
        nearest = ((places - places.mean()) ** 2).sum(axis=1).to_numpy().argmin()
        found[str(regime)] = (int(part["column"].iloc[nearest]), int(part["row"].iloc[nearest]))
    return found


def _contours(cells: Frame, panel: Panel, x: Callable[[str], Any], y: Callable[[str], Any]) -> list[alt.Chart]:
    """The lines of equal pull, light below dark, and at one end of each its level."""
    grid = np.full((len(panel.values), len(panel.temperatures)), np.nan)
    grid[cells["row"], cells["column"]] = cells["pull"]
    pieces = {level: contour(grid, level) for level in LEVELS}
    rows = [
        {"level": level, **{name: [piece[end][k] for piece in found] for name, end, k in _ENDS}}
        for level, found in pieces.items()
        if found
    ]
    if not rows:
        return []
    lines = alt.Chart(pd.DataFrame(rows)).transform_flatten([name for name, _, _ in _ENDS])
    lines = lines.encode(x=x("x_1"), y=y("y_1"), x2="x_2", y2="y_2")
    ends = pd.DataFrame(
        [
            {"words": f"{level:+g}".replace("-", "−") if level else "0", **_end(found, grid.shape[1])}
            for level, found in pieces.items()
            if found
        ]
    )
    words = alt.Chart(ends)
    words = words.encode(x=x("x"), y=y("y"), text="words:N")
    looks: dict[str, dict[str, Any]] = {
        "above": {"dy": -7},
        "right": {"dx": 4, "align": "left"},
        "inside": {"dx": 4, "dy": -8, "align": "left"},
    }
    inks: list[dict[str, Any]] = [{"stroke": PAPER, "strokeWidth": 3, "strokeOpacity": 0.8}, {"fill": LINE}]
    labels = [
        words.transform_filter(f"datum.side === '{side}'").mark_text(fontSize=10, **look, **ink)
        for side, look in looks.items()
        for ink in inks
        if (ends["side"] == side).any()
    ]
    return [
        lines.mark_rule(stroke=PAPER, strokeWidth=3.2, opacity=0.7),
        lines.mark_rule(stroke=LINE).encode(
            strokeWidth=alt.condition("datum.level === 0", alt.value(2.2), alt.value(1))
        ),
        *labels,
    ]


_ENDS = (("x_1", 0, 0), ("y_1", 0, 1), ("x_2", 1, 0), ("y_2", 1, 1))


def _end(pieces: Sequence[tuple[Point, Point]], num_columns: int) -> dict[str, Any]:
    """Where a line's label is: where the line leaves the panel above, or else to the right; inside at its left end."""
    points = [point for piece in pieces for point in piece]
    top, right, left = min(points, key=lambda point: (point[1], -point[0])), max(points), min(points)
    if top[1] <= -0.5:
        (x, y), side = top, "above"
    else:
        (x, y), side = (right, "right") if right[0] >= num_columns - 0.5 else (left, "inside")
    return {"x": x, "y": y, "side": side}


def _seeds(cells: Frame) -> str:
    words = span(cells["runs"], 0)
    return f"{words} seed{'' if words == '1' else 's'}"


def caption(shown: Map) -> str:
    cells = shown.cells.drop_duplicates("arm")
    axes = [f"temperature by {panel.cut} ({', '.join(panel.values)})" for panel in shown.panels]
    temperatures = ", ".join(short(value) for value in sorted(cells["temperature"].unique()))
    parts: list[str] = []
    for regime in REGIMES:
        part = cells[cells["regime"] == regime]
        onsets = part["onset"].dropna()
        steps = f" (median onset {span(onsets, 0)})" if len(onsets) else ""
        parts += [f"{regime} in {counted(len(part), 'arm')}{steps}"] if len(part) else []
    pulls = ""
    if cells["pull"].notna().any():
        pulls = (
            " Lines join samplers of equal pull: the entropy of the model less that of what is drawn from, over the "
            f"first ten steps; it goes from {span(cells['pull'])} nats per token."
        )
    return (
        f"Regime and median step of onset of {counted(len(cells), 'arm')} of {shown.row['model_label']} at "
        f"learning rate {short(shown.row['lr'])}, {_seeds(cells)} each: {'; '.join(axes)}, temperature "
        f"{temperatures}. {sentence(', '.join(parts))}. > n: fewer than half of the runs had an onset within n steps."
        f"{pulls}{shown.left_out}"
    )


FIGURE = Figure(
    "The map of self-training: what becomes of a model, by temperature and truncation",
    select,
    draw,
    caption,
    "no two arms of one model at one learning rate differ only in temperature and one kind of truncation.",
    "sampler",
)
