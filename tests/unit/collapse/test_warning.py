"""Early warning: alarms against values by hand, and the fold against whole runs at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.analysis.lead_time import Series, alarm_rule, scores
from collapselab.collapse.warning import ALARMS, SIGNALS, Alarm, Warnings, Watch, warning_in_words, warning_values
from collapselab.records import Value

EWMA = Alarm("entropy_nats", -1, "ewma", "level", 0.5, 0.2, baseline=3, patience=2)
CUSUM = Alarm("seq_rep_4", 1, "cusum", "spread", 0.5, 4.0, baseline=3, patience=1)


def watched(alarm: Alarm, values: list[float | None]) -> list[Watch]:
    watch, found = Watch(alarm), list[Watch]()
    for step, value in enumerate(values):
        watch = watch.see(step, value)
        found.append(watch)
    return found


def test_an_average_warns_after_two_values_beyond_its_threshold_and_ends_below_half_of_it() -> None:
    seen = watched(EWMA, [4.0, 2.0, 3.0, 3.0, 1.5, 1.5, 1.5, 3.0, 3.0, 3.0])
    assert seen[2].level == 3.0, "the median of the first three"
    assert [round(watch.score, 4) for watch in seen[3:]] == [0, 0.25, 0.375, 0.4375, 0.2188, 0.1094, 0.0547]
    assert [watch.since for watch in seen[3:]] == [None, None, 5, 5, 5, 5, None]
    assert seen[5].change == pytest.approx(-0.375)


def test_a_sum_forgives_its_allowance_and_never_falls_below_zero() -> None:
    seen = watched(CUSUM, [0.1, 0.2, 0.3, 0.0, 0.5, 0.5, 0.2])
    assert seen[2].unit == pytest.approx(0.1)
    assert [round(watch.score, 4) for watch in seen[3:]] == [0, 2.5, 5.0, 4.5]
    assert [watch.since for watch in seen[3:]] == [None, None, 5, 5]


def test_what_is_unknown_or_not_finite_changes_nothing() -> None:
    with_gaps = watched(EWMA, [4.0, None, 2.0, math.nan, 3.0, math.inf, 1.5])[-1]
    assert with_gaps == watched(EWMA, [4.0, 2.0, 3.0, 1.5])[-1]


def test_the_warning_is_that_of_the_alarm_that_lasts_longest() -> None:
    warnings = Warnings.of((EWMA, CUSUM))
    for step, (entropy, repeats) in enumerate([(3.0, 0.1)] * 3 + [(3.0, 0.9)] * 2 + [(0.1, 0.9)] * 4):
        warnings = warnings.see(step, {"entropy_nats": entropy, "seq_rep_4": repeats})
    assert [(watch.alarm.signal, watch.since) for watch in warnings.on] == [("seq_rep_4", 3), ("entropy_nats", 6)]
    assert warnings.since == 3


def steps_of(repeats: list[float]) -> list[dict[str, Value]]:
    return [{"step": 10 * i, "seq_rep_4": value} for i, value in enumerate(repeats)]


def test_the_lead_is_that_of_the_warning_that_lasts_at_the_onset() -> None:
    rises = steps_of([0.1, 0.2, 0.3, 0.9, 0.0, 0.0, 0.9, 0.9, 0.9])
    assert warning_values(rises[:4], None, (CUSUM,)) == {"warned_step": 30, "warning_lead": None}
    assert warning_values(rises[:6], None, (CUSUM,))["warned_step"] is None, "withdrawn"
    assert warning_values(rises, 80, (CUSUM,)) == {"warned_step": 60, "warning_lead": 0.25}
    assert warning_values(rises, 50, (CUSUM,))["warned_step"] is None, "what comes after the onset is no warning"
    assert warning_values(rises, 80, ())["warned_step"] is None
    assert warning_in_words(60, 80) == "early warning at step 60, 25 % of the time to onset ahead"
    assert warning_in_words(60, None) == "early warning at step 60"
    assert warning_in_words(None, 80) == ""


@pytest.mark.parametrize("alarm", [EWMA, CUSUM, *ALARMS])
@settings(deadline=None)
@given(values=st.lists(st.one_of(st.floats(0, 5), st.just(math.nan)), max_size=60))
def test_whole_runs_at_once_equal_the_fold(alarm: Alarm, values: list[float]) -> None:
    seen = watched(alarm, list(values))
    series = Series("r", "a", 0, "healthy", None, np.arange(len(values), dtype=float), {alarm.signal: np.array(values)})
    _, score_N = scores(series, alarm)
    at_known = [watch.score for watch, value in zip(seen, values, strict=True) if math.isfinite(value)]
    np.testing.assert_allclose(score_N, at_known[alarm.baseline :], rtol=1e-7, atol=1e-7)
    begun = {watch.since for watch in seen if watch.since is not None}
    assert {begin for begin, _ in alarm_rule("", alarm).spans(series)} == begun


def test_alarms_watch_known_signals_in_their_direction() -> None:
    assert [alarm for alarm in ALARMS if SIGNALS[alarm.signal].direction != alarm.direction] == []
    assert {SIGNALS[alarm.signal].needs for alarm in ALARMS} == {"text", "model"}
