"""Figure 3, onset against size: points, medians and intervals."""

from __future__ import annotations

from collapselab.analysis.survival import median_onset
from collapselab.report.figures import sizes
from collapselab.report.figures.sizes import resampled_median
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs
from collapselab.report.values import short
from collapselab.rundir.frames import Runs
from figure_specs import drawn, rows_of


def test_figure_3_has_a_point_a_run_and_the_median_of_each_arm(sweep: Runs) -> None:
    rows = rows_of(drawn("figure-3", sweep))
    table = main_runs(run_table(sweep))
    panels = {(row["run"], row["step"], row["fate"]) for row in rows if "run" in row}
    fates = {True: "onset", False: "no onset by the last step"}
    expected = zip(table["run"], table["duration"], table["is_event"].map(fates), strict=True)
    assert panels == set(expected)
    assert {fate for _, _, fate in panels} == set(fates.values())
    medians = {(row["model"], row["curve"]): row["step"] for row in rows if "runs" in row}
    for (model, rate), arm in table.groupby(["model_label", "lr"]):
        assert (
            medians[model, short(rate)] == median_onset(arm["duration"].to_numpy(), arm["is_event"].to_numpy()).estimate
        )


def test_medians_have_the_interval_of_resampled_runs_and_none_where_censoring_hides_it(sweep: Runs) -> None:
    """Of seven resampled runs fewer than four are the earliest in 99 % of cases, but the second in only 90 %."""
    table = main_runs(run_table(sweep)).head(7).assign(duration=[10.0, 20, 30, 40, 50, 60, 70], curve="x")
    last_two, first = [True] * 5 + [False] * 2, [False] + [True] * 6
    assert resampled_median(table.assign(is_event=True)) == (20, 60)
    assert resampled_median(table.assign(is_event=last_two)) == (20, None)
    assert resampled_median(table.assign(is_event=first)) == (None, None)
    assert resampled_median(table.assign(is_event=True).head(1)) == (None, None)


def test_models_are_compared_at_equal_updates_where_those_are_recorded(sweep: Runs) -> None:
    plan = sizes.select(sweep)
    assert plan is not None
    assert [panel.title for panel in plan.panels] == ["at equal learning rates", "at equal update sizes"]
    assert list(plan.panels[1].curves) == ["0.004", "0.008"]
    assert list(plan.models) == ["nano (0.56 M)", "micro (2.2 M)"]
    plan = sizes.select(Runs(sweep.runs, sweep.steps.drop(columns="relative_update_norm"), sweep.samples))
    assert plan is not None
    assert [panel.title for panel in plan.panels] == ["at equal learning rates"]


def test_figure_3_again_has_arms_of_equal_sharpening_and_updates(samplers: Runs) -> None:
    plan = sizes.select_sharpened(samplers)
    assert plan is not None
    titles = ["at equal learning rates", "at equal update sizes", "at equal sharpening and updates"]
    assert [panel.title for panel in plan.panels] == titles
    last = plan.panels[-1]
    assert last.curves == ["0.1, 0.008"]
    arms = {(row["model"], row["lr"], row["sampling.temperature"]) for row in last.table.to_dict("records")}
    assert arms == {("builtin:nano", 8e-5, 0.8), ("builtin:micro", 8e-5, 0.8)}
    assert len(drawn("figure-3-sharpening", samplers)["hconcat"]) == 3
    steps = samplers.steps.copy()
    is_micro = steps["run"].str.startswith("micro")
    steps.loc[is_micro, "sharpening_nats"] *= 1.2
    assert sizes.select_sharpened(Runs(samplers.runs, steps, samplers.samples)) is None, "more than a tenth apart"
    plan = sizes.select(samplers)
    assert plan is not None
    assert [panel.title for panel in plan.panels] == titles[:2], "Figure 3 itself stays as it was"
