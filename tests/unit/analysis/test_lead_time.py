"""Leads and false alarms, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from collapselab.analysis.lead_time import (
    Rule,
    Series,
    either,
    false_alarms,
    leads,
    on_spans,
    performance,
    poisson_rate,
    roc_area,
)
from collapselab.collapse.warning import Alarm


def series(onset: float | None, num_steps: int, entropy: list[float] | None = None, arm: str = "a") -> Series:
    values = {"entropy_nats": np.array(entropy or [1.0] * num_steps)}
    course = "healthy" if onset is None else "collapsing"
    return Series("r", arm, 0, course, onset, np.arange(num_steps, dtype=float), values)


def fixed(*spans: tuple[float, float]) -> Rule:
    return Rule("fixed", lambda _: spans, 10)


def test_spans_begin_at_the_last_of_the_patience_and_end_at_the_next_low_value() -> None:
    high = np.array([0, 1, 0, 1, 1, 1, 0, 0, 1, 1], dtype=bool)
    low = np.array([1, 0, 0, 0, 0, 0, 0, 1, 0, 0], dtype=bool)
    assert on_spans(np.arange(10.0) * 2, high, low, 2) == [(8.0, 14.0), (18.0, math.inf)]


def test_the_lead_is_that_of_the_alarm_that_lasts_at_the_onset() -> None:
    lead_R, withdrawn = leads(fixed((10, 20), (60, math.inf)), [series(100, 150)])
    assert (lead_R.tolist(), withdrawn) == ([40.0], 1)
    assert leads(fixed((10, 20)), [series(100, 150)])[0].tolist() == [0.0], "withdrawn before: missed"
    assert leads(fixed((100, math.inf)), [series(100, 150)])[0].tolist() == [0.0], "at the onset: no lead"


def test_either_joins_spans_that_meet() -> None:
    joined = either("both", fixed((5, 9), (30, math.inf)), fixed((8, 12), (20, 21)))
    assert joined.spans(series(None, 50)) == [(5, 12), (20, 21), (30, math.inf)]


def test_false_alarms_are_counted_per_thousand_steps_after_the_warm_up() -> None:
    runs = [series(100, 120), series(None, 510), series(None, 510)]
    found = performance(fixed((50, 60), (70, math.inf)), runs, np.random.default_rng(0))
    alarms, steps = false_alarms(fixed((50, 60), (70, math.inf)), runs[1:])
    assert (alarms.tolist(), steps.tolist()) == ([2, 2], [500, 500])
    assert found.false_per_1000.estimate == 4.0
    assert (found.lead.estimate, found.lead_steps.estimate, found.missed.estimate) == (0.3, 30.0, 0.0)
    assert (found.withdrawn, found.healthy_runs_alarmed.estimate) == (1, 1.0)


def test_a_poisson_rate_has_garwoods_interval() -> None:
    chi2 = pytest.importorskip("scipy.stats").chi2
    found = poisson_rate(3, 20.0)
    expected = (chi2.ppf(0.025, 6) / 2 / 20, chi2.ppf(0.975, 8) / 2 / 20)
    assert (found.low, found.high) == pytest.approx(expected)
    assert poisson_rate(0, 20.0).low == 0.0
    assert poisson_rate(0, 0.0).estimate is None


def test_the_roc_area_is_one_where_the_scores_separate_and_a_half_where_they_do_not() -> None:
    alarm = Alarm("entropy_nats", -1, "ewma", "level", 1.0, 0.5, baseline=5)
    noise = np.random.default_rng(1).normal(1, 0.01, 200).tolist()
    falling = [1.0] * 10 + [0.5] * 30
    apart = [series(40, 40, falling), series(None, 200, noise)]
    assert roc_area(alarm, apart, np.random.default_rng(0)).estimate == 1.0
    alike = [series(200, 200, noise), series(None, 200, noise)]
    assert roc_area(alarm, alike, np.random.default_rng(0)).estimate == pytest.approx(0.5, abs=0.1)
