"""The look of figures and their files: palette, fonts, Vega-Lite with its data, SVG, PNG and PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import altair as alt

from collapselab.report.drawing import Painter
from collapselab.report.interaction import interactive, without_invisible
from collapselab.report.writing import write_file
from collapselab.visible import visible

WIDTH = 560
RULE_COLOR = "#444444"
# Arial and the fonts of equal widths that other systems have in its place: words fit wherever a figure is opened.
FONT = "Liberation Sans, Arial, Helvetica, Arimo, sans-serif"
MAX_LEGEND_CHARS = 105  # per row above a figure, symbols included
PIXELS_OF_A_CHAR = 6

# Okabe & Ito's palette, safe for colour-blind readers, and three colours for more curves than it has; a dash pattern
# and a shape each, for print in grey.
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B3FA0", "#8C564B", "#888888")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 2, 2, 2), (10, 4), (4, 1), (1, 3))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
# For ordered values (learning rates, sizes): light to dark, even in grey, distinct for colour-blind readers.
ORDERED = ("#E0A800", "#3FA66B", "#2389A8", "#36509F", "#452A7A", "#150820")

Chart = TypeVar("Chart", alt.Chart, alt.LayerChart, alt.ConcatChart, alt.HConcatChart, alt.VConcatChart)


@dataclass(frozen=True)
class Styles:
    """Scales of colour, dash pattern and shape for named things."""

    color: alt.Scale
    dash: alt.Scale
    shape: alt.Scale


def styles(names: Sequence[str], *, ordered: bool) -> Styles:
    """Scales for these names; if `ordered`, colours go from light to dark, otherwise they are as distinct as possible.

    After the end of the palette, colours repeat with other dash patterns.
    """
    count, colors = range(len(names)), shades(len(names), ordered=ordered)
    dashes = [list(DASHES[(i + i // len(COLORS)) % len(DASHES)]) for i in count]
    shapes = [SHAPES[i % len(SHAPES)] for i in count]
    return Styles(*(alt.Scale(domain=list(names), range=used) for used in (colors, dashes, shapes)))


def shades(count: int, *, ordered: bool) -> list[str]:
    """The colours of so many things, as `styles` gives them to names."""
    return _ordered_colors(count) if ordered else [COLORS[i % len(COLORS)] for i in range(count)]


def _ordered_colors(count: int) -> list[str]:
    """Evenly spaced colours of `ORDERED`, the last one dark; a single one is blue, two are not the extremes."""
    anchors = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in ORDERED]
    start = {1: 3.0, 2: 1.5, 3: 1.0}.get(count, 0.0)
    end = {1: 3.0, 2: 4.0}.get(count, len(ORDERED) - 1.0)
    places = [start + (end - start) * i / max(1, count - 1) for i in range(count)]
    colors: list[str] = []
    for place in places:
        left = min(int(place), len(ORDERED) - 2)
        share = place - left
        mixed = (round(a + share * (b - a)) for a, b in zip(anchors[left], anchors[left + 1], strict=True))
        colors.append("#" + "".join(f"{part:02x}" for part in mixed))
    return colors


def layered(*charts: alt.Chart, **properties: Any) -> alt.LayerChart:
    """Charts over one another; Altair's own function may return a facet, which is not needed here."""
    return cast(alt.LayerChart, alt.layer(*charts, **properties))


def legend(
    title: str, names: Sequence[str], symbol: str | None = None, fill: str | None = None, width: int | None = None
) -> alt.Legend:
    """A legend in as many columns as fit; `symbol` and `fill` replace those of the marks.

    It is above the panels; below them if `fill` is given, since it then explains the shapes of marks. With a `width`
    in pixels it keeps to that, its title above it.
    """
    title_chars = len(title) if width is None else 0
    most = MAX_LEGEND_CHARS if width is None else width // PIXELS_OF_A_CHAR
    is_one_row = sum(len(name) + 5 for name in names) + title_chars <= most
    longest = max((len(name) for name in names), default=1)
    own: dict[str, Any] = {"symbolType": symbol, "symbolFillColor": fill, "symbolStrokeColor": fill}
    return alt.Legend(
        title=title,
        orient="top" if fill is None else "bottom",
        titleOrient="left" if width is None else "top",
        columns=max(1, len(names) if is_one_row else (most - title_chars) // (longest + 5)),
        symbolSize=300 if symbol == "stroke" else 80,
        symbolOpacity=1,
        symbolStrokeWidth=2 if symbol == "stroke" else 1,
        **{name: value for name, value in own.items() if value is not None},
    )


def curve_channels(
    title: str, curves: Sequence[str], *, ordered: bool = True, width: int | None = None
) -> tuple[alt.Color, alt.StrokeDash]:
    """Colour and dash pattern of the curves in the column `curve`, with one legend for both."""
    look, key = styles(curves, ordered=ordered), legend(title, curves, "stroke", width=width)
    return alt.Color("curve:N", scale=look.color, legend=key), alt.StrokeDash("curve:N", scale=look.dash, legend=key)


def panel_title(words: str) -> alt.TitleParams:
    """The title above a panel."""
    return alt.TitleParams(words, fontSize=12, anchor="start", offset=4)


def share_axis(**options: Any) -> alt.Axis:
    """An axis of shares: 20 %."""
    return alt.Axis(tickCount=5, labelExpr="format(100 * datum.value, '.0f') + ' %'", **options)


def log_ticks(low: float, high: float) -> list[int]:
    """The labels of a logarithmic axis: 1, 2, 5, 10, 20 … between two numbers, or closer ones if these are few."""
    for mantissas in ((1, 2, 5), range(1, 10)):
        ticks = [mantissa * 10**power for power in range(9) for mantissa in mantissas]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) >= 3:
            return found
    return list(range(math.ceil(low), math.floor(high) + 1, max(1, round((high - low) / 5))))


def panel_width(count: int, gap: int) -> int:
    """The width of each of several panels side by side; together they are a little wider than a single panel."""
    return WIDTH if count == 1 else (WIDTH + 140 - gap * (count - 1)) // count


def themed(chart: Chart, *, has_frame: bool = True) -> Chart:
    """The chart, with the fonts, grid and margins that all figures share. Changed in place."""
    # One assignment: each of Altair's configure methods copies the whole chart, a tenth of a second for a large one.
    chart.config = alt.Config(
        background="white",
        font=FONT,
        padding=12,
        title=alt.TitleConfig(
            anchor="start", frame="group", fontSize=15, subtitleFontSize=12, subtitleColor="#333333", offset=10
        ),
        axis=alt.AxisConfig(
            grid=True, gridColor="#eeeeee", labelFontSize=12, titleFontSize=12, titleFontWeight="normal"
        ),
        legend=alt.LegendConfig(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", padding=0, labelLimit=0),
        text=alt.MarkConfig(fontSize=11),
        view=alt.ViewConfig(stroke="#bbbbbb" if has_frame else None),
    )
    return chart


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """A figure as Vega-Lite with its data, for runs of any length, and with interactions (`interaction`)."""
    return interactive(_vega_lite(chart))


def save_figure(
    chart: alt.TopLevelMixin, folder: Path, stem: str, formats: Sequence[str] = ("svg", "png")
) -> tuple[Path, ...]:
    """Writes `stem.svg`, `stem.png` (twice the size, for sharp screens), `stem.pdf` into a folder; returns paths.

    Raises:
        DrawingError: the figure could not be drawn.
    """
    with Painter() as painter:
        return save_with(painter, chart, folder, stem, formats)


def save_with(
    painter: Painter, chart: alt.TopLevelMixin, folder: Path, stem: str, formats: Sequence[str]
) -> tuple[Path, ...]:
    """`save_figure` for one of several figures that share the drawing process."""
    files = painter.draw(without_invisible(_vega_lite(chart)), formats)
    paths = {ending: folder / f"{stem}.{ending}" for ending in files}
    for ending, path in paths.items():
        write_file(path, files[ending])
    return tuple(paths.values())


def _vega_lite(chart: alt.TopLevelMixin) -> dict[str, Any]:
    # Altair refuses frames of more than 5000 rows. Other forms of data do not help: it validates each row
    # (15 s for a run of 5000 steps).
    with alt.data_transformers.enable("default", max_rows=None):
        # Its parts were validated when they were made, and a test validates every figure as a whole.
        return _drawable(chart.to_dict(validate=False))


def _drawable(node: Any) -> Any:
    """A specification without characters that SVG cannot hold: they make the drawing library abort."""
    if isinstance(node, str):
        return visible(node)
    if isinstance(node, list):
        return [_drawable(part) for part in cast(list[Any], node)]
    if isinstance(node, dict):
        return {visible(name): _drawable(part) for name, part in cast(dict[str, Any], node).items()}
    return node
