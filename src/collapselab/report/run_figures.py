"""The figures of one run: the picture every run leaves behind, and the anatomy of a collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from collapselab.collapse.words import ENDED_BY, EVENTS, MARKED_EVENTS, TRAINING_SOURCES
from collapselab.report.run_panels import (
    LOSS_HEIGHT,
    MEAN,
    ROW,
    THIN,
    Panel,
    entropy_panel,
    loss_panel,
    repetition_panel,
    rows,
    steps_of,
    thinned,
)
from collapselab.report.theme import RULE_COLOR, WIDTH, layered, short, themed

ROW_PX = 15  # height of one row of words above a panel
LABEL_SHARE = 0.22  # a little more than the words "total collapse, step 1000" take of the width
MAX_DOTTED_STEPS = 40  # beyond, dots would hide the line
Events = list[tuple[int, str]]


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
    return _stack(steps, run, (loss_panel(steps), repetition_panel(steps)))


def anatomy_figure(steps: pd.DataFrame, run: Mapping[str, Any]) -> alt.VConcatChart:
    """The anatomy of a collapse: losses, repetition and entropy of one run on one step axis.

    As `loss_figure`, and below it, in nats per token: the mean entropy of the model's next-token distribution while it
    wrote, and the entropy of its text by match lengths. In a run of over 400 steps lines keep the largest and the
    smallest value of each 200th of the run, so that peaks stay and the figure stays small.
    """
    panels = (loss_panel(steps), repetition_panel(steps), entropy_panel(steps))
    return _stack(steps, run, tuple(map(thinned, panels)))


def _stack(steps: pd.DataFrame, run: Mapping[str, Any], panels: Sequence[Panel]) -> alt.VConcatChart:
    """Panels one below the other, with the run's events through all of them and in words above the first."""
    last_step = max([1, *steps_of(steps)])
    events = sorted((int(run[name]), EVENTS[name].label) for name in MARKED_EVENTS if _known(run, name))
    step_axis, charts = _step_axis(last_step), list[alt.LayerChart]()
    for i, panel in enumerate(panels):
        x = step_axis if i == len(panels) - 1 else step_axis.title(None)
        rules = _labelled_rules(events, last_step) if i == 0 else _rules(events)
        lines = _lines(panel, ROW_PX * len(events) if i == 0 else 0)
        layers = (*_collapsed_region(events, last_step), *rules, *(line.encode(x=x, y=panel.y) for line in lines))
        charts.append(layered(*layers, width=WIDTH, height=panel.height))
    stack = alt.vconcat(
        *charts,
        title=alt.TitleParams(_title(run), subtitle=_subtitle(run)),
        spacing=12,
        data=pd.DataFrame([row for panel in panels for row in rows(panel)], columns=pd.Index(ROW)),
    )
    return themed(stack.resolve_scale(color="independent", strokeDash="independent"))


def _lines(panel: Panel, legend_offset: int) -> list[alt.Chart]:
    names = list(panel.styles)
    colors, dashes = [color for color, _ in panel.styles.values()], [list(dash) for _, dash in panel.styles.values()]
    legend = _legend(names, 4 + legend_offset)
    color = alt.Color("line:N", scale=alt.Scale(domain=names, range=colors), legend=legend)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    num_steps = max(len(values) for values in panel.thick.values())
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


def _step_axis(last_step: int) -> alt.X:
    axis = alt.Axis(format="d", tickCount=min(10, last_step), labelFlush=False)
    return alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, last_step], nice=False), axis=axis)


def _collapsed_region(events: Events, last_step: int) -> list[alt.Chart]:
    """A light band from onset to the last step; none before a collapse."""
    spans = [{"step": step, "end": last_step} for step, words in events if words == EVENTS["onset_step"].label]
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
    return f"{run.get('model', 'a model')} trained on {TRAINING_SOURCES[run.get('train.source', 'own')]}"


def _subtitle(run: Mapping[str, Any]) -> str:
    """Learning rate, seed, how the run ended and the kind of collapse, as far as they are known."""
    facts = [
        f"learning rate {short(run['lr'])}" if _known(run, "lr") else None,
        f"seed {run['seed']}" if _known(run, "seed") else None,
        ENDED_BY[run["ended_by"]].label if _known(run, "ended_by") else "unfinished",
        f"kind {run['kind_at_end']}" if _known(run, "kind_at_end") else None,
    ]
    return "  ·  ".join(fact for fact in facts if fact)


def _known(run: Mapping[str, Any], name: str) -> bool:
    return not bool(pd.isna(run.get(name)))
