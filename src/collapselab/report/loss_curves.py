"""Losses against step over many runs: one curve per learning rate (Figures 2 and 4), or per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import ENDED_BY
from collapselab.report.curves import CURVE_COLUMNS, Series, columns, mean_curve, run_series, tails
from collapselab.report.groups import UNFINISHED
from collapselab.report.theme import Styles, layered, legend, panel_title, panel_width, styles, themed
from collapselab.rundir.frames import Runs

HEIGHTS = (200, 130)
GAP = 30
# The lists in the data of each kind of curve.
FIELDS: dict[str, list[str | alt.FieldName]] = {
    "mean": list(CURVE_COLUMNS),
    "tail": ["step", "value"],
    "end": ["step", "value"],
}
ENDING_SHAPES = {
    ENDED_BY["collapse"].label: "circle",
    ENDED_BY["budget"].label: "square",
    ENDED_BY["divergence"].label: "cross",
    UNFINISHED: "triangle-up",
}

SeriesByRun = Mapping[str, Series]


@dataclass(frozen=True)
class Layout:
    """How runs are spread over a figure: by the columns `panel` and `curve` of their table, in these orders."""

    panels: Sequence[str]
    curves: Sequence[str]
    legend: str
    ordered: bool

    @property
    def look(self) -> Styles:
        return styles(self.curves, ordered=self.ordered)


def loss_curves(runs: Runs, table: Frame, layout: Layout, title: str) -> alt.VConcatChart:
    """Validation loss above training loss, against step: mean over seeds with a 95 % t-interval.

    A mean goes on until the first of its runs has ended; from there thin lines show what single runs do, up to a mark
    that says why each ended.

    Args:
        runs: the frames.
        table: rows of `groups.run_table`, with the columns `panel`, `curve` and `text`, the human text to show.
        layout: which panels and curves there are.
        title: what is shown.
    """
    series = {"validation": validation_series(runs, table), "training": training_series(runs, table)}
    data = _data(table, layout, series)
    endings = [ending for ending in ENDING_SHAPES if (table["ending"] == ending).any()]
    x = alt.Scale(domain=[0, max(1, int(table["last_step"].max()))], nice=False)
    texts = table["text"].unique()
    titles = (f"validation loss, {texts[0]}" if len(texts) == 1 else "validation loss", "training loss")
    rows = [
        alt.hconcat(
            *(_panel((i, k), layout, endings, x, name) for k in range(len(layout.panels))), spacing=GAP, bounds="flush"
        )
        for i, name in enumerate(titles)
    ]
    # One frame for all layers: Altair would copy one of each layer's own dozens of times.
    return themed(alt.vconcat(*(row.resolve_scale(y="shared") for row in rows), spacing=14, title=title, data=data))


def validation_series(runs: Runs, table: Frame) -> SeriesByRun:
    """The validation loss of each run on its own row's `text`."""
    found: dict[str, Series] = {}
    steps: Frame = runs.steps
    for text, rows in table.groupby("text", sort=False):
        found |= run_series(steps[steps["run"].isin(rows["run"])], f"val_nll_nats[{text}]")
    return found


def training_series(runs: Runs, table: Frame) -> SeriesByRun:
    """The training loss of each run of a table."""
    steps: Frame = runs.steps
    return run_series(steps[steps["run"].isin(table["run"])], "train_nll_nats")


def _panel(
    place: tuple[int, int], layout: Layout, endings: Sequence[str], x_scale: alt.Scale, name: str
) -> alt.LayerChart:
    """One metric of one panel: bands, means, tails and ends of runs, and points for the mouse to find."""
    (metric, panel), is_alone = place, len(layout.panels) == 1
    num_ticks = 4 if metric else 6
    axis = alt.Axis(title=[name, "(nats per token)"], tickCount=num_ticks)
    axis = axis if panel == 0 else alt.Axis(title=None, labelOpacity=0, ticks=False, tickCount=num_ticks)
    scale = alt.Scale(type="linear", zero=metric == 1)
    value, low = (alt.Y(f"{field}:Q", axis=axis, scale=scale) for field in ("value", "low"))
    x_axis = alt.Axis(format="d", tickCount=8 if is_alone else 4, title="step" if metric else None, labelFlush=False)
    key = legend(layout.legend, layout.curves, "stroke")
    x, color = alt.X("step:Q", axis=x_axis, scale=x_scale), alt.Color("curve:N", scale=layout.look.color, legend=key)
    dash = alt.StrokeDash("curve:N", scale=layout.look.dash, legend=key)
    means, tails, ends = (
        alt.Chart()
        .transform_filter(f"datum.part === '{kind} {metric} {panel}'")
        .transform_flatten(fields)
        .encode(x=x, y=value, color=color)
        for kind, fields in FIELDS.items()
    )
    layers = [
        means.transform_filter("isValid(datum.low)").mark_area(opacity=0.18).encode(y=low, y2="high:Q"),
        tails.mark_line(strokeWidth=0.8, opacity=0.5).encode(detail="run:N"),
        means.mark_line(strokeWidth=1.7).encode(strokeDash=dash),
        _marks(ends, endings),
        means.mark_point(size=60, opacity=0, filled=True).encode(tooltip=_mean_tooltip(layout)),
    ]
    title = panel_title(layout.panels[panel]) if metric == 0 and not is_alone else alt.Undefined
    return layered(*layers, width=panel_width(len(layout.panels), GAP), height=HEIGHTS[metric], title=title)


def _marks(chart: alt.Chart, endings: Sequence[str]) -> alt.Chart:
    """Where each run ended, in its curve's colour, with the shape of its ending."""
    scale = alt.Scale(domain=list(endings), range=[ENDING_SHAPES[ending] for ending in endings])
    shape = alt.Shape("ending:N", scale=scale, legend=legend("end of a run:", endings, fill="#444444"))
    tooltip = ["run:N", "ending:N", "step:Q", alt.Tooltip("value:Q", title="loss", format=".3f")]
    return chart.mark_point(size=26, filled=True, opacity=0.9).encode(shape=shape, tooltip=tooltip)


def _mean_tooltip(layout: Layout) -> list[alt.Tooltip]:
    interval = [alt.Tooltip(f"{name}:Q", title=f"95 % {name}", format=".3f") for name in ("low", "high")]
    first = [alt.Tooltip("curve:N", title=layout.legend), alt.Tooltip("step:Q")]
    last = [alt.Tooltip("n:Q", title="runs"), alt.Tooltip("width:Q", title="steps averaged")]
    return [*first, alt.Tooltip("value:Q", title="mean", format=".3f"), *interval, *last]


def _data(table: Frame, layout: Layout, series: Mapping[str, SeriesByRun]) -> pd.DataFrame:
    """A row a curve: its points as lists, and as `part` its kind, metric and panel: "mean 0 1"."""
    endings: dict[str, str] = dict(zip(table["run"], table["ending"], strict=True))
    rows: list[dict[str, object]] = []
    for (panel, curve), runs in table.groupby(["panel", "curve"], sort=False):
        for metric, by_run in enumerate(series.values()):
            known = {str(run): by_run[run] for run in runs["run"] if run in by_run}
            if not known:
                continue
            place, curve_of = f"{metric} {layout.panels.index(panel)}", {"curve": curve}
            means: Frame = mean_curve(list(known.values()), [endings[run] != UNFINISHED for run in known])
            start = min(float(at[0]) for at, _ in known.values())
            if len(means):
                rows.append({"part": f"mean {place}", **curve_of, **columns(means)})
                start = float(means["step"].to_numpy()[-1])
            for run, tail in tails(known, start).items():
                rows.append({"part": f"tail {place}", **curve_of, "run": run, **columns(tail)})
            for run, (at, y) in known.items():
                end = columns(pd.DataFrame({"step": at[-1:], "value": y[-1:]}))
                rows.append({"part": f"end {place}", **curve_of, "run": run, "ending": endings[run], **end})
    return pd.DataFrame(rows)
