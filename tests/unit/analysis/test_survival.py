"""Onset as a time to event: what of a run is an event, and curves, means and tests on known data."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from collapselab.analysis.intervals import Interval
from collapselab.analysis.survival import (
    CURVE_COLUMNS,
    kaplan_meier,
    median_onset,
    onset_times,
    restricted_mean,
)
from collapselab.rundir.frames import Runs

# Weeks in remission of leukaemia (Freireich et al. 1963), the example of most textbooks.
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
TREATED_EVENTS = [True] * 9 + [False] * 12
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
PLACEBO_EVENTS = [True] * 21

# --- onset


def a_run(
    verdicts: str, onset: int | None = None, *, finished: bool = True, patience: int = 3, every: int = 1
) -> tuple[dict[str, object], pd.DataFrame]:
    """A run by its samples: `.` is healthy, `x` degenerate, `?` not judged. Judged every n steps."""
    letters = {".": False, "x": True, "?": None}
    degenerate = [letters[v] if i == 0 else None for v in verdicts for i in range(every)]
    row: dict[str, object] = {"ended_by": "budget" if finished else None, "onset_step": onset}
    row |= {"collapse.patience": patience, "collapse.window": 8}
    steps = {"step": range(len(degenerate)), "degenerate": degenerate}
    return row, pd.DataFrame(steps).astype({"degenerate": "boolean", "step": "Int64"})


def onsets(*made: tuple[dict[str, object], pd.DataFrame]) -> list[tuple[float, bool]]:
    rows = pd.DataFrame([{"run": f"r{i}", **row} for i, (row, _) in enumerate(made)]).astype({"onset_step": "Int64"})
    steps = pd.concat([frame.assign(run=f"r{i}") for i, (_, frame) in enumerate(made)])
    found = onset_times(Runs(rows, steps, pd.DataFrame()))
    assert found["run"].tolist() == rows["run"].tolist()
    return list(zip(found["duration"], found["is_event"], strict=True))


def test_an_onset_is_an_event_and_no_onset_is_censored() -> None:
    assert onsets(a_run("...xxx", 3), a_run("....")) == [(3.0, True), (3.0, False)]


def test_a_diverged_run_is_censored_at_its_last_judged_step_before_that() -> None:
    """Nothing is judged from divergence on, however long the run goes on."""
    assert onsets(a_run("....????"), a_run("..x?????"), a_run("..xxx???", 2)) == [
        (3.0, False),
        (1.0, False),
        (2.0, True),
    ]


def test_a_run_without_onset_is_censored_before_the_earliest_that_could_follow() -> None:
    """Onset is dated back: what the last steps were to become was not seen."""
    assert onsets(a_run("..xx"), a_run("..xxxxxxx"), a_run("..xx......"), a_run(".x.x.")) == [
        (1.0, False),
        (1.0, False),
        (9.0, False),
        (4.0, False),
    ]


def test_a_run_that_may_have_begun_collapsed_has_no_time() -> None:
    ((duration, is_event),) = onsets(a_run("xxxx"))
    assert math.isnan(duration)
    assert not is_event


def test_probes_say_nothing_of_the_steps_after_the_last() -> None:
    # Probes at 0, 10, 20; the run ends at step 29.
    assert onsets(a_run("...", every=10), a_run("..x", every=10)) == [(20.0, False), (10.0, False)]


def test_the_summary_of_a_finished_run_is_believed() -> None:
    assert onsets(a_run("....xxxxxxxx", 3), a_run("....xxxxxxxx")) == [(3.0, True), (3.0, False)]


def test_an_unfinished_run_is_judged_by_its_records() -> None:
    assert onsets(
        a_run("..x..xxxxxxxx", finished=False),
        a_run("....", finished=False),
        a_run("..xxxxxxx", finished=False, patience=2),
        a_run("..xxxxxxx", finished=False),
    ) == [(5.0, True), (3.0, False), (2.0, True), (1.0, False)]


def test_streaks_of_different_runs_do_not_join() -> None:
    assert onsets(a_run("..xxxxxxx", finished=False), a_run("x.......", finished=False)) == [(1.0, False), (7.0, False)]


def test_a_run_that_was_never_judged_is_unknown() -> None:
    ((duration, is_event),) = onsets(a_run("???"))
    assert math.isnan(duration)
    assert not is_event
    rows = pd.DataFrame({"run": ["a"], "ended_by": [None], "onset_step": [None], "collapse.patience": [3]})
    rows["collapse.window"] = 8
    empty = onset_times(Runs(rows, pd.DataFrame(columns=pd.Index(["run", "step"])), pd.DataFrame()))
    assert empty["duration"].isna().tolist() == [True]


# --- curves


def test_the_survival_curve_of_the_textbook() -> None:
    curve = kaplan_meier(TREATED, TREATED_EVENTS).set_index("step")
    assert tuple(kaplan_meier(TREATED, TREATED_EVENTS).columns) == CURVE_COLUMNS
    known = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert curve.loc[list(known), "survival"].tolist() == pytest.approx(list(known.values()), abs=5e-4)
    assert curve.loc[[0, 6, 7, 9, 10, 23], "at_risk"].tolist() == [21, 21, 17, 16, 15, 6]
    assert curve.loc[[0, 6, 7, 9, 10, 23], "events"].tolist() == [0, 3, 1, 0, 1, 1]
    assert curve.loc[35, "survival"] == curve.loc[23, "survival"], "a censored run lowers nothing"


def test_the_band_by_hand() -> None:
    # Two of four collapse at step 5, one is censored, one collapses at 9.
    curve = kaplan_meier([5, 5, 7, 9], [True, True, False, True]).set_index("step")
    assert curve["survival"].tolist() == pytest.approx([1, 0.5, 0.5, 0])
    greenwood = 2 / (4 * 2)
    spread = 1.959964 * math.sqrt(greenwood) / abs(math.log(0.5))
    assert curve.loc[5, "low"] == pytest.approx(0.5 ** math.exp(spread))
    assert curve.loc[5, "high"] == pytest.approx(0.5 ** math.exp(-spread))
    assert curve.loc[[0, 9], ["low", "high"]].isna().all(axis=None), "no variance where survival is 1 or 0"


def test_the_band_is_that_of_lifelines_at_any_level() -> None:
    fitted = KaplanMeierFitter().fit(TREATED, TREATED_EVENTS, alpha=0.2)
    curve = kaplan_meier(TREATED, TREATED_EVENTS, level=0.8)
    expected = fitted.confidence_interval_.to_numpy()[1:]
    assert curve[["low", "high"]].to_numpy()[1:] == pytest.approx(expected)


def test_one_run_has_a_curve_without_a_band() -> None:
    curve = kaplan_meier([5], [True])
    assert curve["survival"].tolist() == [1.0, 0.0]
    assert curve[["low", "high"]].isna().all(axis=None)
    assert kaplan_meier([], []).empty


# --- medians and means


def test_the_median_of_the_textbook() -> None:
    assert median_onset(TREATED, TREATED_EVENTS) == Interval(23.0, 13.0, None, 0.95, 21)
    assert median_onset(PLACEBO, PLACEBO_EVENTS) == Interval(8.0, 4.0, 11.0, 0.95, 21)


def test_the_median_is_where_half_have_collapsed() -> None:
    # Survival is exactly 1/2 at step 6; a product of logarithms makes it .5000000001.
    assert median_onset([6, 6, 6, 7, 10, 13], [True] * 6).estimate == 6.0
    assert median_onset([6, 7, 8], [True, False, False]) == Interval(None, 6.0, None, 0.95, 3)
    assert median_onset([6], [True]) == Interval(6.0, None, None, 0.95, 1)
    assert median_onset([], []) == Interval(None, None, None, 0.95, 0)


@pytest.mark.parametrize("horizon", [4.0, 8.0, 11.5, 23.0, 40.0])
def test_without_censoring_the_restricted_mean_is_a_mean(horizon: float) -> None:
    restricted = np.minimum(PLACEBO, horizon)
    interval = restricted_mean(PLACEBO, PLACEBO_EVENTS, horizon)
    half = 1.959964 * float(restricted.std()) / math.sqrt(21)
    assert interval.estimate == pytest.approx(restricted.mean())
    assert (interval.low, interval.high) == pytest.approx((restricted.mean() - half, restricted.mean() + half))


def test_the_restricted_mean_with_censoring_by_hand() -> None:
    # Survival 1 to step 2, 3/4 to 5 (one censored at 3), 3/8 to the horizon 9.
    interval = restricted_mean([2, 3, 5, 10], [True, False, True, False], 9)
    assert interval.estimate == pytest.approx(2 + 3 * 3 / 4 + 4 * 3 / 8)
    variance = (3 * 3 / 4 + 4 * 3 / 8) ** 2 / (4 * 3) + (4 * 3 / 8) ** 2 / (2 * 1)
    assert interval.high == pytest.approx(2 + 2.25 + 1.5 + 1.959964 * math.sqrt(variance))


def test_a_mean_beyond_all_observation_is_unknown() -> None:
    assert restricted_mean([2, 8], [True, False], 9) == Interval(None, None, None, 0.95, 2)
    assert restricted_mean([2, 8], [True, False], 8).estimate == pytest.approx(2 + 6 / 2)
    assert restricted_mean([2, 8], [True, True], 9).estimate == pytest.approx(5)
    assert restricted_mean([4], [True], 9) == Interval(4.0, None, None, 0.95, 1)
    assert restricted_mean([8, 9], [False, False], 5) == Interval(5.0, None, None, 0.95, 2)
    assert restricted_mean([], [], 5) == Interval(None, None, None, 0.95, 0)
