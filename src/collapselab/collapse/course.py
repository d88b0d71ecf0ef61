"""Whether a run has collapsed, and when: a fold over the verdicts and losses of its steps, without torch.

`verdicts` judges each sample and each step, `advance` takes them in. The state keeps the last `window` judged steps and
nothing else, so a step costs the same at the end of a run as at its start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from collapselab.collapse.rules import SAMPLE_KINDS, StepVerdict, most_common
from collapselab.collapse.start import Start
from collapselab.collapse.words import Fate
from collapselab.config.schema import Collapse
from collapselab.metrics.diversity import self_bleu

DEGRADED_NATS, SEVERE_NATS = math.log(1.10), math.log(2)
_TEMPLATE_SELF_BLEU = 0.9
# An untouched SmolLM2 loops in a tenth of its samples: with half of the window, one of 40 such runs had a false onset.
ONSET_SHARE, _RECOVERED_SHARE = 3 / 4, 1 / 8


@dataclass(frozen=True)
class Observation:
    """What a step shows: a verdict (`None`: nothing was judged), its samples, the loss on human text (`None`: unknown).

    `is_finite`: every loss and norm known of the step is finite. `start`: of the run, at step 0.
    """

    step: int
    verdict: StepVerdict | None
    samples: tuple[tuple[int, ...], ...]
    val_nll_nats: float | None = None
    is_finite: bool = True
    start: Start | None = None


@dataclass(frozen=True)
class CollapseState:
    """What a run's steps so far say. Each `…_step` is the first such step, `None` until it is known.

    `degenerate_share` is of the last `window` judged steps, always over `window`: steps before the first count as not
    degenerate, so that a run cannot begin collapsed. `None` until a step was judged. `was_below_uniform`: the loss on
    human text has been at most that of a uniform guess, ln `vocab_size` (`None`: unknown, and no run is lost).
    """

    vocab_size: int | None
    start: Start | None = None
    step: int | None = None
    window: tuple[Observation, ...] = ()
    degenerate_share: float | None = None
    val_nll_at_0: float | None = None
    onset_step: int | None = None
    kind_at_onset: str | None = None
    total_collapse_step: int | None = None
    recovered_step: int | None = None
    degraded_step: int | None = None
    severe_step: int | None = None
    lost_step: int | None = None
    diverged_step: int | None = None
    was_below_uniform: bool = False
    # The steps in a row that are candidates for onset, later for recovery: first step, its kind, their number.
    streak_start: int | None = None
    streak_kind: str | None = None
    streak_length: int = 0

    @property
    def steps_past_collapse(self) -> int:
        """Since total collapse; −1 until it is reached and onset settled (with a short window, it may come first)."""
        if self.step is None or self.total_collapse_step is None or self.onset_step is None:
            return -1
        return self.step - self.total_collapse_step

    @property
    def loss_fate(self) -> Fate | None:
        """The worst that losses and norms have come to: `diverged`, `lost`, `severe`, `degraded` or `None`."""
        steps: dict[Fate, int | None] = {
            "diverged": self.diverged_step,
            "lost": self.lost_step,
            "severe": self.severe_step,
            "degraded": self.degraded_step,
        }
        return next((name for name, step in steps.items() if step is not None), None)

    @property
    def kind(self) -> str | None:
        """The kind of collapse now: that of most degenerate steps of the window, `None` if there is none.

        Where those are not degenerate sample by sample, self-BLEU decides whether they are one template. A run that
        diverged without degenerate samples is `noise`.
        """
        broken = [seen for seen in self.window if seen.verdict is not None and seen.verdict.degenerate]
        if not broken:
            return "noise" if self.diverged_step is not None else None
        kind = most_common([seen.verdict.kind for seen in broken if seen.verdict is not None])
        if kind in SAMPLE_KINDS or kind == "melted":
            return kind
        alike = self_bleu([ids for seen in broken for ids in seen.samples])
        return "template" if alike is not None and alike >= _TEMPLATE_SELF_BLEU else kind

    def earlier_samples(self, thresholds: Collapse) -> list[tuple[int, ...]]:
        """The samples of the last window - 1 judged steps: those a new sample may be a copy of."""
        seen = self.window[max(0, len(self.window) - thresholds.window + 1) :]
        return [ids for observation in seen for ids in observation.samples]


def advance(state: CollapseState, observation: Observation, thresholds: Collapse) -> CollapseState:
    """The state after one more step. Steps come in order; replaying a run's steps rebuilds its state exactly."""
    assert state.step is None or observation.step > state.step, (state.step, observation.step)
    state = replace(state, step=observation.step, start=observation.start or state.start)
    state = advance_losses(state, observation)
    if observation.verdict is None or observation.verdict.degenerate is None:
        return state  # samples too short to judge say nothing: they are no healthy step
    window = (*state.window, observation)[-thresholds.window :]
    num_degenerate = sum(seen.verdict is not None and seen.verdict.degenerate is True for seen in window)
    state = replace(state, window=window, degenerate_share=num_degenerate / thresholds.window)
    if state.total_collapse_step is None and len(window) == thresholds.window and all(map(_is_total, window)):
        state = replace(state, total_collapse_step=observation.step)
    return _advance_streak(state, thresholds.patience)


def _is_total(seen: Observation) -> bool:
    """Whether a step may be part of total collapse: of low diversity alone, it is only on its way there."""
    assert seen.verdict is not None
    return seen.verdict.degenerate is True and seen.verdict.reasons != ("low-diversity",)


def _advance_streak(state: CollapseState, patience: int) -> CollapseState:
    """Onset, then recovery: a share held for `patience` judged steps."""
    assert state.degenerate_share is not None
    if state.recovered_step is not None:
        return state
    is_onset_known = state.onset_step is not None
    holds = state.degenerate_share < _RECOVERED_SHARE if is_onset_known else state.degenerate_share >= ONSET_SHARE
    if not holds:
        return replace(state, streak_start=None, streak_kind=None, streak_length=0)
    if state.streak_length == 0:
        first = state.step if is_onset_known else change_point(state.window)
        state = replace(state, streak_start=first, streak_kind=state.kind)
    state = replace(state, streak_length=state.streak_length + 1)
    if state.streak_length < patience:
        return state
    settled = replace(state, streak_start=None, streak_kind=None, streak_length=0)
    if is_onset_known:
        return replace(settled, recovered_step=state.streak_start)
    return replace(settled, onset_step=state.streak_start, kind_at_onset=state.streak_kind)


def change_point(window: Sequence[Observation]) -> int:
    """The step of the window from which degenerate steps have the largest majority over the others.

    The estimate of a change point by cumulative sums of +1 and -1: exact where healthy steps are followed by degenerate
    ones, while the first step at which the window's share is high comes window / 2 later. A tie goes to the latest.

    Reference: Page 1954 (CUSUM); Hinkley 1971 (the estimate).
    """
    majority = best = 0
    found = window[-1].step
    for seen in reversed(window):
        assert seen.verdict is not None
        majority += 1 if seen.verdict.degenerate else -1
        if majority > best:
            best, found = majority, seen.step
    return found


def advance_losses(state: CollapseState, observation: Observation) -> CollapseState:
    """The state with the losses and norms of its step; repeated once more of them are known."""
    step, val_nll = observation.step, observation.val_nll_nats
    if step == 0:
        state = replace(state, val_nll_at_0=val_nll)
    holds = {"diverged_step": not observation.is_finite}
    if val_nll is not None and state.val_nll_at_0 is not None:
        rise, uniform = val_nll - state.val_nll_at_0, math.log(state.vocab_size or math.inf)
        # A model that never knew more than a uniform guess has not lost it by training.
        holds["lost_step"] = state.was_below_uniform and val_nll > uniform
        holds |= {"severe_step": rise >= SEVERE_NATS, "degraded_step": rise >= DEGRADED_NATS}
        state = replace(state, was_below_uniform=state.was_below_uniform or val_nll <= uniform)
    news = {name: step for name, is_true in holds.items() if is_true and getattr(state, name) is None}
    return replace(state, **news)


@dataclass(frozen=True)
class Outcome:
    """What became of a run, for summary.json; a step that never came is `None`, censored at `last_step`."""

    fate: Fate
    last_step: int | None
    degenerate_share: float | None
    onset_step: int | None
    total_collapse_step: int | None
    recovered_step: int | None
    degraded_step: int | None
    severe_step: int | None
    lost_step: int | None
    diverged_step: int | None
    kind_at_onset: str | None
    kind_at_end: str | None


def outcome(state: CollapseState) -> Outcome:
    """The outcome of a state.

    Its fate is the last of `words.FATES` that holds. Nothing is judged after divergence, so total collapse came before
    it. Collapse into noise is `melted` whatever its extent. `recovered` stands in the place of total collapse, and
    holds while less than half of the window is degenerate again. `lost`, `severe` and `degraded` speak of the loss on
    human text alone.
    """
    return Outcome(
        fate=_fate(state),
        last_step=state.step,
        degenerate_share=state.degenerate_share,
        onset_step=state.onset_step,
        total_collapse_step=state.total_collapse_step,
        recovered_step=state.recovered_step,
        degraded_step=state.degraded_step,
        severe_step=state.severe_step,
        lost_step=state.lost_step,
        diverged_step=state.diverged_step,
        kind_at_onset=state.kind_at_onset,
        kind_at_end=state.kind,
    )


def _fate(state: CollapseState) -> Fate:
    has_recovered = state.recovered_step is not None and (state.degenerate_share or 0.0) < 1 / 2
    if state.onset_step is not None and state.kind == "melted" and not has_recovered:
        return "melted"
    if state.total_collapse_step is not None and not has_recovered:
        return "total-collapse"
    if state.diverged_step is not None:
        return "diverged"
    if has_recovered:
        return "recovered"
    return "onset" if state.onset_step is not None else state.loss_fate or "healthy"
