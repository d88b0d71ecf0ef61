"""The figure that every run writes at its end, and the stacking of panels of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import ENDED_BY, EVENTS, MARKED_EVENTS, TRAINING_SOURCES, WATCHED
from collapselab.report.describe import rate_and_seed
from collapselab.report.run_panels import MEAN, THIN, Panel, loss_panel, repetition_panel
from collapselab.report.theme import RULE_COLOR, WIDTH, layered, themed
from collapselab.report.values import known

ROW_PX = 15  # height of one row of words above a panel
LABEL_SHARE = 0.22  # share of the width, a little more than the label "total collapse, step 1000" takes
MAX_DOTTED_STEPS = 40  # beyond, dots would hide the line
Events = list[tuple[int, str]]


def loss_figure(steps: Frame, run: Mapping[str, Any]) -> alt.VConcatChart:
    """The figure that every run writes at its end: losses above, repetition below, against step.

    Above, in nats per token: the training loss and the validation loss on each human text. Below: the share of
    repeated 4-grams (`seq_rep_4`) and of tokens inside the sample's longest loop. In a long run, thick lines are
    centred means of the thin ones; validation losses, on fixed windows, are not smoothed. The steps after onset
    are shaded; rules mark onset, total collapse and divergence. Unknown values are skipped (a text may be scored only
    every n steps); infinite ones are gaps. To see a long run in a notebook, first call
    `alt.data_transformers.disable_max_rows()`.

    Args:
        steps: one run's rows of `load_runs(...).steps`.
        run: that run's row of `load_runs(...).runs`; unknown values are left out.
    """
    return stack(steps, run, (loss_panel(steps), repetition_panel(steps)))


def events_of(run: Mapping[str, Any]) -> Events:
    """The events of a run that a figure marks, in order."""
    return sorted((int(run[name]), EVENTS[name].label) for name in MARKED_EVENTS if known(run, name))


def stack(steps: Frame, run: Mapping[str, Any], panels: Sequence[Panel]) -> alt.VConcatChart:
    """Panels below each other; the run's events cross all of them and are labelled above the first."""
    last_step = max([1, *steps["step"].astype(int)])
    events = events_of(run)
    axis = alt.Axis(format="d", tickCount=min(10, last_step), labelFlush=False)
    step_axis = alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, last_step], nice=False), axis=axis)
    charts: list[alt.LayerChart] = []
    for i, panel in enumerate(panels):
        x = step_axis if i == len(panels) - 1 else step_axis.title(None)
        rules = _rules(events, last_step, panel.height if i == 0 else None)
        lines = _lines(panel, ROW_PX * len(events) if i == 0 else 0)
        layers = (*_collapsed_region(events, last_step), *rules, *(line.encode(x=x, y=panel.y) for line in lines))
        charts.append(layered(*layers, width=WIDTH, height=panel.height))
    training = f"trained on {TRAINING_SOURCES[run.get('train.source', 'own')]}"
    title = f"{run.get('model', 'a model')} {'in training' if run.get('loop.kind') == WATCHED else training}"
    title += "".join(f": {words} at step {step}" for step, words in events[-1:])
    chart = alt.vconcat(
        *charts,
        title=alt.TitleParams(title, subtitle=_subtitle(run)),
        spacing=12,
        data=pd.concat([panel.rows() for panel in panels], ignore_index=True),
    )
    return themed(chart.resolve_scale(color="independent", strokeDash="independent"))


def _lines(panel: Panel, legend_offset: int) -> list[alt.Chart]:
    names = list(panel.styles)
    colors, dashes = [color for color, _ in panel.styles.values()], [list(dash) for _, dash in panel.styles.values()]
    legend = _legend(names, 4 + legend_offset)
    color = alt.Color("line:N", scale=alt.Scale(domain=names, range=colors), legend=legend)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    num_steps = max(map(len, (panel.values | panel.means).values()))
    thick, thin, measured = (
        alt.Chart().transform_filter(" || ".join(f"datum.layer === '{panel.name}{end}'" for end in ends))
        for ends in (("", MEAN), (THIN,), ("", THIN))
    )
    hover = measured.mark_point(size=60, opacity=0, filled=True).encode(
        color=color, tooltip=[alt.Tooltip("line:N", title=" "), "step:Q", alt.Tooltip("value:Q", format=".4~g")]
    )
    thick = thick.mark_line(
        strokeWidth=1.6 if panel.thin else 1.3,
        point={"size": 14} if num_steps <= MAX_DOTTED_STEPS else False,
    ).encode(color=color, strokeDash=dash)
    if not panel.thin:
        return [thick, hover]
    return [thin.mark_line(strokeWidth=0.6, opacity=0.35).encode(color=color), thick, hover]


def _legend(names: list[str], offset: int) -> alt.Legend:
    """A legend above the panel; a long name is a path and keeps its end, which distinguishes it."""
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


def _collapsed_region(events: Events, last_step: int) -> list[alt.Chart]:
    """A light band from onset to the last step; none before a collapse."""
    spans = [{"step": step, "end": last_step} for step, words in events if words == EVENTS["onset_step"].label]
    band = alt.Chart(alt.InlineData(values=spans)).mark_rect(color="#000000", opacity=0.06)
    return [band.encode(x="step:Q", x2="end:Q")] if spans else []


def _rules(events: Events, last_step: int, labelled_height: int | None) -> list[alt.Chart]:
    """One rule per event; rules with labels extend above the panel, each to its own row.

    Labels are left of their rule (a run ends at total collapse), with later events higher. For an early onset they are
    right of it, with later events lower. Either way, no rule crosses the label of another.
    """
    leftward = bool(events) and events[0][0] >= LABEL_SHARE * last_step
    charts: list[alt.Chart] = []
    for i, (step, words) in enumerate(events):
        at = alt.Chart(alt.InlineData(values=[{"step": step}])).encode(x="step:Q")
        rule = at.mark_rule(color=RULE_COLOR)
        if labelled_height is None:
            charts.append(rule)
            continue
        y = -ROW_PX * (i + 1 if leftward else len(events) - i)
        align, dx = ("right", -4) if leftward or step > (1 - LABEL_SHARE) * last_step else ("left", 4)
        text = at.mark_text(align=align, dx=dx, baseline="top", text=f"{words}, step {step}", color=RULE_COLOR)
        charts += [rule.encode(y=alt.value(y), y2=alt.value(labelled_height)), text.encode(y=alt.value(y + 1))]
    return charts


def _subtitle(run: Mapping[str, Any]) -> str:
    """Learning rate, seed, how the run ended and the kind of collapse, if known."""
    facts = [
        *rate_and_seed(run),
        ENDED_BY[run["ended_by"]].label if known(run, "ended_by") else "unfinished",
        f"kind {run['kind_at_end']}" if known(run, "kind_at_end") else None,
    ]
    return "  ·  ".join(fact for fact in facts if fact)
