"""Onset, total collapse, recovery and divergence: the fold over a run's steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapselab.collapse.course import CollapseState, Observation, advance, advance_losses, outcome
from collapselab.collapse.rules import StepVerdict
from collapselab.config.schema import Collapse
from random_text import random_ids

THRESHOLDS = Collapse()


def observed(step: int, degenerate: bool | None, kind: str = "loop") -> Observation:
    verdict = StepVerdict(degenerate, (kind,) if degenerate else (), kind if degenerate else None)
    return Observation(step, verdict, (random_ids(step),), val_nll_nats=3.0)


def unjudged(step: int, val: float | None = 3.0, *, is_finite: bool = True) -> Observation:
    return Observation(step, None, (), val, is_finite)


def run(
    observations: Sequence[Observation], thresholds: Collapse = THRESHOLDS, vocab_size: int = 50_257
) -> CollapseState:
    state = CollapseState(vocab_size)
    for observation in observations:
        state = advance(state, observation, thresholds)
    return state


def pattern(text: str) -> list[Observation]:
    """`x` a degenerate step, `.` a healthy one, `?` one too short to say."""
    return [observed(step, {"x": True, ".": False, "?": None}[letter]) for step, letter in enumerate(text)]


def slow_onset(degenerate: Sequence[bool], window: int, patience: int) -> int | None:
    shares = [sum(degenerate[max(0, t - window + 1) : t + 1]) / window for t in range(len(degenerate))]
    for t in range(len(degenerate) - patience + 1):
        if all(share >= 0.75 for share in shares[t : t + patience]):
            majority = {
                s: sum(1 if flag else -1 for flag in degenerate[s : t + 1])
                for s in range(max(0, t - window + 1), t + 1)
            }
            return max(s for s in majority if majority[s] == max(majority.values()))
    return None


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_onset_and_total_collapse_equal_their_definitions(degenerate: list[bool], window: int, patience: int):
    thresholds = Collapse(window=window, patience=patience)
    state = run([observed(step, flag) for step, flag in enumerate(degenerate)], thresholds)
    assert state.onset_step == slow_onset(degenerate, window, patience)
    ends = [t for t in range(window - 1, len(degenerate)) if all(degenerate[t - window + 1 : t + 1])]
    assert state.total_collapse_step == (ends[0] if ends else None)
    assert len(state.window) == min(window, len(degenerate))


def test_low_diversity_alone_is_onset_and_never_total_collapse():
    alike = [observed(step, True, "low-diversity") for step in range(20)]
    looping = [observed(step, True) for step in range(20, 40)]
    state = run(alike)
    assert (state.onset_step, state.total_collapse_step, state.degenerate_share) == (0, None, 1)
    assert outcome(state).fate == "onset"
    assert run([*alike, *looping]).total_collapse_step == 27


def test_onset_is_known_patience_steps_later_and_dated_back():
    text = "." * 10 + "x" * 8
    # Three quarters of the last 8 are degenerate from step 15 on, and the change was at step 10.
    assert run(pattern(text[:17])).onset_step is None
    assert run(pattern(text[:18])).onset_step == 10
    assert run(pattern(text)).total_collapse_step == 17


def test_onset_is_dated_to_the_change_and_not_to_a_stray_step_before_it():
    assert run(pattern(".....x...." + "x" * 8)).onset_step == 10
    assert run(pattern("..........xxx.xxxxx")).onset_step == 10
    assert run(pattern("........x.xxxxxxxx")).onset_step == 10, "of equal majorities the latest"


def test_steps_before_the_first_count_as_not_degenerate():
    assert CollapseState(50_257).degenerate_share is None
    assert run(pattern("x")).degenerate_share == 1 / 8
    assert run(pattern("xxxxxx..")).onset_step == 0
    assert run(pattern("xxxxx...")).onset_step is None


def test_a_short_spell_is_no_onset():
    state = run(pattern("...xxxxxx....x.........."))
    assert (state.onset_step, state.total_collapse_step) == (3, None)  # 6 of 8 from step 8 to 10
    assert run(pattern("xxxxxx..........")).onset_step == 0  # from 5 to 7: just patience
    assert run(pattern("xxxxx.x.........")).onset_step is None  # 6 and 7 only
    assert run(pattern("...xxxxx........")).onset_step is None, "5 of 8 are not three quarters"


def test_steps_not_judged_leave_the_window_untouched():
    judged = [observed(10 * k, True) for k in range(8)]
    between = [unjudged(step) for step in range(80) if step % 10]
    state = run(sorted([*judged, *between], key=lambda seen: seen.step))
    alone = run(judged)
    assert (state.onset_step, state.total_collapse_step, state.window) == (0, 70, alone.window)
    assert state.degenerate_share == alone.degenerate_share == 1


def test_recovery_is_under_one_eighth_for_patience_steps_after_onset():
    text = "x" * 8 + "." * 7  # one of the last 8 is degenerate: exactly 1/8
    assert run(pattern(text)).recovered_step is None
    assert run(pattern(text + "..")).recovered_step is None
    state = run(pattern(text + "..."))
    assert (state.onset_step, state.total_collapse_step, state.recovered_step) == (0, 7, 15)
    assert outcome(state).fate == "recovered"
    relapsed = pattern(text + "..." + "x" * 8 + "." * 12)
    assert outcome(run(relapsed[:26])).fate == "total-collapse"
    assert run(relapsed).recovered_step == 15  # the first recovery
    assert run(pattern("." * 20)).recovered_step is None


def test_degraded_and_severe_are_rises_of_validation_loss():
    def rise(nats: float | None) -> Observation:
        return unjudged(9, None if nats is None else 3.0 + nats)

    first = unjudged(0)
    # 1e-9: the rises are differences of floats.
    assert run([first, rise(math.log(1.1) - 1e-9)]).degraded_step is None
    assert run([first, rise(math.log(1.1) + 1e-9)]).degraded_step == 9
    assert run([first, rise(math.log(2) - 1e-9)]).severe_step is None
    assert run([first, rise(math.log(2) + 1e-9)]).severe_step == 9
    assert run([first, rise(None)]).degraded_step is None
    assert run([unjudged(0, None), rise(5.0)]).severe_step is None
    assert outcome(run([first, rise(0.1)])).fate == "degraded"
    assert outcome(run([first, rise(0.7)])).fate == "severe"


def test_lost_is_worse_than_a_uniform_guess():
    def lost_step(*losses: float | None) -> int | None:
        return run([unjudged(step, val) for step, val in enumerate(losses)], vocab_size=2048).lost_step

    uniform = math.log(2048)
    assert lost_step(3.6, uniform) is None
    assert lost_step(3.6, uniform + 1e-9) == 1
    assert lost_step(3.6, None, math.inf) == 2
    assert lost_step(3.6, 9.0, 3.6) == 1, "what was lost stays told"
    # A model that never was at most there has not lost it; one that was, has.
    assert lost_step(uniform + 1, uniform + 2, uniform + 9) is None
    assert lost_step(uniform + 1, uniform, uniform + 1) == 2


def test_no_loss_on_human_text_however_high_is_divergence():
    state = run([unjudged(0), unjudged(1, 1e6)], vocab_size=2048)
    assert (state.degraded_step, state.severe_step, state.lost_step, state.diverged_step) == (1, 1, 1, None)
    assert (state.loss_fate, outcome(state).fate) == ("lost", "lost")
    assert run([unjudged(0), unjudged(1, is_finite=False)]).diverged_step == 1
    assert run([unjudged(0), unjudged(1, is_finite=False), unjudged(2)]).loss_fate == "diverged"


def test_the_worst_loss_fate_is_told():
    rises = {0.0: None, 0.1: "degraded", 0.7: "severe", 20.0: "lost"}
    for rise, name in rises.items():
        state = run([unjudged(0), unjudged(1, 3.0 + rise), unjudged(2)])
        assert (state.loss_fate, outcome(state).fate) == (name, name or "healthy")


def test_losses_known_later_in_a_step_are_taken_in_then():
    state = run([unjudged(0), unjudged(1, None)])
    later = advance_losses(state, unjudged(1, 20.0, is_finite=False))
    assert (later.step, later.lost_step, later.diverged_step) == (1, 1, 1)
    assert advance_losses(later, unjudged(1, 20.0, is_finite=False)) == later


def test_of_divergence_and_total_collapse_the_earlier_names_the_run():
    total, bad = pattern("x" * 8), unjudged(30, is_finite=False)
    assert outcome(run([*total, bad])).fate == "total-collapse"
    assert outcome(run([*pattern("xxxxxx"), bad])).fate == "diverged"
    recovered = pattern("x" * 8 + "." * 12)
    assert outcome(run(recovered)).fate == "recovered"
    assert outcome(run([*recovered, bad])).fate == "diverged", "what has recovered and diverged is not well"


def test_a_censored_run_says_how_long_it_was_watched():
    assert outcome(run(pattern("." * 30))) == outcome(run(pattern("." * 20))).__class__(
        fate="healthy",
        last_step=29,
        degenerate_share=0.0,
        onset_step=None,
        total_collapse_step=None,
        recovered_step=None,
        degraded_step=None,
        severe_step=None,
        lost_step=None,
        diverged_step=None,
        kind_at_onset=None,
        kind_at_end=None,
    )
    assert outcome(CollapseState(50_257)).fate == "healthy"
    assert outcome(run(pattern("xxxxxx.."))).fate == "onset"


def test_collapse_into_noise_is_called_melted():
    steps = [observed(step, step > 3, "melted") for step in range(12)]
    assert outcome(run(steps[:12])).fate == "melted"
    assert (outcome(run(steps)).fate, outcome(run(steps)).kind_at_onset) == ("melted", "melted")
    assert outcome(run(steps[:6])).fate == "healthy", "not yet an onset"
    looping = [*steps, *(observed(step, True) for step in range(12, 24))]
    assert outcome(run(looping)).fate == "total-collapse", "what loops in the end has not melted"


def test_with_a_short_window_total_collapse_waits_for_onset():
    thresholds = Collapse(window=1, patience=3)
    assert run(pattern("x"), thresholds).total_collapse_step == 0
    assert run(pattern("xx"), thresholds).steps_past_collapse == -1
    assert run(pattern("xxx"), thresholds).steps_past_collapse > 0


def test_kind_at_onset_and_now_may_differ():
    state = run([observed(step, True, "low-entropy" if step < 8 else "single-token") for step in range(16)])
    assert (state.kind_at_onset, state.kind) == ("low-entropy", "single-token")


def test_the_commonest_kind_names_the_window():
    kinds = ["loop", "loop", "loop", "low-entropy", "low-entropy"]
    assert run([observed(step, True, kind) for step, kind in enumerate(kinds)]).kind == "loop"
    assert run([observed(0, True, "loop"), observed(1, True, "whitespace")]).kind == "whitespace"  # the newest


def test_frozen_steps_that_resemble_each_other_are_a_template():
    ids = random_ids(0)
    alike = [replace(observed(step, True, "frozen"), samples=(ids,)) for step in range(8)]
    assert run(alike).kind == "template"
    assert run([observed(step, True, "frozen") for step in range(8)]).kind == "frozen"


def test_noise_is_divergence_without_degenerate_samples():
    assert run([*pattern("..."), unjudged(3, is_finite=False)]).kind == "noise"
    assert run([*pattern("..x"), unjudged(3, is_finite=False)]).kind == "loop"
    assert run(pattern("...")).kind is None


def test_the_state_keeps_only_the_samples_a_template_is_looked_for_in():
    state = run([observed(step, False) for step in range(20)])
    assert state.earlier_samples(THRESHOLDS) == [random_ids(step) for step in range(13, 20)]
    assert run(pattern("."), Collapse(window=1)).earlier_samples(Collapse(window=1)) == []


def test_steps_come_in_order():
    with pytest.raises(AssertionError):
        run([unjudged(1), unjudged(1)])
