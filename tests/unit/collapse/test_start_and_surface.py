"""Rules that look at text, at losses, or at what the untouched model wrote."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from collapselab.collapse.judging import recorded, verdict_values
from collapselab.collapse.rules import SampleVerdict, StepVerdict, diversity_change, judge_sample, judge_step, unspaced
from collapselab.collapse.start import Start, moved_thresholds
from collapselab.collapse.surface import counting_span, stutter_share
from collapselab.config.schema import Collapse
from collapselab.metrics import repetition_metrics
from collapselab.records import Record
from random_text import random_ids

THRESHOLDS = Collapse()
HEALTHY = SampleVerdict(False)
NOISE = random_ids(1, 200, 40_000)


# --- the surface of a text


@pytest.mark.parametrize(
    "text",
    [
        ", ".join(map(str, range(40))),
        "".join(f"{n}. I am sure of it.\n" for n in range(7, 40)),
        "\n".join(f"Chapter {n}, page {n}" for n in range(3, 30)),
        " ".join(f"image_{n}.png 2024" for n in range(90, 60, -1)),
        ", ".join(str(n) for n in range(40) if n != 17),
    ],
    ids=["numbers", "sentence", "two slots", "down, with a number that stays", "one left out"],
)
def test_counting_is_a_loop_but_for_its_numbers(text: str) -> None:
    assert counting_span(text) > 0.5
    assert judge_sample(NOISE, THRESHOLDS, None, text=text) == SampleVerdict(True, ("counting",), "counting")


def test_numbers_without_a_step_and_lists_of_other_lines_are_no_counting() -> None:
    draw = random.Random(0)
    words = ["house", "river", "winter", "letter", "garden", "morning", "candle", "window", "father", "sister"]
    assert counting_span(",".join(str(draw.randrange(1000)) for _ in range(100))) == 0
    assert counting_span("\n".join(f"{n}. {' '.join(draw.sample(words, 6))}" for n in range(30))) < 0.5
    assert counting_span("In the year 1815 they met, and in 1816 they wed.") == 0
    assert counting_span("7, " * 50) == 0, "a loop is no counting"
    assert counting_span("² ³ ² ³ " * 20) == 0, "no decimal digits"


def test_stutter_is_the_share_of_words_that_equal_the_one_before() -> None:
    words = [f"{a}{b}" for a in "abcdef" for b in "ghijkl"]
    assert stutter_share(" ".join(f"{word} {word}" for word in words)) == pytest.approx(0.5)
    assert stutter_share(" ".join(words)) == 0
    assert stutter_share("very very good") == 0, "too few words to say"
    assert stutter_share("0 0 0 " * 50) == 0, "numbers are no words"
    stuttering = " ".join(f"{word}, {word}," for word in words)
    assert judge_sample(NOISE, THRESHOLDS, None, text=stuttering) == SampleVerdict(True, ("stutter",), "low-entropy")


def test_runs_of_blanks_are_layout() -> None:
    texts = {0: " ", 1: "\t", 2: "\n", **{i: f"w{i}" for i in range(3, 300)}}

    def decode(ids: Sequence[int]) -> str:
        return "".join(texts[i] for i in ids)

    assert unspaced([0, 0, 1, 5, 0, 6, 2, 2], decode) == [0, 5, 0, 6, 2, 2]
    code = [token for word in range(3, 60) for token in (word, 2, *[0] * 4)]
    assert judge_sample(code, THRESHOLDS, None).degenerate is True
    assert judge_sample(code, THRESHOLDS, None, unspaced=unspaced(code, decode)) == HEALTHY
    blank = [0] * 200
    assert judge_sample(blank, THRESHOLDS, 0, unspaced=unspaced(blank, decode)).kind == "whitespace"
    line_ends = [3, *[2] * 199]
    assert judge_sample(line_ends, THRESHOLDS, 100, unspaced=unspaced(line_ends, decode)).degenerate is True


# --- length


@pytest.mark.parametrize(
    ("tokens", "bound"), [(100, 0.70), (199, 0.70), (200, 0.80), (400, 0.85), (1600, 0.95), (3200, 0.95)]
)
def test_the_bound_of_repeated_4_grams_grows_with_length(tokens: int, bound: float) -> None:
    metrics = {"loop_period": None, "loop_span": 0, "match_entropy_nats": 3.0, "top_token_share": 0.1}

    def reasons(value: float) -> tuple[str, ...]:
        return judge_sample(random_ids(1, tokens), THRESHOLDS, None, metrics | {"seq_rep_4": value}).reasons

    assert (reasons(bound - 1e-9), reasons(bound + 1e-9)) == ((), ("seq_rep_4",))


# --- melted


def step(own: float | None, entropy: float | None = None, start: Start | None = None) -> StepVerdict:
    return judge_step([NOISE], [HEALTHY], [], own, THRESHOLDS, entropy_nats=entropy, start=start, vocab_size=2048)


def test_a_step_near_a_uniform_guess_or_far_above_the_start_is_melted() -> None:
    melted, bound = StepVerdict(True, ("melted",), "melted"), 0.85 * math.log(2048)
    assert (step(bound - 1e-9), step(bound)) == (StepVerdict(False), melted)
    assert (step(3.0, bound - 1e-9), step(3.0, bound)) == (StepVerdict(False), melted)
    start = Start(THRESHOLDS, 3.0)
    assert (step(4.99, start=start), step(5.0, start=start), step(3.0, 5.0, start)) == (
        StepVerdict(False),
        melted,
        melted,
    )
    assert step(None, None, start) == StepVerdict(False)
    assert step(9.9, start=Start(THRESHOLDS, 7.6)) == StepVerdict(False), "an untrained model has nothing to lose"
    assert judge_step([NOISE], [HEALTHY], [], 99.0, THRESHOLDS) == StepVerdict(False), "nothing to compare with"


def test_the_start_knows_the_larger_of_the_losses_of_step_0() -> None:
    assert Start.of([], {"train_nll_nats": 0.4, "val_nll_nats": 3.3}, THRESHOLDS).nll_nats == 3.3
    assert Start.of([], {"train_nll_nats": 0.4, "val_nll_nats": None}, THRESHOLDS).nll_nats == 0.4
    assert Start.of([], {}, THRESHOLDS).nll_nats is None


# --- low diversity


def alike(samples: Sequence[Sequence[int]], start: Sequence[Sequence[int]]) -> bool:
    begun = Start.of(start, {}, THRESHOLDS)
    found = judge_step(samples[-1:], [HEALTHY], samples[:-1], None, THRESHOLDS, start=begun)
    return "low-diversity" in found.reasons


def slots(seed: int, frame: Sequence[int] = (1, 2, 3)) -> list[int]:
    return [token for word in random_ids(seed, 67, 40_000) for token in (*frame[:2], word + 10)][:200]


def test_templates_with_open_slots_and_shared_phrases_are_of_low_diversity() -> None:
    start = [random_ids(seed, 200, 40_000) for seed in range(8)]
    healthy = [random_ids(seed, 200, 40_000) for seed in range(10, 18)]
    framed = [slots(seed) for seed in range(8)]
    phrases = [random_ids(seed, 20, 40_000) for seed in range(30, 70)]
    draw = random.Random(1)
    mosaic = [[token for phrase in draw.sample(phrases, 10) for token in phrase] for _ in range(8)]
    assert not alike(healthy, start)
    assert all(judge_sample(ids, THRESHOLDS, None) == HEALTHY for ids in (*framed, *mosaic))
    assert alike(framed, start)
    assert alike(mosaic, start)
    assert not alike(framed[:7], start), "fewer than the start's samples are not compared"
    assert not alike(framed, framed), "what the untouched model writes is its normal text"
    assert not alike([ids[:90] for ids in framed], start), "too short to say"


# --- tables and code


def metrics_of(samples: Sequence[Sequence[int]]) -> list[dict[str, object]]:
    return [repetition_metrics(ids) | {"num_tokens": len(ids)} for ids in samples]


def table(seed: int) -> list[int]:
    """Rows of which one cell in twenty has one of three values: what a model of tables writes."""
    row, draw = random_ids(99, 19, 40_000), random.Random(seed)
    return [token for _ in range(10) for token in (*row, draw.randrange(3))]


def test_a_model_of_tables_may_write_tables_and_is_still_seen_to_loop() -> None:
    ids = table(0)
    assert judge_sample(ids, THRESHOLDS, None).degenerate is True
    start = Start.of([table(seed) for seed in range(8)], {}, THRESHOLDS)
    assert judge_sample(table(20), start.thresholds, None).degenerate is False
    loop = [token for _ in range(100) for token in (5, 6)]
    assert judge_sample(loop, start.thresholds, None).degenerate is True


def test_one_odd_sample_at_the_start_moves_nothing() -> None:
    prose = [random_ids(seed, 200, 40_000) for seed in range(7)]
    assert Start.of([*prose, table(0)], {}, THRESHOLDS).thresholds == THRESHOLDS
    assert Start.of([*prose[:6], table(0), table(1)], {}, THRESHOLDS).thresholds != THRESHOLDS
    assert moved_thresholds([], THRESHOLDS) == THRESHOLDS


def test_the_change_of_diversity_by_hand() -> None:
    """The start: 100 tokens that differ, twice; now 50 that differ, each twice, and the first half of them again."""
    start = Start(THRESHOLDS, None, (tuple(range(100)), tuple(range(100, 200))))
    new = [tuple(range(50)) * 2, tuple(range(50)) * 3]
    # Tokens: 200 alike for 50. 4-grams of the first 100 tokens: 50 that differ of 2 * 97; the start has 2 * 97.
    drop, share = math.log(200) - math.log(50), 50 / 194
    assert diversity_change(new, start) == (pytest.approx(drop), pytest.approx(share))
    assert diversity_change([NOISE, *new], start) == (pytest.approx(drop), pytest.approx(share)), "the latest count"
    step = judge_step(new[1:], [HEALTHY], new[:1], 3.0, THRESHOLDS, start=start)
    assert (step.entropy_drop_nats, step.distinct_4_share) == diversity_change(new, start)
    assert diversity_change(new[:1], start) == diversity_change(new, None) == (None, None)
    assert diversity_change([new[0], new[1][:99]], start) == (None, None)


def test_the_change_of_diversity_survives_the_record() -> None:
    verdict = StepVerdict(True, ("low-diversity",), "low-diversity", 1.5, 0.25)
    values = {"step": 3, **verdict_values(verdict)}
    assert (values["entropy_drop_nats"], values["distinct_4_share"]) == (1.5, 0.25)
    assert recorded(Record(3, values), THRESHOLDS).verdict == verdict
    earlier = {name: value for name, value in values.items() if name not in ("entropy_drop_nats", "distinct_4_share")}
    assert recorded(Record(3, earlier), THRESHOLDS).verdict == StepVerdict(True, ("low-diversity",), "low-diversity")
    assert set(verdict_values(None).values()) == {None}
