"""Losses against step over many runs (Figures 2 and 4): one curve per learning rate, one panel per model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import ENDED_BY
from collapselab.config.base import split_at_commas
from collapselab.report.captions import runs_in_words, span
from collapselab.report.curves import (
    CURVE_COLUMNS,
    MIN_FOR_INTERVAL,
    Series,
    columns,
    mean_curve,
    run_series,
    single_curves,
)
from collapselab.report.direct_labels import View, free_labels
from collapselab.report.entries import Figure
from collapselab.report.groups import UNFINISHED, run_table
from collapselab.report.selection import (
    at_shared_rates,
    drawn_once,
    left_out_by_name,
    main_runs,
    models_by_number,
    rates,
)
from collapselab.report.theme import curve_channels, layered, legend, panel_title, panel_width, shades, themed
from collapselab.report.values import short
from collapselab.rundir.frames import Runs

MAX_MODELS = 4  # side by side; of more, those with the most runs are shown
LINE_CHARS, TITLE_CHARS = 110, 80  # in a line
HEIGHTS = (200, 130)
GAP = 30
# The lists in the data of each kind of curve.
FIELDS: dict[str, list[str | alt.FieldName]] = {
    "mean": list(CURVE_COLUMNS),
    "run": ["step", "value"],
    "end": ["step", "value"],
}
ENDING_SHAPES = {
    ENDED_BY["collapse"].label: "circle",
    ENDED_BY["budget"].label: "square",
    ENDED_BY["divergence"].label: "cross",
    UNFINISHED: "triangle-up",
}


@dataclass(frozen=True)
class Losses:
    """Rows of `groups.run_table` with the columns `panel`, `curve` and `text` (the human text), and their losses.

    `series` has the validation and the training losses of each run; `left_out` names what is not shown, if anything.
    """

    table: Frame
    legend: str
    panels: Sequence[str]
    curves: Sequence[str]
    series: tuple[Mapping[str, Series], Mapping[str, Series]]
    left_out: str

    @property
    def is_ordered(self) -> bool:
        return self.legend == "learning rate"


def losses_of(runs: Runs, table: Frame, legend: str, curves: Sequence[str], left_out: str) -> Losses:
    """A selection: the runs of a table, with their losses."""
    every: Frame = runs.steps
    steps = every[every["run"].isin(table["run"])]
    validation: dict[str, Series] = {}
    for text, rows in table.groupby("text", sort=False):
        validation |= run_series(steps[steps["run"].isin(rows["run"])], f"val_nll_nats[{text}]")
    series = validation, run_series(steps, "train_nll_nats")
    return Losses(table, legend, list(table["panel"].unique()), curves, series, left_out)


def with_text(table: Frame, runs: Runs, position: int) -> Frame:
    """The runs, each trajectory once, with a validation loss on the text at a position of their `data`; as `text`."""
    texts = table["data"].astype(str).map(split_at_commas).str.get(position)
    table = table.assign(text=texts)[texts.notna()]
    steps: Frame = runs.steps
    known = set[str]()
    for text in table["text"].unique():
        column = f"val_nll_nats[{text}]"
        if column in steps:
            known |= set(steps.loc[steps[column].notna(), "run"])
    return drawn_once(table[table["run"].isin(known)])


def select(runs: Runs, position: int) -> Losses | None:
    """Own-text runs by model and learning rate, on their first (0) or second (1) text.

    If models share at least two learning rates, rates of a single model are left out.
    """
    every = with_text(main_runs(run_table(runs)), runs, position)
    if every.empty:
        return None
    models = models_by_number(every)
    of_models = every[every["model_label"].isin(models[:MAX_MODELS])]
    table = at_shared_rates(of_models)
    has_one_text = table["text"].nunique() == 1
    panel = table["model_label"] if has_one_text else table["model_label"] + ", " + table["text"]
    table = table.assign(panel=panel, curve=table["lr"].map(short))
    return losses_of(
        runs, table, "learning rate", rates(table), left_out_by_name(models[MAX_MODELS:], of_models, table)
    )


def message(losses: Losses) -> str:
    """What the losses do, and on which text."""
    texts = " and ".join(losses.table["text"].unique())
    validation, training = (_direction(series) for series in losses.series)
    return f"On {texts}, validation loss {validation}; training loss on own text {training}"


def _direction(series: Mapping[str, Series]) -> str:
    """Whether a loss ends above where it began, or below, in at least nine of ten runs."""
    changes = [values[-1] - values[0] for _, values in series.values()]
    for verb, sign in (("rises", 1), ("falls", -1)):
        if sum(sign * change > 0 for change in changes) >= 0.9 * max(1, len(changes)):
            return verb
    return "rises or falls"


def draw(losses: Losses, title: Callable[[Losses], str] = message) -> alt.VConcatChart:
    """Validation loss above training loss, against step: single runs, thin, and their mean until the first one ends.

    From five runs on, a mean has a 95 % t-interval. A mark at the end of each run shows why it ended.
    """
    texts = losses.table["text"].unique()
    titles = (f"validation loss, {texts[0]}" if len(texts) == 1 else "validation loss", "training loss")
    rows = [
        alt.hconcat(
            *(_panel(losses, metric, panel, name) for panel in range(len(losses.panels))), spacing=GAP, bounds="flush"
        )
        for metric, name in enumerate(titles)
    ]
    # One frame for all layers: Altair would copy separate frames dozens of times.
    data = _data(losses)
    lows = cast(list[Any], data["low"].tolist()) if "low" in data else list[Any]()
    has_band = any(value is not None for low in lists_in(lows) for value in low)
    band = "; bands: 95 % t-intervals" if has_band else ""
    lines = [f"thick: mean until the first run ends; thin: single runs{band}"]
    lines += textwrap.wrap(f"not shown: {losses.left_out}", LINE_CHARS) if losses.left_out else []
    words = alt.TitleParams(textwrap.wrap(title(losses), TITLE_CHARS), subtitle=lines)
    stack = alt.vconcat(*(row.resolve_scale(y="shared") for row in rows), spacing=14, title=words, data=data)
    return themed(stack)


def lists_in(column: Sequence[object]) -> list[list[Any]]:
    """The lists in a column of a frame; rows without one have NaN."""
    return [cast(list[Any], value) for value in column if isinstance(value, list)]


def caption(losses: Losses) -> str:
    table, curves = losses.table, losses.curves
    validation, training = losses.series
    kind = f"learning rate ({', '.join(curves)})" if losses.is_ordered else f"arm ({'; '.join(curves)})"
    endings = ", ".join(f"{number} {words}" for words, number in table["ending"].value_counts().items())
    return (
        f"Validation loss on {' and '.join(table['text'].unique())} (above) and training loss (below) in nats per "
        f"token against step, one curve per {kind}: {runs_in_words(table)}. Thin lines are single runs; thick lines "
        f"are means over seeds until the first run ends, with 95 % t-intervals if they are of at least "
        f"{MIN_FOR_INTERVAL} runs. "
        f"Validation loss {_from_to(validation)}; training loss {_from_to(training)}. "
        f"Runs end after {span(table['last_step'], 0)} steps: {endings}."
        + (f" Not shown: {losses.left_out}." if losses.left_out else "")
    )


def _from_to(series: Mapping[str, Series]) -> str:
    first, last = ([values[index] for _, values in series.values()] for index in (0, -1))
    return f"starts at {span(first)} and ends at {span(last)}"


def _panel(losses: Losses, metric: int, panel: int, name: str) -> alt.LayerChart:
    """One metric of one panel: bands, means, single runs and their ends, and points for the pointer."""
    is_alone, num_ticks = len(losses.panels) == 1, 4 if metric else 6
    axis = alt.Axis(title=[name, "(nats per token)"], tickCount=num_ticks)
    axis = axis if panel == 0 else alt.Axis(title=None, labelOpacity=0, ticks=False, tickCount=num_ticks)
    zoomed = alt.Scale(type="linear", domain=list(_range(losses)), nice=False)
    scale = alt.Scale(type="linear", zero=True) if metric else zoomed
    value, low = (alt.Y(f"{field}:Q", axis=axis, scale=scale) for field in ("value", "low"))
    x_axis = alt.Axis(format="d", tickCount=8 if is_alone else 4, title="step" if metric else None, labelFlush=False)
    last_step = max(1, int(losses.table["last_step"].max()))
    x = alt.X("step:Q", axis=x_axis, scale=alt.Scale(domain=[0, last_step], nice=False))
    color, dash = curve_channels(losses.legend, losses.curves, ordered=losses.is_ordered)
    means, singles, ends = (
        alt.Chart()
        .transform_filter(f"datum.part === '{kind} {metric} {panel}'")
        .transform_flatten(fields)
        .encode(x=x, y=value, color=color)
        for kind, fields in FIELDS.items()
    )
    layers = [
        means.transform_filter("isValid(datum.low)").mark_area(opacity=0.18).encode(y=low, y2="high:Q"),
        singles.mark_line(strokeWidth=0.7, opacity=0.4).encode(detail="run:N"),
        means.mark_line(strokeWidth=1.7).encode(strokeDash=dash),
        _marks(ends, losses.table),
        means.mark_point(size=60, opacity=0, filled=True).encode(tooltip=_mean_tooltip(losses.legend)),
        *([] if metric else _labels(losses, panel, x, value)),
    ]
    title = panel_title(losses.panels[panel]) if metric == 0 and not is_alone else alt.Undefined
    return layered(*layers, width=panel_width(len(losses.panels), GAP), height=HEIGHTS[metric], title=title)


def _range(losses: Losses) -> tuple[float, float]:
    """Of the axis of validation losses, with room for names above the curves."""
    low = min(float(values.min()) for _, values in losses.series[0].values())
    high = max(float(values.max()) for _, values in losses.series[0].values())
    room = max(1e-3, high - low)
    return low - 0.06 * room, high + 0.12 * room


def _labels(losses: Losses, panel: int, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The name of each curve near the end of its longest run."""
    validation = losses.series[0]
    table = losses.table[losses.table["panel"] == losses.panels[panel]]
    table = table[table["run"].isin(list(validation))]
    curves = {str(name): [validation[run] for run in of["run"]] for name, of in table.groupby("curve", sort=False)}
    last_step = max(1, int(losses.table["last_step"].max()))
    view = View((panel_width(len(losses.panels), GAP), HEIGHTS[0]), (0, last_step), _range(losses))
    colors = dict(zip(losses.curves, shades(len(losses.curves), ordered=losses.is_ordered), strict=True))
    return free_labels(curves, colors, (x, y), view) if curves else []


def _marks(chart: alt.Chart, table: Frame) -> alt.Chart:
    """Where each run ended, in its curve's colour, with the shape of its ending."""
    endings = [ending for ending in ENDING_SHAPES if (table["ending"] == ending).any()]
    scale = alt.Scale(domain=endings, range=[ENDING_SHAPES[ending] for ending in endings])
    shape = alt.Shape("ending:N", scale=scale, legend=legend("end of a run:", endings, fill="#444444"))
    tooltip = ["run:N", "ending:N", "step:Q", alt.Tooltip("value:Q", title="loss", format=".3f")]
    return chart.mark_point(size=26, filled=True, opacity=0.9).encode(shape=shape, tooltip=tooltip)


def _mean_tooltip(legend: str) -> list[alt.Tooltip]:
    interval = [alt.Tooltip(f"{name}:Q", title=f"95 % {name}", format=".3f") for name in ("low", "high")]
    first = [alt.Tooltip("curve:N", title=legend), alt.Tooltip("step:Q")]
    last = [alt.Tooltip("n:Q", title="runs"), alt.Tooltip("width:Q", title="steps averaged")]
    return [*first, alt.Tooltip("value:Q", title="mean", format=".3f"), *interval, *last]


def _data(losses: Losses) -> pd.DataFrame:
    """One row per curve: its points as lists, and in `part` its kind, metric and panel: "mean 0 1"."""
    endings: dict[str, str] = dict(zip(losses.table["run"], losses.table["ending"], strict=True))
    rows: list[dict[str, object]] = []
    for (panel, curve), runs in losses.table.groupby(["panel", "curve"], sort=False):
        for metric, by_run in enumerate(losses.series):
            known = {str(run): by_run[run] for run in runs["run"] if run in by_run}
            if not known:
                continue
            place, curve_of = f"{metric} {losses.panels.index(panel)}", {"curve": curve}
            means: Frame = mean_curve(list(known.values()), [endings[run] != UNFINISHED for run in known])
            if len(means):
                rows.append({"part": f"mean {place}", **curve_of, **columns(means)})
            for run, single in single_curves(known).items():
                rows.append({"part": f"run {place}", **curve_of, "run": run, **columns(single)})
            for run, (at, y) in known.items():
                end = columns(pd.DataFrame({"step": at[-1:], "value": y[-1:]}))
                rows.append({"part": f"end {place}", **curve_of, "run": run, "ending": endings[run], **end})
    return pd.DataFrame(rows)


ON_FIRST_TEXT, ON_SECOND_TEXT = (
    Figure(
        f"Figure {number}: validation and training loss against step, {which} text",
        partial(select, position=position),
        draw,
        caption,
        f"no run on its own text has a validation loss{on_it}.",
    )
    for number, which, position, on_it in ((2, "first", 0, ""), (4, "second", 1, " on a second text"))
)
