from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from collapselab.collapse import CollapseState, Observation, advance, outcome
from collapselab.config import Collapse
from collapselab.verdicts import SampleVerdict, StepVerdict, count_visible, judge_sample, judge_step

THRESHOLDS = Collapse()
BUILTIN = Path(__file__).parents[2] / "src" / "collapselab" / "builtin"
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
HEALTHY = SampleVerdict(False)
LOOPING = SampleVerdict(True, ("loop",), "loop")
SHORT = SampleVerdict(None, ("under_100_tokens",))


def random_ids(seed: int, length: int = 200, vocab_size: int = 3000) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(vocab_size) for _ in range(length))


# --- samples: what must be caught

SLIPS = ("none", "substitution", "insertion", "deletion")


def looping_sample(period: int, length: int, slip: str, seed: int) -> list[int]:
    """A loop of distinct random tokens (all below 50,000), with a slip about once per 64 tokens."""
    draw = random.Random(seed)
    body = draw.sample(range(50_000), period)
    ids: list[int] = []
    position, next_slip = 0, draw.randrange(48, 80)
    while len(ids) < length:
        if slip != "none" and len(ids) >= next_slip:
            next_slip += draw.randrange(64, 80)
            ids += [50_000 + len(ids)] * (slip != "deletion")
            position += slip != "insertion"
        else:
            ids.append(body[position % period])
            position += 1
    return ids[:length]


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize(
    ("length", "periods"), [(100, range(1, 26)), (200, range(1, 65)), (512, range(1, 65)), (1024, range(1, 65))]
)
def test_every_looping_sample_is_caught(length: int, periods: range, slip: str):
    missed = [
        (period, seed)
        for period in periods
        for seed in range(1 if length > 200 else 2)
        if not judge_sample(looping_sample(period, length, slip, seed), THRESHOLDS, None).degenerate
    ]
    assert missed == []


@pytest.mark.parametrize("period", [1, 2, 3, 20, 64])
def test_loops_are_named_loops(period: int):
    verdict = judge_sample(looping_sample(period, 200, "substitution", 3), THRESHOLDS, None)
    assert verdict.kind == ("single-token" if period == 1 else "loop")
    assert "loop" in verdict.reasons


@pytest.mark.parametrize("length", [100, 200, 512, 1024])
@pytest.mark.parametrize("seed", range(5))
def test_random_text_is_healthy(length: int, seed: int):
    assert judge_sample(random_ids(seed, length), THRESHOLDS, length) == HEALTHY


def test_a_loop_needs_three_copies_and_a_quarter_of_the_sample():
    noise = random_ids(0, 200, 40_000)

    def verdict(period: int, span: int) -> SampleVerdict:
        loop = (list(range(50_000, 50_000 + period)) * 64)[:span]
        return judge_sample([*noise[: 200 - span], *loop], THRESHOLDS, None)

    assert verdict(10, 50).reasons == ("loop",)
    assert verdict(10, 49) == HEALTHY  # under a quarter
    assert verdict(20, 60).reasons == ("loop",)
    assert verdict(20, 59) == HEALTHY  # under three copies


def test_each_rule_at_its_threshold():
    noise = random_ids(1, 200, 40_000)
    metrics = {
        "seq_rep_4": 0.0, "loop_period": None, "loop_span": 0, "match_entropy_nats": 3.0, "top_token_share": 0.1,
    }  # fmt: skip

    def reasons(ids: Sequence[int], visible: int | None = None, **changed: float) -> tuple[str, ...]:
        return judge_sample(ids, THRESHOLDS, visible, metrics | changed).reasons

    assert reasons(noise, seq_rep_4=0.5) == ("seq_rep_4",)
    assert reasons(noise, seq_rep_4=0.499) == ()
    assert reasons(noise[:199], seq_rep_4=0.699) == ()
    assert reasons(noise[:199], seq_rep_4=0.7) == ("seq_rep_4",)
    assert reasons(noise, match_entropy_nats=0.4) == ("match_entropy",)
    assert reasons(noise, match_entropy_nats=0.401) == ()
    assert reasons(noise, top_token_share=0.5) == ("top_token_share",)
    assert reasons(noise, top_token_share=0.499) == ()
    assert reasons(noise, visible=9) == ("whitespace",)
    assert reasons(noise, visible=10) == ()
    assert reasons(noise, visible=None) == ()


def test_thresholds_are_read():
    loose = THRESHOLDS.model_copy(update={"seq_rep_4": 1.0, "loop_share": 1.0, "loop_copies": 100.0})
    loose = loose.model_copy(update={"match_entropy_nats": 0.0})
    ids = looping_sample(20, 200, "none", 0)
    assert judge_sample(ids, THRESHOLDS, None).degenerate is True
    assert judge_sample(ids, loose, None) == HEALTHY


@pytest.mark.parametrize("ids", [[], [1], [1] * 99])
def test_short_samples_are_undefined(ids: list[int]):
    assert judge_sample(ids, THRESHOLDS, 0) == SHORT


def test_kinds_have_an_order():
    newlines = [5] * 200
    assert judge_sample(newlines, THRESHOLDS, 0).kind == "whitespace"
    assert judge_sample(newlines, THRESHOLDS, 200).kind == "single-token"
    # Half of "a b a b ..." is one token, yet it is a loop of two.
    verdict = judge_sample([5, 6] * 100, THRESHOLDS, 200)
    assert "top_token_share" in verdict.reasons
    assert verdict.kind == "loop"
    # One token between random others: no loop.
    mixed = [token for other in random_ids(0, 100) for token in (4000, other)]
    assert judge_sample(mixed, THRESHOLDS, 200) == SampleVerdict(True, ("top_token_share",), "single-token")
    # Two phrases of 30 tokens in random order: repetitive, but no loop.
    draw = random.Random(0)
    phrases = [list(range(k * 100, k * 100 + 30)) for k in range(2)]
    shuffled = [token for _ in range(34) for token in phrases[draw.randrange(2)]]
    verdict = judge_sample(shuffled, THRESHOLDS, None)
    assert "loop" not in verdict.reasons
    assert verdict.kind == "low-entropy"


def test_visible_tokens_are_those_with_more_than_white_space():
    texts = {0: " ", 1: "\n\n", 2: " the", 3: "�"}
    assert count_visible([0, 1, 2, 3, 2, 0], lambda ids: "".join(texts[token] for token in ids)) == 3


# --- samples: what must not be caught


def human_windows(text: str, length: int) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


@pytest.mark.parametrize("length", [200, 512])
@pytest.mark.parametrize("name", ["austen", "moby-dick"])
def test_shipped_human_text_is_healthy(name: str, length: int):
    text = (BUILTIN / "texts" / f"{name}.txt").read_text(encoding="utf-8")
    windows = human_windows(text[:60_000], length)
    assert len(windows) > 30
    assert [k for k, ids in enumerate(windows) if judge_sample(ids, THRESHOLDS, None).degenerate] == []


@pytest.mark.parametrize("name", ["wikitext-2", "ptb"])
def test_benchmark_human_text_is_healthy(name: str):
    path = SHARED_DATA / name / "valid.txt"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine (the text is not ours to ship)")
    windows = human_windows(path.read_text(encoding="utf-8")[:100_000], 512)
    assert len(windows) > 60
    assert [k for k, ids in enumerate(windows) if judge_sample(ids, THRESHOLDS, None).degenerate] == []


# --- steps


def test_a_step_is_degenerate_if_half_of_its_samples_are():
    samples = [random_ids(k) for k in range(4)]
    half = judge_step(samples, [LOOPING, HEALTHY, LOOPING, HEALTHY], [], None, THRESHOLDS)
    assert half == StepVerdict(True, ("loop",), "loop")
    assert judge_step(samples, [LOOPING, HEALTHY, HEALTHY, HEALTHY], [], None, THRESHOLDS) == StepVerdict(False)


def test_short_samples_count_as_not_degenerate():
    samples = [random_ids(0), random_ids(1, 20), random_ids(2, 20)]
    assert judge_step(samples, [LOOPING, SHORT, SHORT], [], None, THRESHOLDS) == StepVerdict(False)
    assert judge_step(samples[1:], [SHORT, SHORT], [], None, THRESHOLDS).degenerate is None


def test_a_frozen_step_is_certain_of_its_own_text():
    ids = random_ids(0)
    assert judge_step([ids], [HEALTHY], [], 0.10, THRESHOLDS) == StepVerdict(True, ("frozen",), "frozen")
    assert judge_step([ids], [HEALTHY], [], 0.101, THRESHOLDS) == StepVerdict(False)
    assert judge_step([ids], [HEALTHY], [], None, THRESHOLDS) == StepVerdict(False)
    assert judge_step([ids], [LOOPING], [], 0.0, THRESHOLDS) == StepVerdict(True, ("loop", "frozen"), "loop")
    assert judge_step([ids[:50]], [SHORT], [], 0.0, THRESHOLDS).degenerate is True


def test_a_template_stands_in_one_earlier_sample():
    ids = random_ids(0)
    copy = [*ids[:185], *random_ids(1, 15)]  # 182 of 197 4-grams: .924
    half_copy = [*ids[:100], *random_ids(1, 100)]
    template = StepVerdict(True, ("template",), "template")
    assert judge_step([copy], [HEALTHY], [random_ids(2), ids], None, THRESHOLDS) == template
    assert judge_step([half_copy], [HEALTHY], [ids], None, THRESHOLDS) == StepVerdict(False)
    # Its two halves stand in two samples: not one template.
    assert judge_step([ids], [HEALTHY], [ids[:110], ids[90:]], None, THRESHOLDS) == StepVerdict(False)
    # In a batch, at least half of the samples.
    others = [random_ids(k) for k in (5, 6, 7)]
    assert judge_step([ids, *others], [HEALTHY] * 4, [ids], None, THRESHOLDS) == StepVerdict(False)
    assert judge_step([ids, others[0]], [HEALTHY] * 2, [ids], None, THRESHOLDS) == template


# --- runs


def observed(step: int, degenerate: bool | None, kind: str = "loop", **losses: float | None) -> Observation:
    verdict = StepVerdict(degenerate, (kind,) if degenerate else (), kind if degenerate else None)
    known = {"train_nll_nats": 3.0, "val_nll_nats": 3.0} | losses
    return Observation(step, verdict, (random_ids(step),), known["train_nll_nats"], known["val_nll_nats"])


def unjudged(step: int, train: float | None = 3.0, val: float | None = 3.0) -> Observation:
    return Observation(step, None, (), train, val)


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
        if all(share >= 0.5 for share in shares[t : t + patience]):
            return t
    return None


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_onset_and_total_collapse_equal_their_definitions(degenerate: list[bool], window: int, patience: int):
    thresholds = Collapse(window=window, patience=patience)
    state = run([observed(step, flag) for step, flag in enumerate(degenerate)], thresholds)
    assert state.onset_step == slow_onset(degenerate, window, patience)
    ends = [t for t in range(window - 1, len(degenerate)) if all(degenerate[t - window + 1 : t + 1])]
    assert state.total_collapse_step == (ends[0] if ends else None)
    assert len(state.window) == min(window, len(degenerate))


def test_onset_is_known_patience_steps_later_and_dated_back():
    text = "." * 10 + "x" * 8
    # Half of the last 8 are degenerate from step 13 on.
    assert run(pattern(text[:15])).onset_step is None
    assert run(pattern(text[:16])).onset_step == 13
    assert run(pattern(text)).total_collapse_step == 17


def test_steps_before_the_first_count_as_not_degenerate():
    assert CollapseState(50_257).degenerate_share is None
    assert run(pattern("x")).degenerate_share == 1 / 8
    assert run(pattern("xxxx??")).onset_step == 3
    assert run(pattern("xxx...")).onset_step is None


def test_a_short_spell_is_no_onset():
    state = run(pattern("...xxxx....x.........."))
    assert (state.onset_step, state.total_collapse_step) == (6, None)  # the share stays at half from 6 to 10
    assert run(pattern("xx.xx...........")).onset_step == 4  # from 4 to 7
    assert run(pattern("xxx..x..........")).onset_step == 5  # from 5 to 7: just patience
    assert run(pattern("xxx...x.........")).onset_step is None  # 6 and 7 only


def test_steps_not_judged_leave_the_window_untouched():
    judged = [observed(10 * k, True) for k in range(8)]
    between = [unjudged(step) for step in range(80) if step % 10]
    state = run(sorted([*judged, *between], key=lambda seen: seen.step))
    alone = run(judged)
    assert (state.onset_step, state.total_collapse_step, state.window) == (30, 70, alone.window)
    assert state.degenerate_share == alone.degenerate_share == 1


def test_recovery_is_under_one_eighth_for_patience_steps_after_onset():
    text = "x" * 8 + "." * 7  # one of the last 8 is degenerate: exactly 1/8
    assert run(pattern(text)).recovered_step is None
    assert run(pattern(text + "..")).recovered_step is None
    state = run(pattern(text + "..."))
    assert (state.onset_step, state.total_collapse_step, state.recovered_step) == (3, 7, 15)
    assert outcome(state).outcome == "recovered"
    relapsed = pattern(text + "..." + "x" * 8 + "." * 12)
    assert outcome(run(relapsed[:26])).outcome == "total-collapse"
    assert run(relapsed).recovered_step == 15  # the first recovery
    assert run(pattern("." * 20)).recovered_step is None


def test_degraded_and_severe_are_rises_of_validation_loss():
    def rise(nats: float | None) -> Observation:
        return unjudged(9, val=None if nats is None else 3.0 + nats)

    first = unjudged(0)
    # 1e-9: the rises are differences of floats.
    assert run([first, rise(math.log(1.1) - 1e-9)]).degraded_step is None
    assert run([first, rise(math.log(1.1) + 1e-9)]).degraded_step == 9
    assert run([first, rise(math.log(2) - 1e-9)]).severe_step is None
    assert run([first, rise(math.log(2) + 1e-9)]).severe_step == 9
    assert run([first, rise(None)]).degraded_step is None
    assert run([unjudged(0, val=None), rise(5.0)]).severe_step is None
    assert outcome(run([first, rise(0.1)])).outcome == "degraded"
    assert outcome(run([first, rise(0.7)])).outcome == "severe"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_divergence(bad: float):
    assert run([unjudged(0), unjudged(1, train=bad)]).diverged_step == 1
    assert run([unjudged(0), unjudged(1, train=None, val=bad)]).diverged_step == 1


@pytest.mark.parametrize(("vocab_size", "bound"), [(2048, 1e4), (500, 5000)])
def test_divergence_is_beyond_either_bound(vocab_size: int, bound: float):
    start = unjudged(0)
    assert run([start, unjudged(1, val=math.log(bound) - 1e-9)], vocab_size=vocab_size).diverged_step is None
    assert run([start, unjudged(1, val=math.log(bound) + 1e-9)], vocab_size=vocab_size).diverged_step == 1


def test_a_model_that_began_beyond_the_bound_diverges_only_by_no_number():
    start = unjudged(0, val=math.log(2e4))
    assert run([start, unjudged(1, val=math.log(9e4))]).diverged_step is None
    assert run([start, unjudged(1, val=math.nan)]).diverged_step == 1


def test_a_perplexity_passed_on_the_way_to_total_collapse_does_not_name_the_run():
    on_the_way = [replace(seen, val_nll_nats=1.0 if seen.step == 0 else 9.5) for seen in pattern("x" * 8)]
    assert run(on_the_way).diverged_step == 1
    assert outcome(run(on_the_way)).outcome == "total-collapse"
    assert outcome(run(on_the_way[:7])).outcome == "diverged"


def test_of_a_loss_that_is_no_number_and_total_collapse_the_earlier_names_the_run():
    total = pattern("x" * 8)
    assert outcome(run([*total, unjudged(8, val=math.inf)])).outcome == "total-collapse"
    assert outcome(run([replace(total[0], train_nll_nats=math.nan), *total[1:]])).outcome == "diverged"


def test_a_censored_run_says_how_long_it_was_watched():
    assert outcome(run(pattern("." * 30))) == outcome(run(pattern("." * 20))).__class__(
        outcome="healthy",
        last_step=29,
        degenerate_share=0.0,
        onset_step=None,
        total_collapse_step=None,
        recovered_step=None,
        degraded_step=None,
        severe_step=None,
        diverged_step=None,
        kind_at_onset=None,
        kind_at_end=None,
    )
    assert outcome(CollapseState(50_257)).outcome == "healthy"
    assert outcome(run(pattern("xxxx..."))).outcome == "collapsed"


def test_with_a_short_window_total_collapse_waits_for_onset():
    thresholds = Collapse(window=1, patience=3)
    assert run(pattern("x"), thresholds).total_collapse_step == 0
    assert not run(pattern("xx"), thresholds).is_totally_collapsed
    assert run(pattern("xxx"), thresholds).is_totally_collapsed


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
    assert run([*pattern("..."), unjudged(3, train=math.nan)]).kind == "noise"
    assert run([*pattern("..x"), unjudged(3, train=math.nan)]).kind == "loop"
    assert run(pattern("...")).kind is None


def test_the_state_keeps_only_the_samples_a_template_is_looked_for_in():
    state = run([observed(step, False) for step in range(20)])
    assert state.earlier_samples(THRESHOLDS) == [random_ids(step) for step in range(13, 20)]
    assert run(pattern("."), Collapse(window=1)).earlier_samples(Collapse(window=1)) == []


def test_steps_come_in_order():
    with pytest.raises(AssertionError):
        run([unjudged(1), unjudged(1)])
