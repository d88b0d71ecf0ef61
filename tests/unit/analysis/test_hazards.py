"""What hastens onset: against lifelines, slow definitions and values by hand, with censoring, ties and separation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.statistics import logrank_test
from numpy.typing import NDArray
from test_survival import PLACEBO, PLACEBO_EVENTS, TREATED, TREATED_EVENTS

from collapselab.analysis.hazards import hazard_ratio
from collapselab.analysis.trend import log_rank_trend

DURATIONS, EVENTS = TREATED + PLACEBO, TREATED_EVENTS + PLACEBO_EVENTS
IS_PLACEBO = [0.0] * 21 + [1.0] * 21

Draw = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.int_], NDArray[np.int_]]


def random_runs(seed: int, n: int = 30) -> Draw:
    """Durations with ties and censoring, scores, strata, clusters."""
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 4, n).astype(float)
    durations = np.ceil(draw.exponential(20, n) / (1 + scores))
    return durations, draw.random(n) < 0.7, scores, draw.integers(0, 3, n), draw.integers(0, 5, n)


# --- trend


def test_two_scores_are_the_log_rank_test_of_the_textbook() -> None:
    test = log_rank_trend(DURATIONS, EVENTS, IS_PLACEBO)
    expected = logrank_test(PLACEBO, TREATED, PLACEBO_EVENTS, TREATED_EVENTS)
    assert test.statistic is not None
    assert test.statistic > 0, "placebo comes first"
    assert test.statistic**2 == pytest.approx(expected.test_statistic)
    assert test.p_value == pytest.approx(expected.p_value)
    assert log_rank_trend(DURATIONS, EVENTS, [1 - x for x in IS_PLACEBO]).statistic == pytest.approx(-test.statistic)


def slow_trend(
    durations: Sequence[float], events: Sequence[bool], scores: Sequence[float], strata: Sequence[int]
) -> float:
    """U/√V, time by time and stratum by stratum."""
    rows = list(zip(durations, events, scores, strata, strict=True))
    total = variance = 0.0
    for time, stratum in {(row[0], row[3]) for row in rows if row[1]}:
        at_risk = [row[2] for row in rows if row[3] == stratum and row[0] >= time]
        collapsing = [row[2] for row in rows if row[3] == stratum and row[0] == time and row[1]]
        n, d = len(at_risk), len(collapsing)
        total += sum(collapsing) - d * float(np.mean(at_risk))
        variance += d * (n - d) / (n - 1) * float(np.var(at_risk)) if n > 1 else 0.0
    return total / math.sqrt(variance)


@pytest.mark.parametrize("seed", range(5))
def test_trend_is_the_slow_definition(seed: int) -> None:
    durations, events, scores, strata, _ = random_runs(seed)
    assert log_rank_trend(durations, events, scores, strata).statistic == pytest.approx(
        slow_trend(durations.tolist(), events.tolist(), scores.tolist(), strata.tolist())
    )


def test_few_runs_have_an_exact_p_value() -> None:
    # All of one kind before all of the other: 2 of the 20 ways to choose three of six.
    assert log_rank_trend([1, 2, 3, 9, 9, 9], [True] * 3 + [False] * 3, [1, 1, 1, 0, 0, 0]).p_value == pytest.approx(
        0.1
    )
    # The same in a second stratum of four: 2 of 20 · 6.
    two = log_rank_trend(
        [1, 2, 3, 9, 9, 9, 4, 5, 9, 9], [True] * 3 + [False] * 3 + [True] * 2 + [False] * 2,
        [1, 1, 1, 0, 0, 0, 1, 1, 0, 0], [0] * 6 + [1] * 4,
    )  # fmt: skip
    assert two.p_value == pytest.approx(2 / 120)


def test_the_exact_p_value_counts_all_arrangements() -> None:
    durations, events, scores = [1, 4, 2, 6, 6, 3], [True, False, True, True, True, True], [0.0, 1, 2, 0, 1, 2]
    u = [slow_u(durations, events, list(order)) for order in itertools.permutations(scores)]
    observed = abs(slow_u(durations, events, scores))
    expected = np.mean([abs(value) >= observed - 1e-9 for value in u])
    assert log_rank_trend(durations, events, scores).p_value == pytest.approx(expected)


def slow_u(durations: Sequence[float], events: Sequence[bool], scores: Sequence[float]) -> float:
    at_risk = [[s for s, d in zip(scores, durations, strict=True) if d >= time] for time in durations]
    return sum(s - float(np.mean(r)) for s, r, event in zip(scores, at_risk, events, strict=True) if event)


def test_one_cluster_has_no_p_value() -> None:
    durations, events, scores, strata, _ = random_runs(0)
    test = log_rank_trend(durations, events, scores, strata, clusters=[7] * 30)
    assert test.statistic is not None
    assert (test.p_value, test.reason) == (None, "one seed")


@pytest.mark.parametrize("case", [([], [], []), ([3, 4], [True, True], [1, 1]), ([3, 4], [False, False], [0, 1])])
def test_no_order_no_test(case: tuple[list[float], list[bool], list[float]]) -> None:
    test, ratio = log_rank_trend(*case), hazard_ratio(*case)
    assert (test.statistic, test.p_value, ratio.p_value, ratio.interval.estimate) == (None, None, None, None)
    assert test.reason == ratio.reason is not None


def test_two_arms_of_five_and_five_have_the_exact_p_value_of_all_their_arrangements() -> None:
    one = [*range(10, 15), *[99] * 5]
    test = log_rank_trend(one * 2, ([True] * 5 + [False] * 5) * 2, ([1] * 5 + [0] * 5) * 2, [0] * 10 + [1] * 10)
    assert test.p_value == pytest.approx(2 / 252**2)


# --- hazard ratio


def test_the_penalised_ratio_of_two_runs_by_hand() -> None:
    # With p the chance that the run with score 1 comes first, log p + ½ log p(1 − p) is largest at p = 3/4.
    ratio = hazard_ratio([1, 2], [True, True], [1, 0])
    assert ratio.interval.estimate == pytest.approx(3, rel=1e-5)
    # 2 (ℓ_max − ℓ(0)) with ℓ(p) = 1.5 log p + .5 log(1 − p)
    drop = 2 * (1.5 * math.log(1.5) + 0.5 * math.log(0.5))
    assert ratio.p_value == pytest.approx(math.erfc(math.sqrt(drop / 2)), rel=1e-5)


def slow_penalised(beta: float, durations: list[float], events: list[bool], x: list[float], strata: list[int]) -> float:
    """log L + ½ log I with Efron's ties, by sums over runs."""
    likelihood = information = 0.0
    rows = list(zip(durations, events, x, strata, strict=True))
    for time, stratum in {(row[0], row[3]) for row in rows if row[1]}:
        tied = [row[2] for row in rows if row[0] == time and row[1] and row[3] == stratum]
        risk = [row[2] for row in rows if row[0] >= time and row[3] == stratum]
        for k in range(len(tied)):

            def moment(power: int, k: int = k, tied: list[float] = tied, risk: list[float] = risk) -> float:
                whole = sum(v**power * math.exp(beta * v) for v in risk)
                return whole - k / len(tied) * sum(v**power * math.exp(beta * v) for v in tied)

            likelihood += tied[k] * beta - math.log(moment(0))
            information += moment(2) / moment(0) - (moment(1) / moment(0)) ** 2
    return likelihood + 0.5 * math.log(information)


@pytest.mark.parametrize("seed", range(3))
def test_the_ratio_and_its_interval_are_those_of_the_slow_likelihood(seed: int) -> None:
    durations, events, x, strata, _ = random_runs(seed)
    data = (durations.tolist(), events.tolist(), x.tolist(), strata.tolist())
    interval = hazard_ratio(durations, events, x, strata).interval
    grid = np.linspace(-3, 3, 601)
    values = [slow_penalised(beta, *data) for beta in grid]
    assert interval.estimate is not None
    assert interval.low is not None
    assert interval.high is not None
    assert math.log(interval.estimate) == pytest.approx(grid[int(np.argmax(values))], abs=0.01)  # the grid's step
    top = slow_penalised(math.log(interval.estimate), *data)
    for end in (interval.low, interval.high):
        assert 2 * (top - slow_penalised(math.log(end), *data)) == pytest.approx(3.841459, abs=1e-5)


def test_with_many_runs_the_penalty_is_nothing() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=400)
    durations = draw.exponential(size=400) * np.exp(-0.7 * x)
    firth = hazard_ratio(durations, [True] * 400, x).interval
    plain = CoxPHFitter().fit(pd.DataFrame({"t": durations, "x": x}), "t").summary.loc["x"]
    cox = (plain["exp(coef)"], plain["exp(coef) lower 95%"], plain["exp(coef) upper 95%"])
    for one, other in zip((firth.estimate, firth.low, firth.high), cox, strict=True):
        assert one == pytest.approx(other, rel=0.01)  # of order 1/n apart


def test_separated_runs_have_a_finite_ratio() -> None:
    x = np.repeat([0.0, 1.0, 2.0], 5)
    durations = [300, 310, 290, 280, 320, 150, 160, 155, 140, 145, 70, 75, 80, 72, 74]
    ratio = hazard_ratio(durations, [True] * 15, x)
    assert ratio.interval.low is not None
    assert ratio.interval.high is not None
    assert 1 < ratio.interval.low < (ratio.interval.estimate or 0) < ratio.interval.high < math.inf


def test_a_ratio_is_per_unit_and_has_a_direction() -> None:
    durations, events, x, strata, _ = random_runs(3)
    one, half, other = (hazard_ratio(durations, events, scale * x, strata).interval for scale in (1, 2, -1))
    assert half.estimate == pytest.approx(math.sqrt(one.estimate or 0), rel=1e-5)
    assert other.low == pytest.approx(1 / (one.high or 0), rel=1e-5)
    # A hazard ratio per unit of a raw learning rate is no number.
    assert hazard_ratio(durations, events, 1e-5 * x, strata).interval.estimate is None


def test_clusters_widen_the_interval_and_one_has_none() -> None:
    # Two runs a seed that agree with each other: half as much is known as there are runs.
    durations, events, x, strata, _ = random_runs(4, 12)
    twice = [np.repeat(values, 2) for values in (durations, events, x, strata)]
    pairs = np.repeat(np.arange(12), 2)
    plain, clustered = hazard_ratio(*twice), hazard_ratio(*twice, clusters=pairs)
    assert (clustered.interval.low or 0) < (plain.interval.low or 0)
    assert (clustered.interval.high or 0) > (plain.interval.high or 0)
    assert (clustered.p_value or 0) > (plain.p_value or 1)
    alone = hazard_ratio(*twice, clusters=[1] * 24)
    assert (alone.interval.low, alone.interval.high, alone.p_value) == (None, None, None)


# --- how often chance alone convinces


def false_positives(draw: Callable[[np.random.Generator], Draw], *, clustered: bool, num_worlds: int = 400) -> float:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(num_worlds):
        durations, events, scores, strata, clusters = draw(generator)
        test = log_rank_trend(durations, events, scores, strata, clusters if clustered else None)
        hits += test.p_value is not None and test.p_value < 0.05
    return hits / num_worlds


def grid(num_models: int, num_rates: int, num_seeds: int) -> tuple[NDArray[np.int_], ...]:
    axes = np.meshgrid(np.arange(num_models), np.arange(num_rates), np.arange(num_seeds), indexing="ij")
    return tuple(axis.ravel() for axis in axes)


def independent(draw: np.random.Generator) -> Draw:
    model, rate, seed = grid(1, 5, 5)
    onset = np.round(100 * np.exp(0.4 * draw.normal(size=25)))
    return np.minimum(onset, 150), onset < 150, rate.astype(float), model, seed


def seeds_resemble_each_other(draw: np.random.Generator) -> Draw:
    """A model's runs from one seed go alike at every learning rate; models do not differ."""
    model, rate, seed = grid(3, 5, 5)
    onset = np.round(400 / 2**rate * np.exp(0.3 * draw.normal(size=(3, 5))[model, seed] + 0.2 * draw.normal(size=75)))
    return np.minimum(onset, 300), onset < 300, model.astype(float), rate, seed


def test_chance_convinces_once_in_twenty() -> None:
    # 400 worlds, 5 %: a standard deviation is 1.1 %.
    assert false_positives(independent, clustered=False) == pytest.approx(0.05, abs=0.025)
    assert false_positives(independent, clustered=True) <= 0.06


def test_seeds_that_resemble_each_other_do_not_convince() -> None:
    assert false_positives(seeds_resemble_each_other, clustered=False) > 0.2, "taken as independent they would"
    assert false_positives(seeds_resemble_each_other, clustered=True) <= 0.09
