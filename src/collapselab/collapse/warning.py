"""Early warning: a number of a run that leaves its own baseline, before the rules of collapse can say anything.

An alarm watches one number. results/early-warning says how the alarms were chosen, how far ahead of an onset they
sound, and how often in runs that stay healthy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median, stdev
from typing import Literal

from collapselab.records import Value

MIN_LEVEL, MIN_SPREAD = 0.05, 0.01  # units of deviation are no smaller: a share may be 0 throughout a baseline


@dataclass(frozen=True)
class Signal:
    """A number of a step that may warn: which way it goes before a collapse, and what it takes to know it."""

    direction: Literal[-1, 1]
    needs: Literal["text", "model"]
    label: str


SIGNALS: dict[str, Signal] = {
    "entropy_nats": Signal(-1, "model", "entropy of the model's predictions"),
    "train_nll_nats": Signal(-1, "model", "loss on own text"),
    "grad_norm": Signal(-1, "model", "gradient norm"),
    "match_entropy_nats": Signal(-1, "text", "entropy of the sample (match lengths)"),
    "lz_ratio": Signal(-1, "text", "deflated size"),
    "diversity": Signal(-1, "text", "diversity (distinct 2- to 4-grams)"),
    "seq_rep_1": Signal(1, "text", "repeated tokens"),
    "seq_rep_2": Signal(1, "text", "repeated 2-grams"),
    "seq_rep_4": Signal(1, "text", "repeated 4-grams"),
    "rep_w": Signal(1, "text", "tokens repeated within 16"),
    "rep_r": Signal(1, "text", "tokens in repeated bigrams"),
    "top_token_share": Signal(1, "text", "share of the most frequent token"),
}


@dataclass(frozen=True)
class Alarm:
    """One signal's statistic and the threshold at which it warns.

    The deviation d of a value is direction · (value − level) / unit: `level` is the median of the first `baseline`
    values; the `unit` is that median's size or the standard deviation of those values.
    - `ewma`: s ← s + weight · (d − s), from 0
    - `cusum`: s ← max(0, s + d − weight), from 0: the `weight` is what a step may deviate for nothing

    The alarm begins once s ≥ `threshold` at `patience` values in a row, and ends once s < threshold / 2.

    Reference: Roberts 1959 (EWMA); Page 1954 (CUSUM).
    """

    signal: str
    direction: Literal[-1, 1]
    statistic: Literal["ewma", "cusum"]
    unit: Literal["level", "spread"]
    weight: float
    threshold: float
    baseline: int = 10
    patience: int = 2


# Chosen on some seeds of the stored runs, judged on others (results/early-warning).
TEXT_ALARM = Alarm("rep_r", 1, "cusum", "spread", 0.5, 14.0, 8)
MODEL_ALARM = Alarm("train_nll_nats", -1, "cusum", "spread", 0.5, 14.0, 5)
ALARMS = (MODEL_ALARM, TEXT_ALARM)


@dataclass(frozen=True)
class Watch:
    """An alarm and what it has seen. `since`: the step at which it began, if it lasts."""

    alarm: Alarm
    baseline: tuple[float, ...] = ()
    level: float | None = None
    unit: float = 1.0
    score: float = 0.0
    streak: int = 0
    since: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the baseline is complete."""
        return self.level is not None

    @property
    def change(self) -> float | None:
        """How much the signal has changed by now, relative to its baseline; `None` for a sum, or before."""
        if self.level is None or self.alarm.statistic != "ewma" or not self.level:
            return None
        return self.alarm.direction * self.score * self.unit / abs(self.level)

    def see(self, step: int, value: float | None) -> Watch:
        """The watch after one more value; an unknown one, or one that is not finite, changes nothing."""
        if value is None or not math.isfinite(value):
            return self
        if self.level is None:
            return self._collect(value)
        alarm = self.alarm
        score = next_score(alarm, self.score, alarm.direction * (value - self.level) / self.unit)
        streak = self.streak + 1 if score >= alarm.threshold else 0
        since = None if score < alarm.threshold / 2 else self.since
        if since is None and streak >= alarm.patience:
            since = step
        return replace(self, score=score, streak=streak, since=since)

    def _collect(self, value: float) -> Watch:
        values = (*self.baseline, value)
        if len(values) < self.alarm.baseline:
            return replace(self, baseline=values)
        level = median(values)
        return replace(self, baseline=values, level=level, unit=unit_of(self.alarm.unit, values))


def unit_of(name: Literal["level", "spread"], values: tuple[float, ...]) -> float:
    """The unit of deviations from a baseline of these values."""
    if name == "level":
        return max(abs(median(values)), MIN_LEVEL)
    return max(stdev(values), MIN_SPREAD)


def next_score(alarm: Alarm, score: float, deviation: float) -> float:
    """The statistic after one more deviation."""
    if alarm.statistic == "ewma":
        return score + alarm.weight * (deviation - score)
    return max(0.0, score + deviation - alarm.weight)


@dataclass(frozen=True)
class Warnings:
    """Several alarms on one run. The warning is that of whichever lasts longest."""

    watches: tuple[Watch, ...] = field(default=())

    @classmethod
    def of(cls, alarms: tuple[Alarm, ...]) -> Warnings:
        """The alarms before the first step."""
        return cls(tuple(Watch(alarm) for alarm in alarms))

    def see(self, step: int, values: Mapping[str, Value]) -> Warnings:
        """The warnings after a step with these values, by the names of the records."""
        return Warnings(tuple(watch.see(step, _number(values.get(watch.alarm.signal))) for watch in self.watches))

    @property
    def on(self) -> tuple[Watch, ...]:
        """The alarms that last, the earliest first."""
        lasting = [(watch.since, i, watch) for i, watch in enumerate(self.watches) if watch.since is not None]
        return tuple(watch for _, _, watch in sorted(lasting, key=lambda item: item[:2]))

    @property
    def since(self) -> int | None:
        """Since which step there is a warning; `None`: there is none."""
        return self.on[0].since if self.on else None


def warning_values(
    records: Iterable[Mapping[str, Value]], onset_step: int | None, alarms: tuple[Alarm, ...] = ALARMS
) -> dict[str, int | float | None]:
    """`warned_step` and `warning_lead` of a run (`collapse.numbers`); `None`: no warning, or no onset to be ahead of.

    Args:
        records: the values of its steps, in order.
        onset_step: of its collapse; none: no onset.
        alarms: those that watched it.
    """
    warnings = Warnings.of(alarms)
    for values in records:
        step = values["step"]
        assert isinstance(step, int), step
        if onset_step is not None and step > onset_step:
            break
        warnings = warnings.see(step, values)
    return {"warned_step": warnings.since, "warning_lead": lead(warnings.since, onset_step)}


def lead(warned_step: int | None, onset_step: int | None) -> float | None:
    """The share of the time to onset that was left when the warning began; `None`: one of the two is unknown."""
    return None if warned_step is None or not onset_step else (onset_step - warned_step) / onset_step


def warning_in_words(warned_step: int | None, onset_step: int | None) -> str:
    """When the warning began, and how far ahead of the onset; empty without a warning."""
    if warned_step is None:
        return ""
    share = lead(warned_step, onset_step)
    ahead = f", {100 * share:.0f} % of the time to onset ahead" if share else ""
    return f"early warning at step {warned_step}{ahead}"


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
