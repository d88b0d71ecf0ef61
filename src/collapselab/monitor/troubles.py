"""What can go wrong in a training, told apart: an event for each, and the rules that need a baseline of their own."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Literal

from collapselab.collapse.course import CollapseState
from collapselab.collapse.rules import MIN_TOKENS
from collapselab.collapse.start import four_grams
from collapselab.collapse.warning import SIGNALS, Warnings, warning_in_words
from collapselab.collapse.words import KINDS
from collapselab.metrics.repetition import Ids
from collapselab.records import Value

Stage = Literal["warning", "verdict"]

TROUBLES: dict[str, str] = {
    "early-warning": "a signal has left its own baseline, as it does before a collapse",
    "collapse": "most of what the model writes is degenerate, by the rules of docs/collapse.md",
    "divergence": "a loss or a gradient norm is not finite",
    "template": "completions to different prompts share most of their phrases",
    "no-end": "most completions run into the length limit, and did not before",
    "mismatch": "the sampler and the learner give the same tokens different probabilities",
}


@dataclass(frozen=True)
class Event:
    """Something a person should know: since which step, how sure it is, which of `TROUBLES`, and a sentence."""

    step: int
    stage: Stage
    name: str
    message: str


@dataclass(frozen=True)
class Condition:
    """A number that must be at least `bound`, and `rise` above its own baseline, `PATIENCE` times in a row.

    A baseline of `most_before` or more rules it out.
    """

    number: str
    bound: float
    rise: float
    most_before: float = math.inf


# By hand, from what each means: no records with such troubles are at hand to calibrate them.
CONDITIONS: dict[str, Condition] = {
    "template": Condition("overlap_across", 0.5, 0.2),
    "no-end": Condition("unended_share", 0.5, 0.3, most_before=0.5),
    "mismatch": Condition("sampler_difference_nats", 0.2, 0.0),
}
PATIENCE, BASELINE = 3, 5


@dataclass(frozen=True)
class _Seen:
    baseline: tuple[float, ...] = ()
    streak: int = 0
    step: int | None = None


@dataclass(frozen=True)
class Troubles:
    """The conditions' baselines and streaks so far."""

    seen: Mapping[str, _Seen] = field(default_factory=lambda: dict.fromkeys(CONDITIONS, _Seen()))
    entropies: tuple[float, ...] = ()  # the first ones: template collapse may leave the entropy where it was

    def see(self, step: int, values: Mapping[str, Value]) -> Troubles:
        """The state after a step with these values; what is unknown changes nothing."""
        entropy, known = values.get("entropy_nats"), self.entropies
        if isinstance(entropy, float) and math.isfinite(entropy) and len(known) < BASELINE:
            known = (*known, entropy)
        seen = {name: _advanced(self.seen[name], CONDITIONS[name], step, values) for name in CONDITIONS}
        return Troubles(seen, known)

    def news(self, former: Troubles, values: Mapping[str, Value]) -> list[Event]:
        """What has been found since `former`."""
        return [
            Event(found.step, "verdict", name, self._sentence(name, found, values))
            for name, found in self.seen.items()
            if found.step is not None and former.seen[name].step is None
        ]

    def _sentence(self, name: str, found: _Seen, values: Mapping[str, Value]) -> str:
        value = values[CONDITIONS[name].number]
        before = f" ({median(found.baseline):.2f} before)" if found.baseline else ""
        if name == "no-end":
            assert isinstance(value, (int, float)), value
            return f"{100 * value:.0f} % of the completions have no end token{before}"
        if name == "mismatch":
            differ = f"the sampler's and the learner's log-probabilities differ by {value:.2f} nats per token"
            return f"{differ}: does the sampler have the current weights?"
        entropy = values.get("entropy_nats")
        known = isinstance(entropy, float) and bool(self.entropies)
        change = f"; entropy {median(self.entropies):.2f} nats before, {entropy:.2f} now" if known else ""
        return f"{value:.2f} of the phrases of a completion occur in completions to other prompts{before}{change}"


def _advanced(seen: _Seen, condition: Condition, step: int, values: Mapping[str, Value]) -> _Seen:
    value = values.get(condition.number)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return seen
    if condition.rise and len(seen.baseline) < BASELINE:
        return replace(seen, baseline=(*seen.baseline, float(value)))
    level = median(seen.baseline) if seen.baseline else 0.0
    holds = value >= max(condition.bound, level + condition.rise) and level < condition.most_before
    streak = seen.streak + 1 if holds else 0
    return replace(seen, streak=streak, step=step if seen.step is None and streak >= PATIENCE else seen.step)


def warning_event(warnings: Warnings) -> Event:
    """The event of a warning that has just begun."""
    watch = warnings.on[-1]  # the one that has just begun
    label, change, since = SIGNALS[watch.alarm.signal].label, watch.change, watch.since
    assert since is not None
    how = "falling" if watch.alarm.direction < 0 else "rising"
    by = "" if change is None else f" (by {100 * abs(change):.0f} % so far)"
    return Event(since, "warning", "early-warning", f"{how}{by}: {label}, as before a collapse")


def course_events(former: CollapseState, state: CollapseState, warned_step: int | None) -> list[Event]:
    """The verdicts that a step has brought: collapse, with the lead of a warning that lasts, and divergence."""
    events: list[Event] = []
    if state.onset_step is not None and former.onset_step is None:
        kind = state.kind_at_onset or "unknown"
        known = f"known at step {state.step}"
        message = f"the model's text has been degenerate since step {state.onset_step} ({known}), kind {kind}"
        if warned_step is not None and warned_step < state.onset_step:
            message += f" ({warning_in_words(warned_step, state.onset_step)})"
        meaning = KINDS.get(kind)  # pyright: ignore[reportArgumentType, reportCallIssue]
        events.append(Event(state.onset_step, "verdict", "collapse", f"{message}: {meaning}" if meaning else message))
    if state.diverged_step is not None and former.diverged_step is None:
        events.append(Event(state.diverged_step, "verdict", "divergence", TROUBLES["divergence"]))
    return events


def overlap_across(samples: Sequence[Ids], groups: Sequence[Hashable]) -> float | None:
    """The mean share of a sample's distinct 4-grams that occur in samples of other groups (prompts).

    `None` with a single group, or with a sample under 100 tokens, whose phrases are few.
    """
    return _overlap(samples, groups, is_same=False)


def overlap_within(samples: Sequence[Ids], groups: Sequence[Hashable]) -> float | None:
    """The same in other samples of the same group; `None` where no group has two."""
    return _overlap(samples, groups, is_same=True)


def _overlap(samples: Sequence[Ids], groups: Sequence[Hashable], *, is_same: bool) -> float | None:
    grams = [four_grams(tuple(ids)) for ids in samples]
    shares: list[float] = []
    for i, own in enumerate(grams):
        others = [grams[j] for j in range(len(grams)) if j != i and (groups[j] == groups[i]) is is_same]
        if len(samples[i]) < MIN_TOKENS or not others:
            continue
        shares.append(len(own & frozenset[tuple[int, ...]]().union(*others)) / len(own))
    return fmean(shares) if shares else None
