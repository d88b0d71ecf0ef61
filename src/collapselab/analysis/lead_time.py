"""How far ahead of an onset an alarm begins, and how often it does so in runs that stay healthy.

results/early-warning has the rules. The statistics are those of `collapse.warning`, over whole runs at once; a test
holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from collapselab.analysis.evidence import Material
from collapselab.analysis.intervals import LEVEL, NUM_RESAMPLES, Bools, Floats, Interval, share_interval
from collapselab.analysis.sampler import is_pure, measured, regimes
from collapselab.analysis.survival import Frame
from collapselab.collapse.warning import Alarm, unit_of

Course = Literal["collapsing", "melting", "healthy"]
Spans = Sequence[tuple[float, float]]
ROC_PART = 1 / 2  # the part of the time to onset whose steps the ROC area tells from healthy ones


@dataclass(frozen=True)
class Series:
    """The numbers of one run's T steps, by name; a step of which a number is unknown has NaN. `arm` groups seeds."""

    run: str
    arm: str
    seed: int
    course: Course
    onset: float | None
    step_T: Floats
    values: Mapping[str, Floats]


@dataclass(frozen=True)
class Rule:
    """A rule that warns: from a run, the spans [begin, end) of steps at which it does. `warm_up`: values it skips."""

    name: str
    spans: Callable[[Series], Spans]
    warm_up: int


@dataclass(frozen=True)
class Performance:
    """What a rule does on some runs; `lead` is a share of the time to onset, `lead_steps` that in steps (medians)."""

    lead: Interval
    lead_steps: Interval
    mean_lead: float | None
    missed: Interval
    withdrawn: int
    false_per_1000: Interval
    num_healthy_steps: int
    healthy_runs_alarmed: Interval


def series_of(material: Material, names: Sequence[str]) -> list[Series]:
    """The own-text runs whose course is known, with these numbers."""
    rows = measured(material)
    regime, pure = rows["arm"].map(regimes(rows)), is_pure(rows)
    is_melted = (rows["is_event"] & ~rows["is_repetition"]).to_numpy()
    healthy = ~rows["is_event"] & ((regime == "drift") | pure)
    course = np.select([rows["is_repetition"], is_melted, healthy], ["collapsing", "melting", "healthy"], "")
    steps: Frame = material.steps.reindex(columns=["run", "step", *names])
    by_run = dict(iter(steps.groupby("run")))
    found: list[Series] = []
    known = zip(rows["run"], rows["arm"], rows["seed"], course, rows["duration"], rows["is_event"], strict=True)
    for run, arm, seed, kind, duration, is_event in known:
        if not kind or run not in by_run:
            continue
        part: Frame = by_run[run]
        values = {name: part[name].to_numpy(dtype=float, na_value=math.nan) for name in names}
        onset = float(duration) if is_event else None
        step_T = part["step"].to_numpy(dtype=float)
        found.append(Series(str(run), str(arm), int(seed), cast(Course, kind), onset, step_T, values))
    return found


def alarm_rule(name: str, alarm: Alarm, known: dict[int, tuple[Floats, Floats]] | None = None) -> Rule:
    """The rule of one alarm. `known`: its `scores` by the id of the run, kept for alarms of other thresholds."""

    def spans(series: Series) -> Spans:
        found = None if known is None else known.get(id(series))
        step_T, score_T = found = found or scores(series, alarm)
        if known is not None:
            known[id(series)] = found
        return on_spans(step_T, score_T >= alarm.threshold, score_T < alarm.threshold / 2, alarm.patience)

    return Rule(name, spans, alarm.baseline)


def either(name: str, *rules: Rule) -> Rule:
    """The rule that warns while any of these does."""

    def spans(series: Series) -> Spans:
        joined: list[tuple[float, float]] = []
        for begin, end in sorted(span for rule in rules for span in rule.spans(series)):
            if joined and begin <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((begin, end))
        return joined

    return Rule(name, spans, min(rule.warm_up for rule in rules))


def scores(series: Series, alarm: Alarm) -> tuple[Floats, Floats]:
    """The steps after the baseline at which the signal is known, and the alarm's statistic at each."""
    value_T = series.values[alarm.signal]
    known = np.isfinite(value_T)
    step_N, value_N = series.step_T[known], value_T[known]
    if len(value_N) < alarm.baseline:
        return np.zeros(0), np.zeros(0)
    first = value_N[: alarm.baseline]
    unit = unit_of(alarm.unit, tuple(first.tolist()))
    deviation_N = alarm.direction * (value_N[alarm.baseline :] - np.median(first)) / unit
    return step_N[alarm.baseline :], _statistic(deviation_N, alarm)


def _statistic(deviation_N: Floats, alarm: Alarm) -> Floats:
    if alarm.statistic == "cusum":
        sums = np.cumsum(deviation_N - alarm.weight)
        return sums - np.minimum(0.0, np.minimum.accumulate(sums)) if len(sums) else sums
    from scipy import signal

    filtered = cast(Any, signal).lfilter([alarm.weight], [1.0, alarm.weight - 1.0], deviation_N)
    return np.asarray(filtered, dtype=np.float64)


def on_spans(step_N: Floats, is_high_N: Bools, is_low_N: Bools, patience: int) -> Spans:
    """The spans that begin at the last of `patience` high values in a row and end at the next low one."""
    if not is_high_N.any():
        return ()
    runs = np.convolve(is_high_N, np.ones(patience, dtype=int))[: len(step_N)]
    begin_K, end_L = np.flatnonzero(runs == patience), np.flatnonzero(is_low_N)
    found: list[tuple[float, float]] = []
    place = 0
    while (k := int(np.searchsorted(begin_K, place))) < len(begin_K):
        begin = int(begin_K[k])
        low = int(np.searchsorted(end_L, begin))
        if low == len(end_L):
            return [*found, (float(step_N[begin]), math.inf)]
        place = int(end_L[low])
        found.append((float(step_N[begin]), float(step_N[place])))
    return found


def leads(rule: Rule, runs: Iterable[Series]) -> tuple[Floats, int]:
    """The lead of each run with an onset, in steps (0: missed), and how many alarms were withdrawn before."""
    found: list[float] = []
    withdrawn = 0
    for series in runs:
        assert series.onset is not None, series.run
        before = [span for span in rule.spans(series) if span[0] < series.onset]
        lasting = [begin for begin, end in before if end >= series.onset]
        withdrawn += len(before) - len(lasting)
        found.append(series.onset - lasting[0] if lasting else 0.0)
    return np.array(found, dtype=np.float64), withdrawn


def false_alarms(rule: Rule, runs: Iterable[Series]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """How many alarms begin in each healthy run, and how many of its steps come after the warm-up."""
    pairs = [(len(rule.spans(series)), max(0, len(series.step_T) - rule.warm_up)) for series in runs]
    counts = np.array(pairs, dtype=int).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]


def performance(
    rule: Rule, runs: Sequence[Series], generator: np.random.Generator, course: Course = "collapsing"
) -> Performance:
    """What a rule does: its leads in the runs of one course, its false alarms in the healthy ones."""
    ended = [series for series in runs if series.course == course]
    lead_R, withdrawn = leads(rule, ended)
    onset_R = np.array([max(1.0, series.onset or 0.0) for series in ended])
    false_H, steps_H = false_alarms(rule, (series for series in runs if series.course == "healthy"))
    arms = [series.arm for series in ended]
    return Performance(
        lead=_median_over_arms(lead_R / onset_R, arms, generator),
        lead_steps=_median_over_arms(lead_R, arms, generator),
        mean_lead=float((lead_R / onset_R).mean()) if len(ended) else None,
        missed=share_interval(int((lead_R == 0).sum()), len(ended)),
        withdrawn=withdrawn,
        false_per_1000=poisson_rate(int(false_H.sum()), float(steps_H.sum()) / 1000),
        num_healthy_steps=int(steps_H.sum()),
        healthy_runs_alarmed=share_interval(int((false_H > 0).sum()), len(false_H)),
    )


def poisson_rate(count: int, exposure: float, level: float = LEVEL) -> Interval:
    """count / exposure with the exact interval of a Poisson rate; alarms that come in bunches make it too narrow.

    Reference: Garwood 1936.
    """
    if exposure <= 0:
        return Interval(None, None, None, level, 0)
    from scipy.special import gammaincinv

    tail = (1 - level) / 2
    low = float(gammaincinv(count, tail)) if count else 0.0
    return Interval(count / exposure, low / exposure, float(gammaincinv(count + 1, 1 - tail)) / exposure, level, count)


def roc_area(alarm: Alarm, runs: Sequence[Series], generator: np.random.Generator) -> Interval:
    """The ROC area of an alarm's statistic: steps in the last part of the time to onset against healthy steps.

    The interval resamples runs; 200 times, since each takes a sort of all steps.
    """
    part_R: list[Floats] = []
    for series in runs:
        if series.course != "collapsing":
            continue
        step_N, score_N = scores(series, alarm)
        onset = cast(float, series.onset)
        part_R.append(score_N[(step_N >= onset * ROC_PART) & (step_N < onset)])
    healthy_H = [scores(series, alarm)[1] for series in runs if series.course == "healthy"]
    if not sum(map(len, part_R)) or not sum(map(len, healthy_H)):
        return Interval(None, None, None, LEVEL, 0)
    n = len(part_R) + len(healthy_H)
    drawn: list[float] = []
    for _ in range(NUM_RESAMPLES // 10):
        positive = _drawn(part_R, generator)
        negative = _drawn(healthy_H, generator)
        if sum(map(len, positive)):
            drawn.append(_area(np.concatenate(positive), np.concatenate(negative)))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(_area(np.concatenate(part_R), np.concatenate(healthy_H)), float(low), float(high), LEVEL, n)


def _drawn(parts: Sequence[Floats], generator: np.random.Generator) -> list[Floats]:
    return [parts[int(i)] for i in generator.integers(0, len(parts), len(parts))]


def _area(positive: Floats, negative: Floats) -> float:
    """The probability that a positive exceeds a negative, ties half: Mann and Whitney's U over its maximum."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum()) / (2 * len(positive) * len(negative))


def _median_over_arms(value_R: Floats, arms: Sequence[Any], generator: np.random.Generator) -> Interval:
    """The median, with a percentile interval that resamples whole arms; none for one arm."""
    n = len(value_R)
    if not n:
        return Interval(None, None, None, LEVEL, 0)
    estimate, groups = float(np.median(value_R)), np.unique(np.asarray(arms), return_inverse=True)[1]
    parts: list[Floats] = [value_R[groups == group] for group in range(int(groups.max()) + 1)]
    if len(parts) < 2:
        return Interval(estimate, None, None, LEVEL, n)
    medians = [float(np.median(np.concatenate(_drawn(parts, generator)))) for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high), LEVEL, n)
