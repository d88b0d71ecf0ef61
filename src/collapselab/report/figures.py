"""The figures of a run, as Altair charts: one definition for the page, the SVG and the PNG."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import altair as alt
import pandas as pd
import vl_convert

WIDTH, LOSS_HEIGHT, REPETITION_HEIGHT = 560, 230, 120
PNG_SCALE = 2.0
# Okabe & Ito's palette, safe for colour-blind readers; a dash pattern each, for print in grey.
OWN_STYLE = ("#000000", (1, 0))
TEXT_STYLES = (("#0072B2", (1, 0)), ("#D55E00", (6, 3)), ("#009E73", (2, 2)), ("#CC79A7", (8, 2, 2, 2)))
REPETITION_STYLES = (("#0072B2", (1, 0)), ("#D55E00", (4, 2)))
# Names of a runs frame that mark a step, with the words beside the mark.
EVENTS = {"onset_step": "onset", "total_collapse_step": "total collapse", "diverged_step": "diverged"}
TRAINING_TEXTS = {
    "own": "its own text",
    "real": "real text",
    "other": "another model's text",
    "shuffled": "its own text, shuffled",
}
ROW = ("layer", "line", "step", "value")
THIN = " (thin)"
VALIDATION = "validation loss, "
OUTCOMES = {"collapsed": "total collapse", "budget": "budget used up"}
RULE_COLOR = "#444444"
ROW_PX = 15  # height of one row of words above a panel
LABEL_SHARE = 0.22  # a little more than the words "total collapse, step 1000" take of the width
MAX_DOTTED_STEPS = 40  # beyond, dots would hide the line
MAX_RAW_STEPS = 150  # beyond, values alone would be a block of ink

Style = tuple[str, tuple[int, ...]]
Values = dict[int, float]  # by step, without the unknown ones
Lines = Mapping[str, Values]
Events = list[tuple[int, str]]


@dataclass(frozen=True)
class Panel:
    """The lines of one panel, by their words in the legend: values or means, and the values behind the means."""

    name: str
    thick: Lines
    thin: Lines
    styles: Mapping[str, Style]


def loss_figure(steps: pd.DataFrame, run: Mapping[str, Any]) -> alt.VConcatChart:
    """The picture every run leaves behind: losses above, repetition below, both against step.

    Above, in nats per token: the training loss and the validation loss on each human text. Below: the share of
    repeated 4-grams (`seq_rep_4`) and of tokens inside the sample's longest loop. In a long run, thick lines are
    centred means of the thin ones; validation losses, on fixed windows, are smooth as they are. The steps after onset
    are shaded; rules mark onset, total collapse and divergence. Unknown values are passed over (a text may be scored
    every n steps only), infinite ones are gaps. To see a long run in a notebook, first call
    `alt.data_transformers.disable_max_rows()`.

    Args:
        steps: one run's rows of `load_runs(...).steps`.
        run: that run's row of `load_runs(...).runs`; what it does not know is left out of the picture.
    """
    last_step = max([1, *_steps(steps)])
    events = sorted((int(run[name]), words) for name, words in EVENTS.items() if _known(run, name))
    panels = (
        _panel("loss", _loss_lines(steps), (OWN_STYLE, *TEXT_STYLES)),
        _panel("repetition", _repetition_lines(steps), REPETITION_STYLES),
    )
    loss_axis = alt.Y("value:Q", title="loss (nats per token)", scale=alt.Scale(zero=True))
    share_axis = alt.Y(
        "value:Q", title="share of the sample", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5, format="%")
    )
    step_axis = _step_axis(last_step)
    upper = alt.layer(
        *_collapsed_region(events, last_step),
        *_labelled_rules(events, last_step),
        *(line.encode(x=step_axis.title(None), y=loss_axis) for line in _lines(panels[0], ROW_PX * len(events))),
    )
    lower = alt.layer(
        *_collapsed_region(events, last_step),
        *_rules(events),
        *(line.encode(x=step_axis, y=share_axis) for line in _lines(panels[1])),
    )
    return _with_theme(
        alt.vconcat(
            upper.properties(width=WIDTH, height=LOSS_HEIGHT),
            lower.properties(width=WIDTH, height=REPETITION_HEIGHT),
            title=alt.TitleParams(_title(run), subtitle=_subtitle(run)),
            spacing=12,
            data=pd.DataFrame([row for panel in panels for row in _rows(panel)], columns=pd.Index(ROW)),
        )
    )


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """A figure with its data as Vega-Lite, however long the run."""
    # Altair refuses frames of more than 5000 rows. Other forms of data are no way out: it validates each of their rows
    # (15 s for a run of 5000 steps).
    with alt.data_transformers.enable("default", max_rows=None):
        return chart.to_dict()


def save_figure(chart: alt.TopLevelMixin, folder: Path, stem: str) -> tuple[Path, Path]:
    """Writes `stem.svg` and `stem.png` (twice the size, for sharp screens) into a folder; returns both paths."""
    vega_lite = specification(chart)
    svg, png = folder / f"{stem}.svg", folder / f"{stem}.png"
    svg.write_text(vl_convert.vegalite_to_svg(vega_lite), encoding="utf-8")
    png.write_bytes(vl_convert.vegalite_to_png(vega_lite, scale=PNG_SCALE))
    return svg, png


def _loss_lines(steps: pd.DataFrame) -> Lines:
    """Each line of the upper panel by its words in the legend: what is trained on, then the human texts."""
    names = cast(list[str], steps.columns.tolist())
    texts = {match[1]: name for name in names if (match := re.fullmatch(r"val_nll_nats\[(.+)\]", name))}
    lines = {"training loss": _values(steps, "train_nll_nats")}
    return lines | {f"{VALIDATION}{text}": _values(steps, name) for text, name in texts.items()}


def _repetition_lines(steps: pd.DataFrame) -> Lines:
    span, length = _values(steps, "loop_span"), _values(steps, "num_tokens")
    in_loop = {step: span[step] / length[step] for step in span.keys() & length.keys() if length[step]}
    return {"repeated 4-grams (seq_rep_4)": _values(steps, "seq_rep_4"), "tokens inside a loop": in_loop}


def _values(steps: pd.DataFrame, name: str) -> Values:
    """A column by step, without the unknown values; empty if the run did not record it."""
    if name not in steps:
        return {}
    column = cast(list[float], steps[name].astype(float).tolist())
    return {step: value for step, value in zip(_steps(steps), column, strict=True) if not math.isnan(value)}


def _steps(steps: pd.DataFrame) -> list[int]:
    return cast(list[int], steps["step"].astype(int).tolist())


def _panel(name: str, lines: Lines, styles: tuple[Style, ...]) -> Panel:
    """In a long run, noisy lines become thick means over thin values."""
    num_steps = max(len(values) for values in lines.values())
    used = {line: styles[i % len(styles)] for i, line in enumerate(lines)}
    if num_steps <= MAX_RAW_STEPS:
        return Panel(name, lines, {}, used)
    noisy = {line: values for line, values in lines.items() if not line.startswith(VALIDATION)}
    means = {line: _running_mean(values, num_steps // 50) for line, values in noisy.items()}
    return Panel(name, {**lines, **means}, noisy, used)


def _rows(panel: Panel) -> list[tuple[str, str, int, float]]:
    """The panel's values as the chart's data."""
    return [
        (layer, line, step, value)
        for layer, lines in ((panel.name, panel.thick), (panel.name + THIN, panel.thin))
        for line, values in lines.items()
        for step, value in sorted(values.items())
    ]


def _lines(panel: Panel, legend_offset: int = 0) -> list[alt.Chart]:
    names = list(panel.styles)
    colors, dashes = [color for color, _ in panel.styles.values()], [list(dash) for _, dash in panel.styles.values()]
    legend = _legend(names, 4 + legend_offset)
    color = alt.Color("line:N", scale=alt.Scale(domain=names, range=colors), legend=legend)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    num_steps = max(len(values) for values in panel.thick.values())
    thick, thin = (alt.Chart().transform_filter(f"datum.layer === '{panel.name}{end}'") for end in ("", THIN))
    thick = thick.mark_line(
        strokeWidth=1.6 if panel.thin else 1.3, point={"size": 14} if num_steps <= MAX_DOTTED_STEPS else False
    ).encode(color=color, strokeDash=dash)
    return [thin.mark_line(strokeWidth=0.6, opacity=0.35).encode(color=color), thick] if panel.thin else [thick]


def _legend(names: list[str], offset: int) -> alt.Legend:
    """A legend above the panel; a long name is a path, and keeps its end, which tells it from others."""
    return alt.Legend(
        title=None,
        orient="top",
        offset=offset,
        columns=3 if max(map(len, names)) <= 28 else 2,
        symbolType="stroke",
        symbolSize=400,
        symbolOpacity=1,
        labelExpr="length(datum.label) > 40 ? slice(datum.label, 0, 17) + '…' + slice(datum.label, -22) : datum.label",
    )


def _running_mean(values: Values, half_width: int) -> Values:
    """Means of the finite values around each step; an infinite value stays."""
    steps, column = list(values), list(values.values())
    means: Values = {}
    for i, value in enumerate(column):
        near = [v for v in column[max(0, i - half_width) : i + half_width + 1] if math.isfinite(v)]
        means[steps[i]] = statistics.fmean(near) if math.isfinite(value) else value
    return means


def _step_axis(last_step: int) -> alt.X:
    axis = alt.Axis(format="d", tickCount=min(10, last_step), labelFlush=False)
    return alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, last_step], nice=False), axis=axis)


def _collapsed_region(events: Events, last_step: int) -> list[alt.Chart]:
    """A light band from onset to the last step; none before a collapse."""
    spans = [{"step": step, "end": last_step} for step, words in events if words == EVENTS["onset_step"]]
    band = alt.Chart(alt.InlineData(values=spans)).mark_rect(color="#000000", opacity=0.06)
    return [band.encode(x="step:Q", x2="end:Q")] if spans else []


def _rules(events: Events) -> list[alt.Chart]:
    return [_at(step).mark_rule(color=RULE_COLOR).encode(x="step:Q") for step, _ in events]


def _labelled_rules(events: Events, last_step: int) -> list[alt.Chart]:
    """Rules that rise above the panel, each to a row of its own, so that near events do not write over each other.

    Words stand left of their rule (a run ends at total collapse) with later events higher; for an early onset they
    stand right of it with later events lower: either way no rule crosses the words of another.
    """
    leftward = bool(events) and events[0][0] >= LABEL_SHARE * last_step
    charts: list[alt.Chart] = []
    for i, (step, words) in enumerate(events):
        y = -ROW_PX * (i + 1 if leftward else len(events) - i)
        align, dx = ("right", -4) if leftward or step > (1 - LABEL_SHARE) * last_step else ("left", 4)
        rule = _at(step).mark_rule(color=RULE_COLOR).encode(x="step:Q", y=alt.value(y), y2=alt.value(LOSS_HEIGHT))
        text = _at(step).mark_text(align=align, dx=dx, baseline="top", text=f"{words}, step {step}", color=RULE_COLOR)
        charts += [rule, text.encode(x="step:Q", y=alt.value(y + 1))]
    return charts


def _at(step: int) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=[{"step": step}]))


def _title(run: Mapping[str, Any]) -> str:
    return f"{run.get('model', 'a model')} trained on {TRAINING_TEXTS[run.get('train.source', 'own')]}"


def _subtitle(run: Mapping[str, Any]) -> str:
    """Learning rate, seed, outcome and kind of collapse, as far as they are known."""
    facts = [
        f"learning rate {_short(run['lr'])}" if _known(run, "lr") else None,
        f"seed {run['seed']}" if _known(run, "seed") else None,
        OUTCOMES.get(run["outcome"], str(run["outcome"])) if _known(run, "outcome") else "unfinished",
        f"kind {run['kind_at_end']}" if _known(run, "kind_at_end") else None,
    ]
    return "  ·  ".join(fact for fact in facts if fact)


def _known(run: Mapping[str, Any], name: str) -> bool:
    return not bool(pd.isna(run.get(name)))


def _short(value: float) -> str:
    """A learning rate as people write it: 2e-5, not 2e-05."""
    return re.sub(r"e([+-])0*", r"e\1", f"{value:g}")


def _with_theme(chart: alt.VConcatChart) -> alt.VConcatChart:
    return (
        chart.resolve_scale(color="independent", strokeDash="independent")
        .configure(background="white", padding=12)
        .configure_title(
            anchor="start", frame="group", fontSize=15, subtitleFontSize=12, subtitleColor="#333333", offset=10
        )
        .configure_axis(grid=True, gridColor="#eeeeee", labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelFontSize=12, padding=0, labelLimit=0)
        .configure_text(fontSize=11)
        .configure_view(stroke="#bbbbbb")
    )
