from __future__ import annotations

import math
import random
import zlib

import pytest
from hypothesis import strategies as st

from collapselab.metrics import repetition_metrics, that_need
from collapselab.metrics.repetition import (
    MAX_PERIOD,
    SLIP_DISTANCE,
    diversity,
    find_loop,
    longest_repeat,
    lz_ratio,
    match_entropy_nats,
    rep_r,
    rep_w,
    seq_rep,
    top_token_share,
)

SAMPLE_METRICS = that_need("sample")
few_tokens = st.lists(st.integers(0, 2), max_size=40)


# --- exact values by hand


def test_seq_rep_by_hand():
    ids = [1, 2, 1, 2, 1]  # 2-grams 12 21 12 21; 3-grams 121 212 121; 4-grams 1212 2121
    assert [seq_rep(ids, n) for n in (1, 2, 3, 4)] == [1 - 2 / 5, 1 - 2 / 4, 1 - 2 / 3, 0]
    assert diversity(ids) == pytest.approx((2 / 4) * (2 / 3) * 1)


def test_rep_w_looks_back_exactly_w_tokens():
    ids = [7, *range(100, 115), 7]  # the second 7 is 16 tokens after the first
    assert rep_w(ids, 16) == 1 / 17
    assert rep_w(ids, 15) == 0


def test_rep_r_by_hand():
    assert rep_r([1, 2, 3, 1, 2]) == 4 / 5
    assert rep_r([1, 1, 1]) == 1  # "1 1" occurs again, overlapping
    assert rep_r([1, 1]) == 0


def test_match_entropy_by_hand():
    # "1 2 1 2": L = 1 (no match), 1, 1 + 2, 1 + 1 -> mean of L_i / ln i over i = 2, 3, 4
    expected = 1 / ((1 / math.log(2) + 3 / math.log(3) + 2 / math.log(4)) / 3)
    assert match_entropy_nats([1, 2, 1, 2]) == pytest.approx(expected, abs=1e-12)


def test_match_entropy_finds_the_entropy_of_a_uniform_source():
    # Uniform over 2 tokens: ln 2 nats. The bias falls only as 1 / ln T: at T = 20,000 it is -10 %. The seed is fixed.
    draw = random.Random(0)
    assert match_entropy_nats([draw.randrange(2) for _ in range(20_000)]) == pytest.approx(math.log(2), rel=0.12)


def test_lz_ratio_is_raw_deflate_of_16_or_32_bit_ids():
    # 3 bits of header, two literals of 8, 7 for the end: 26 bits.
    assert lz_ratio([0]) == 4 / 2 == len(zlib.compress(bytes(2), 9)[2:-4]) / 2
    assert lz_ratio([65_536]) == len(zlib.compress(bytes([0, 0, 1, 0]), 9)[2:-4]) / 4
    draw = random.Random(0)
    # Uniform 16-bit ids cannot be compressed: stored, with 5 bytes a block.
    assert lz_ratio([draw.randrange(2**16) for _ in range(1000)]) == pytest.approx(1.0025, abs=0.001)


def test_top_token_share_and_longest_repeat_by_hand():
    assert top_token_share([4, 4, 5]) == 2 / 3
    assert longest_repeat([1, 2, 3, 9, 1, 2, 3, 8]) == 3
    assert longest_repeat([1, 2] * 10) == 18  # T - p, overlapping


def test_strict_loop_by_hand():
    loop = find_loop([9, 8, 1, 2, 3, 1, 2, 3, 1, 2, 7], tolerant=False)
    assert loop is not None
    assert (loop.period, loop.start, loop.span, loop.copies, loop.at_end) == (3, 2, 8, 8 / 3, False)


def test_a_loop_needs_two_copies():
    loop = find_loop([1, 2, 3, 4, 1, 2, 3], tolerant=True)
    assert loop is not None
    assert (loop.period, loop.span, loop.copies, loop.at_end) == (None, 0, 0, False)


@pytest.mark.parametrize("period", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("slip_at", range(40, 60))
def test_a_wrong_token_costs_the_tolerant_loop_nothing(period: int, slip_at: int):
    ids = list(range(period)) * (100 // period)
    ids[slip_at] = 99
    tolerant, strict = find_loop(ids, tolerant=True), find_loop(ids, tolerant=False)
    assert tolerant is not None
    assert strict is not None
    assert (tolerant.period, tolerant.span, tolerant.at_end) == (period, len(ids), True)
    assert strict.span == max(slip_at, len(ids) - slip_at - 1)


@pytest.mark.parametrize(("gap", "start"), [(SLIP_DISTANCE, 0), (SLIP_DISTANCE - 1, 61)])
def test_slips_must_be_64_tokens_apart(gap: int, start: int):
    # Too near, the loop begins after the first slip. Period 5: no echo falls on the other slip.
    ids = [0, 1, 2, 3, 4] * 40
    ids[60], ids[60 + gap] = 98, 99
    loop = find_loop(ids, tolerant=True)
    assert loop is not None
    assert (loop.period, loop.start, loop.end) == (5, start, 200)


@pytest.mark.parametrize("period", range(2, MAX_PERIOD + 1, 2))
def test_a_text_of_period_2q_is_no_loop_of_period_q(period: int):
    # The two halves differ everywhere, yet x_i = x_{i-2q} everywhere: what a naive echo rule would excuse.
    ids = list(range(period)) * 8
    loop = find_loop(ids, tolerant=True)
    assert loop is not None
    assert (loop.period, loop.span) == (period, len(ids))


@pytest.mark.parametrize(("length", "longest"), [(130, 64), (192, 64), (300, 100), (1024, 341)])
def test_periods_are_at_most_a_third_of_the_sample_or_64(length: int, longest: int):
    for period in (longest, longest + 1):
        loop = find_loop([i % period for i in range(length)], tolerant=True)
        assert loop is not None
        assert loop.period == (longest if period == longest else None)


def test_a_slip_on_the_last_token_leaves_the_loop_at_the_end():
    loop = find_loop([1, 2] * 50 + [9], tolerant=True)
    assert loop is not None
    assert (loop.span, loop.at_end) == (100, True)


# --- degenerate input


@pytest.mark.parametrize("name", SAMPLE_METRICS)
def test_nothing_is_known_of_an_empty_sample(name: str):
    assert SAMPLE_METRICS[name].function([]) is None


def test_one_token():
    values = repetition_metrics([3])
    known = {"seq_rep_1": 0.0, "rep_w": 0.0, "top_token_share": 1.0, "longest_repeat": 0, "lz_ratio": 4 / 2}
    assert values == dict.fromkeys(SAMPLE_METRICS) | known


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_seq_rep_is_undefined_below_n_tokens(n: int):
    assert seq_rep([5] * (n - 1), n) is None
    assert seq_rep([5] * n, n) == 0


def test_all_equal():
    values = repetition_metrics([6] * 200)
    assert values["seq_rep_1"] == 1 - 1 / 200
    assert values["seq_rep_4"] == 1 - 1 / 197
    assert values["rep_w"] == 199 / 200
    assert values["rep_r"] == values["top_token_share"] == 1
    assert (values["loop_period"], values["loop_span"], values["loop_span_strict"]) == (1, 200, 200)
    assert (values["loop_copies"], values["loop_at_end"], values["longest_repeat"]) == (200.0, True, 199)
    # L_i = 1 + (T - i + 1), from the definition.
    expected = 199 / sum((202 - i) / math.log(i) for i in range(2, 201))
    assert values["match_entropy_nats"] == pytest.approx(expected, abs=1e-12)


def test_all_distinct():
    values = repetition_metrics(list(range(200)))
    zero = (
        "seq_rep_1",
        "seq_rep_4",
        "rep_w",
        "rep_r",
        "loop_span",
        "loop_span_strict",
        "loop_copies",
        "longest_repeat",
    )
    assert {name: values[name] for name in zero} == dict.fromkeys(zero, 0)
    assert (values["loop_period"], values["loop_at_end"], values["diversity"]) == (None, False, 1)
    assert values["top_token_share"] == 1 / 200
    assert values["match_entropy_nats"] == pytest.approx(199 / sum(1 / math.log(i) for i in range(2, 201)))
