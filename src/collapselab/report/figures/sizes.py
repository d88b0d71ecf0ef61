"""Figure 3: onset of collapse against model size, at equal learning rates, update sizes, and sharpening."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import UPDATE_STEPS, equal_update_sets
from collapselab.analysis.evidence import gather
from collapselab.analysis.intervals import bootstrap_interval
from collapselab.analysis.sampler_pull import frozen
from collapselab.analysis.sampler_sizes import equal_pulls
from collapselab.analysis.survival import Frame, median_onset
from collapselab.report.captions import medians_in_words, onsets_in_words, runs_in_words, sentence, tendency
from collapselab.report.entries import Figure
from collapselab.report.groups import run_table
from collapselab.report.selection import judged_once, rates
from collapselab.report.theme import WIDTH, curve_channels, layered, legend, log_ticks, panel_title, panel_width, themed
from collapselab.report.values import short
from collapselab.rundir.frames import Runs

HEIGHT, GAP = 300, 30
NARROW = WIDTH  # pixels of a panel whose legend has to keep to its width
ONSET, CENSORED = "onset", "no onset by the last step"
FATE_SHAPES = alt.Scale(domain=[ONSET, CENSORED], range=["circle", "triangle-up"])


@dataclass(frozen=True)
class OnsetPanel:
    """Compared runs: rows of `groups.run_table`; the column `curve` has what differs."""

    title: str
    table: Frame
    curves: Sequence[str]
    legend: str

    def channels(self, width: int) -> tuple[alt.Color, alt.StrokeDash]:
        return curve_channels(self.legend, self.curves, width=width if width < NARROW else None)

    def medians(self, separator: str) -> str:
        """The median onset of each curve, for captions."""
        return f"{self.title}: {medians_in_words(self.table, self.legend, separator)}"


@dataclass(frozen=True)
class Sizes:
    """The panels, and the models in them, from small to large."""

    panels: Sequence[OnsetPanel]
    models: Sequence[str]


def select(runs: Runs) -> Sizes | None:
    """Own-text runs of two or more models at equal learning rates, and at equal update sizes."""
    table = judged_once(runs)
    return _sizes([_equal_rates(table), _equal_updates(table, runs.steps)])


def select_sharpened(runs: Runs) -> Sizes | None:
    """The same, and at equal sharpening, if the runs have that."""
    panel = _equal_sharpening(runs)
    if panel is None:
        return None
    table = judged_once(runs)
    return _sizes([_equal_rates(table), _equal_updates(table, runs.steps), panel])


def _sizes(panels: Sequence[OnsetPanel | None]) -> Sizes | None:
    shown = [panel for panel in panels if panel is not None]
    if not shown:
        return None
    every: Frame = pd.concat([panel.table for panel in shown]).sort_values("size", kind="stable")
    return Sizes(shown, list(every["model_label"].unique()))


def _equal_rates(table: Frame) -> OnsetPanel | None:
    part = table[table.groupby("lr")["model"].transform("nunique") > 1]
    part = part.assign(curve=part["lr"].map(short))
    return None if part.empty else OnsetPanel("at equal learning rates", part, rates(part), "learning rate")


def _equal_updates(table: Frame, steps: Frame) -> OnsetPanel | None:
    """Sets of arms with equally large first updates, named by the mean size relative to the weights."""
    if table.empty or "relative_update_norm" not in steps:
        return None
    early = steps[steps["step"] < UPDATE_STEPS].astype({"relative_update_norm": float})
    update = early.groupby("run")["relative_update_norm"].mean()
    part = table.assign(set=equal_update_sets(table, steps), update=table["run"].map(update))
    part = part[part["set"].notna() & (part.groupby("set")["model"].transform("nunique") > 1)]
    if part.empty:
        return None
    sizes = part.groupby("set")["update"].mean().sort_values()
    names = {number: short(float(f"{size:.2g}")) for number, size in sizes.items()}
    part = part.assign(curve=part["set"].map(names))
    return OnsetPanel("at equal update sizes", part, list(dict.fromkeys(names.values())), "relative update")


def _equal_sharpening(runs: Runs) -> OnsetPanel | None:
    """Sets of arms that freeze at equal sharpening and equally large updates (S4), named by both."""
    rows = frozen(gather(runs)).dropna(subset=["sharpening_nats", "relative_update_norm"])
    rows = rows.assign(set=equal_pulls(rows))
    rows = rows[rows.groupby("set")["model"].transform("nunique") > 1]
    if rows.empty:
        return None
    means = rows.groupby("set")[["sharpening_nats", "relative_update_norm"]].mean().sort_values("relative_update_norm")
    names = {number: ", ".join(short(float(f"{x:.2g}")) for x in sizes) for number, *sizes in means.itertuples()}
    table: Frame = run_table(runs)
    part = table[table["run"].isin(rows["run"])].sort_values("size", kind="stable")
    part = part.assign(curve=part["run"].map(rows.set_index("run")["set"]).map(names))
    return OnsetPanel(
        "at equal sharpening and updates", part, list(dict.fromkeys(names.values())), "sharpening, update"
    )


def draw(sizes: Sizes) -> alt.HConcatChart:
    """One point per run, and the median of each arm with its interval.

    Triangles are runs without onset, at the last step known to be before any onset. Medians are Kaplan-Meier estimates,
    95 % intervals come from resampled runs. A median or bound that is not reached within the runs is left out.
    """
    every: Frame = pd.concat([panel.table["duration"] for panel in sizes.panels])
    low, high = 0.8 * max(1.0, float(every.min())), 1.2 * float(every.max())
    scale, ticks = alt.Scale(type="log", domain=[low, high], nice=False), log_ticks(low, high)
    width = panel_width(len(sizes.panels), GAP)
    charts: list[alt.LayerChart] = []
    for i, panel in enumerate(sizes.panels):
        y = alt.Y("step:Q", scale=scale, axis=alt.Axis(values=ticks, title=None if i else "step of onset"))
        charts.append(_panel(panel, sizes.models, y, width))
    subtitle = "points: single runs; bars: medians over seeds, with 95 % intervals"
    title = alt.TitleParams(message(sizes), subtitle=subtitle)
    stack = alt.hconcat(*charts, spacing=GAP, title=title)
    return themed(stack.resolve_scale(color="independent", strokeDash="independent"))


def message(sizes: Sizes) -> str:
    """Whether larger models collapse earlier, in each panel."""
    found = [
        tendency((part for _, part in runs.groupby("size")) for _, runs in panel.table.groupby("curve", sort=False))
        for panel in sizes.panels
    ]
    where: dict[str, list[str]] = {}
    for panel, word in zip(sizes.panels, found, strict=True):
        where.setdefault(word or "at no other time", []).append(panel.title)
    words = (f"{_listed(titles)}, larger models collapse {word}" for word, titles in where.items())
    return sentence("; ".join(words))


def _listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def caption(sizes: Sizes) -> str:
    every = pd.concat([panel.table for panel in sizes.panels]).drop_duplicates("run")
    medians = " ".join(f"Median step of onset {panel.medians('; ')}." for panel in sizes.panels)
    return (
        f"Step of onset against model size for {runs_in_words(every)}. Bars are medians over seeds with 95 % bootstrap "
        f"intervals; triangles are runs without onset. {onsets_in_words(every)} {medians}"
    )


def _panel(panel: OnsetPanel, models: Sequence[str], y: alt.Y, width: int) -> alt.LayerChart:
    color, dash = panel.channels(width)
    two_lines = alt.Axis(labelAngle=0, grid=False, labelExpr="split(replace(datum.label, ')', ''), ' (')")
    x = alt.X("model:N", sort=list(models), title="model, parameters", axis=two_lines)
    offset = alt.XOffset("curve:N", sort=list(panel.curves), scale=alt.Scale(paddingOuter=0.7))
    what = alt.Tooltip("curve:N", title=panel.legend)
    numbers = [alt.Tooltip(f"{name}:Q") for name in ("step", "low", "high")]
    runs, medians = (
        alt.Chart(frame).encode(x=x, xOffset=offset, y=y, color=color)
        for frame in (_run_rows(panel.table), _median_rows(panel.table))
    )
    bars = medians.transform_filter("isValid(datum.low) && isValid(datum.high)").encode(y="low:Q", y2="high:Q")
    layers = [
        medians.mark_line(strokeWidth=1.3, opacity=0.8).encode(strokeDash=dash),
        bars.mark_rule(strokeWidth=1.3),
        medians.mark_tick(thickness=3, width=16, opacity=1).encode(tooltip=["model:N", what, *numbers, "runs:Q"]),
        runs.mark_point(size=28, filled=True, opacity=0.8).encode(
            shape=alt.Shape("fate:N", scale=FATE_SHAPES, legend=legend("a run:", [ONSET, CENSORED], fill="#444444")),
            tooltip=["run:N", what, alt.Tooltip("fate:N", title=" "), "step:Q"],
        ),
    ]
    return layered(*layers, title=panel_title(panel.title), width=width, height=HEIGHT)


def _run_rows(table: Frame) -> pd.DataFrame:
    names = {"model_label": "model", "curve": "curve", "duration": "step", "run": "run"}
    fate = table["is_event"].map({True: ONSET, False: CENSORED})
    return table[list(names)].rename(columns=names).assign(fate=fate)


def _median_rows(table: Frame) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for (model, curve), runs in table.groupby(["model_label", "curve"], sort=False):
        median = median_onset(runs["duration"].to_numpy(), runs["is_event"].to_numpy()).estimate
        low, high = resampled_median(runs)
        rows.append({"model": model, "curve": curve, "step": median, "low": low, "high": high, "runs": len(runs)})
    return pd.DataFrame(rows)


def resampled_median(runs: Frame) -> tuple[float | None, float | None]:
    """The 95 % bootstrap interval of the median onset; the Kaplan-Meier interval has no upper end with few runs.

    A run without onset counts as later than all others. `None` for an end among those, for a single run, and if a
    run was censored before the last onset, so that its own onset might be earlier.
    """
    onset = runs["duration"].where(runs["is_event"], math.inf)
    if (runs.loc[~runs["is_event"], "duration"] < runs.loc[runs["is_event"], "duration"].max()).any():
        return None, None
    lower_middle = (len(runs) - 1) // 2
    with np.errstate(invalid="ignore"):  # between two infinite resamples
        interval = bootstrap_interval(
            onset, lambda values: np.sort(values, axis=-1)[..., lower_middle], np.random.default_rng(0)
        )
    low, high = (None if end is None or not math.isfinite(end) else end for end in (interval.low, interval.high))
    return low, high


FIGURE = Figure(
    "Figure 3: onset of collapse against model size",
    select,
    draw,
    caption,
    "no two models were run at equal learning rates or update sizes.",
)
AT_EQUAL_SHARPENING = Figure(
    "Figure 3 again: onset against model size, at equal sharpening too",
    select_sharpened,
    draw,
    caption,
    "no two models have arms that freeze at equal sharpening and update sizes.",
    "sampler",
)
