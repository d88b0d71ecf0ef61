"""The median of onsets without a band is that of Kaplan and Meier's curve."""

from __future__ import annotations

import numpy as np

from collapselab.analysis.survival import median_onset, median_step


def test_the_fast_median_is_that_of_the_curve() -> None:
    draw = np.random.default_rng(0)
    for _ in range(40):
        n = int(draw.integers(1, 9))
        durations, events = draw.integers(1, 12, n).astype(float), draw.random(n) < 0.6
        assert median_step(durations, events) == median_onset(durations, events).estimate


def test_half_of_the_runs_is_enough() -> None:
    assert median_step([10, 20, 30, 40], [True, True, False, False]) == 20
    assert median_step([10, 20, 30, 40], [True, False, False, False]) is None
