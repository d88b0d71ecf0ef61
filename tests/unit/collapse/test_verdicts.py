"""Whether a sample and a step are degenerate: what must be caught, and what must not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from collapselab.collapse.rules import SampleVerdict, StepVerdict, count_visible, judge_sample, judge_step
from collapselab.config.schema import Collapse
from random_text import random_ids

THRESHOLDS = Collapse()
BUILTIN = Path(__file__).parents[3] / "src" / "collapselab" / "builtin"
SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"
HEALTHY = SampleVerdict(False)
LOOPING = SampleVerdict(True, ("loop",), "loop")
SHORT = SampleVerdict(None, ("under_100_tokens",))


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

    assert reasons(noise, seq_rep_4=0.8) == ("seq_rep_4",)
    assert reasons(noise, seq_rep_4=0.799) == ()
    assert reasons(noise[:199], seq_rep_4=0.699) == ()
    assert reasons(noise[:199], seq_rep_4=0.7) == ("seq_rep_4",)
    assert reasons(noise, match_entropy_nats=0.3, seq_rep_4=0.61) == ("match_entropy",)
    assert reasons(noise, match_entropy_nats=0.301, seq_rep_4=0.61) == ()
    assert reasons(noise, match_entropy_nats=0.1, seq_rep_4=0.599) == (), "one long passage that stands twice"
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


@pytest.mark.parametrize("num_grams", range(100, 1021, 20))
@pytest.mark.parametrize("share", [0.9, 0.55, 0.7, 0.95])
def test_a_share_of_exactly_the_threshold_is_a_template(share: float, num_grams: int) -> None:
    """`0.55 * 100 > 55` in floating point: the share is compared, not a product."""
    earlier = list(range(2000))
    num_copied = round(share * num_grams)
    thresholds = THRESHOLDS.model_copy(update={"template_share": share})

    def judged(copied: int) -> bool | None:
        ids = [*earlier[: copied + 3], *range(5000, 5000 + num_grams - copied)]
        return judge_step([ids], [HEALTHY], [earlier], None, thresholds).degenerate

    assert (judged(num_copied), judged(num_copied - 1)) == (True, False)
