"""The anatomy of a collapse: losses, repetition and entropy of one run on one step axis."""

from __future__ import annotations

import altair as alt

from collapselab.collapse.numbers import label, unit
from collapselab.config.base import split_at_commas
from collapselab.report.captions import events_in_words, run_in_words, sentence
from collapselab.report.curves import run_series
from collapselab.report.entries import Figure
from collapselab.report.run_figure import stack
from collapselab.report.run_panels import entropy_panel, loss_panel, repetition_panel, reward_panel, thinned
from collapselab.report.selection import OneRun, one_run


def draw(run: OneRun) -> alt.VConcatChart:
    """As `run_figure.loss_figure`, and below it the entropy of the model's predictions and of its text.

    A training that was watched has its mean reward below, if there is one, and no loss, if that is unknown.

    In a run of over 400 steps, lines keep the largest and smallest value of each 200th of the run, so the figure stays
    small and peaks remain.
    """
    draws = (loss_panel, repetition_panel, entropy_panel, reward_panel)
    panels = [panel for draw in draws if not (panel := draw(run.steps)).is_empty()]
    return stack(run.steps, run.row, [thinned(panel) for panel in panels or [loss_panel(run.steps)]])


def caption(run: OneRun) -> str:
    first_text = split_at_commas(str(run.row["data"]))[0]
    changes = [
        f"{label(name)} from {values[0]:.2f} at step {at[0]:.0f} to {values[-1]:.2f} at step {at[-1]:.0f} "
        f"({unit(name)})"
        for name in ("train_nll_nats", f"val_nll_nats[{first_text}]", "seq_rep_4", "entropy_nats")
        for at, values in run_series(run.steps, name).values()
    ]
    return f"{run_in_words(run.row)}. {sentence('; '.join(changes))}. {events_in_words(run.row)}"


FIGURE = Figure("Anatomy of a collapse: one run", one_run, draw, caption, "no run on its own text.")
