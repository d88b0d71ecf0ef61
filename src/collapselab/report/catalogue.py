"""Every figure of a report, by its key: what it is called, what it shows in words, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from collapselab.analysis.survival import Frame
from collapselab.report import captions, plans
from collapselab.report.barcode import barcode, judged_samples
from collapselab.report.groups import main_runs, run_table
from collapselab.report.loss_curves import loss_curves
from collapselab.report.onset_figures import onset_by_size, survival_curves
from collapselab.report.plans import LossPlan, OnsetPlan
from collapselab.report.run_figures import anatomy_figure
from collapselab.report.schema import schema
from collapselab.rundir.frames import Runs

NOT_DRAWN = "Not drawn: "


@dataclass(frozen=True)
class Figure:
    """A figure of any runs.

    `draw` returns `None` where the runs do not have what it needs. `caption` says in words, with figures, what is seen;
    it is the text alternative. Where nothing is drawn, it says what is missing.
    """

    key: str
    title: str
    caption: Callable[[Runs], str]
    draw: Callable[[Runs], alt.TopLevelMixin | None]


def _draw_loop(runs: Runs) -> alt.LayerChart | None:
    table = _loop_runs(runs)
    return None if table.empty else schema(table)


def _loop_caption(runs: Runs) -> str:
    table = _loop_runs(runs)
    return f"{NOT_DRAWN}no run has a step yet." if table.empty else captions.of_loop(table)


def _loop_runs(runs: Runs) -> Frame:
    table = run_table(runs)
    main = main_runs(table)
    return table if main.empty else main


def _losses(key: str, title: str, words: str, plan: Callable[[Runs], LossPlan | None], missing: str) -> Figure:
    def draw(runs: Runs) -> alt.VConcatChart | None:
        found = plan(runs)
        return None if found is None else loss_curves(runs, found.table, found.layout, words)

    def caption(runs: Runs) -> str:
        found = plan(runs)
        return NOT_DRAWN + missing if found is None else captions.of_losses(runs, found)

    return Figure(key, title, caption, draw)


def _onsets(
    key: str,
    title: str,
    plan: Callable[[Runs], OnsetPlan | None],
    draw_plan: Callable[[OnsetPlan], alt.TopLevelMixin],
    describe: Callable[[OnsetPlan], str],
    missing: str,
) -> Figure:
    def draw(runs: Runs) -> alt.TopLevelMixin | None:
        found = plan(runs)
        return None if found is None else draw_plan(found)

    def caption(runs: Runs) -> str:
        found = plan(runs)
        return NOT_DRAWN + missing if found is None else describe(found)

    return Figure(key, title, caption, draw)


def _draw_anatomy(runs: Runs) -> alt.VConcatChart | None:
    row = plans.one_run(runs)
    return None if row is None else anatomy_figure(_of(runs.steps, row), row)


def _anatomy_caption(runs: Runs) -> str:
    row = plans.one_run(runs)
    if row is None:
        return f"{NOT_DRAWN}no run on its own text."
    return captions.of_one_run(_of(runs.steps, row), row)


def _draw_barcode(runs: Runs) -> alt.LayerChart | None:
    row = plans.one_run(runs)
    return None if row is None else barcode(_of(runs.samples, row), row)


def _barcode_caption(runs: Runs) -> str:
    row = plans.one_run(runs)
    if row is None or judged_samples(_of(runs.samples, row), row).empty:
        return f"{NOT_DRAWN}no run on its own text has samples."
    return captions.of_barcode(_of(runs.samples, row), row)


def _of(frame: Frame, row: Mapping[str, Any]) -> Frame:
    return frame[frame["run"] == row["run"]]


_LOSS_TITLE = "Losses of models trained on their own text"
_BY_SIZE = "Onset of collapse against model size"
_BY_RATE = "Runs without onset of collapse, by learning rate"
_FIGURES = (
    Figure("figure-1", "Figure 1: the loop, with the settings of these runs", _loop_caption, _draw_loop),
    _losses(
        "figure-2",
        "Figure 2: validation and training loss against step, first text",
        _LOSS_TITLE,
        partial(plans.by_learning_rate, position=0),
        "no run on its own text has a validation loss.",
    ),
    _onsets(
        "figure-3",
        "Figure 3: onset of collapse against model size",
        plans.sizes_compared,
        lambda plan: onset_by_size(plan.panels, plan.models, _BY_SIZE),
        captions.of_sizes,
        "no two models were run at equal learning rates or update sizes.",
    ),
    _losses(
        "figure-4",
        "Figure 4: validation and training loss against step, second text",
        _LOSS_TITLE,
        partial(plans.by_learning_rate, position=1),
        "no run on its own text has a validation loss on a second text.",
    ),
    _onsets(
        "survival-by-learning-rate",
        "Survival curves of onset, by learning rate",
        plans.rates_survived,
        lambda plan: survival_curves(plan.panels, _BY_RATE),
        captions.of_survival,
        "fewer than two runs on their own text could be judged.",
    ),
    _onsets(
        "survival-by-size",
        "Survival curves of onset, by model size",
        plans.sizes_survived,
        lambda plan: survival_curves(plan.panels, "Runs without onset of collapse, by model size"),
        captions.of_survival,
        "no two models were run at equal learning rates.",
    ),
    _losses(
        "arms",
        "Controls and other arms: losses at equal model and learning rate",
        "Losses by arm, at equal model and learning rate",
        plans.by_arm,
        "no two runs of one model at one learning rate differ in anything but the seed.",
    ),
    Figure("anatomy", "Anatomy of a collapse: one run", _anatomy_caption, _draw_anatomy),
    Figure("barcode", "The text barcode: how repetition takes over one run", _barcode_caption, _draw_barcode),
)
FIGURES: dict[str, Figure] = {figure.key: figure for figure in _FIGURES}
