from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.metrics import SAMPLE_METRICS, repetition_metrics
from collapselab.metrics.matches import match_lengths
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

few_tokens = st.lists(st.integers(0, 2), max_size=40)


# --- slow definitions, word for word from the docstrings


def slow_seq_rep(ids: Sequence[int], n: int) -> float | None:
    grams = [list(ids[k : k + n]) for k in range(len(ids) - n + 1)]
    distinct = [gram for k, gram in enumerate(grams) if gram not in grams[:k]]
    return 1 - len(distinct) / len(grams) if grams else None


def slow_rep_w(ids: Sequence[int], w: int) -> float | None:
    return sum(token in ids[max(0, k - w) : k] for k, token in enumerate(ids)) / len(ids) if ids else None


def slow_rep_r(ids: Sequence[int]) -> float | None:
    if len(ids) < 2:
        return None
    again = set[int]()
    for a in range(len(ids) - 1):
        for b in range(len(ids) - 1):
            if a != b and ids[a : a + 2] == ids[b : b + 2]:
                again |= {a, a + 1}
    return len(again) / len(ids)


def slow_match_lengths(ids: Sequence[int]) -> list[int]:
    def match(i: int, j: int) -> int:
        length = 0
        while i + length < len(ids) and ids[i + length] == ids[j + length]:
            length += 1
        return length

    return [max((match(i, j) for j in range(i)), default=0) for i in range(len(ids))]


def slow_strict_loop(ids: Sequence[int]) -> tuple[int | None, int]:
    """(period, span): every span of every period is tried."""
    best: tuple[int | None, int] = (None, 0)
    for p in range(1, MAX_PERIOD + 1):
        for start in range(len(ids)):
            end = start + p
            while end < len(ids) and ids[end] == ids[end - p]:
                end += 1
            span = end - start
            if span >= 2 * p and span > best[1]:
                best = (p, span)
    return best


def slow_tolerant_span(ids: Sequence[int], p: int) -> int:
    """The longest span of one period: from every start, token by token."""
    mism = [i >= p and ids[i] != ids[i - p] for i in range(len(ids))]
    echo = [
        i >= 2 * p and mism[i] and mism[i - p] and not mism[i - 2 * p] and ids[i] == ids[i - 2 * p]
        for i in range(len(ids))
    ]
    best = 0
    for start in range(p, len(ids)):
        is_slip = mism[start] and not echo[start]
        if is_slip and not (start + p < len(ids) and echo[start + p]):
            continue
        last_slip = -SLIP_DISTANCE
        for i in range(start, len(ids)):
            if echo[i] and i - p < start:
                break
            if mism[i] and not echo[i]:
                if i - last_slip < SLIP_DISTANCE:
                    break
                last_slip = i
            else:
                best = max(best, i + 1 - start + p)
    return best


# --- exact values by hand


def test_seq_rep_by_hand():
    ids = [1, 2, 1, 2, 1]  # 2-grams 12 21 12 21; 3-grams 121 212 121; 4-grams 1212 2121
    assert [seq_rep(ids, n) for n in (1, 2, 3, 4)] == [1 - 2 / 5, 1 - 2 / 4, 1 - 2 / 3, 0]
    assert diversity(ids) == pytest.approx((2 / 4) * (2 / 3) * 1)


def test_rep_w_looks_back_exactly_w_tokens():
    ids = [7, *range(100, 115), 7]  # the second 7 stands 16 tokens after the first
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


# --- against the slow definitions


@given(few_tokens, st.integers(1, 4))
def test_seq_rep_equals_its_definition(ids: list[int], n: int):
    assert seq_rep(ids, n) == slow_seq_rep(ids, n)


@given(few_tokens, st.integers(1, 16))
def test_rep_w_equals_its_definition(ids: list[int], w: int):
    assert rep_w(ids, w) == slow_rep_w(ids, w)


@given(few_tokens)
def test_rep_r_equals_its_definition(ids: list[int]):
    assert rep_r(ids) == slow_rep_r(ids)


@given(few_tokens)
def test_match_lengths_equal_their_definition(ids: list[int]):
    assert match_lengths(ids) == slow_match_lengths(ids)


@given(few_tokens)
def test_strict_loop_equals_its_definition(ids: list[int]):
    loop = find_loop(ids, tolerant=False)
    expected = slow_strict_loop(ids) if len(ids) >= 2 else None
    assert (None if loop is None else (loop.period, loop.span)) == expected


def looping_with_noise(seed: int, length: int) -> list[int]:
    """Loops that begin, slip and change at random, and some noise between them."""
    draw = random.Random(seed)
    ids: list[int] = []
    while len(ids) < length:
        body = [draw.randrange(3) for _ in range(draw.randrange(1, 9))]
        ids += (body * 20)[: draw.randrange(90)]
        ids += [draw.randrange(4) for _ in range(draw.randrange(3))]
    return ids[:length]


@pytest.mark.parametrize("seed", range(12))
def test_tolerant_loop_of_long_text_equals_its_definition(seed: int):
    ids = looping_with_noise(seed, 160)
    spans = {p: slow_tolerant_span(ids, p) for p in range(1, MAX_PERIOD + 1)}
    period, span = max(((p, s) for p, s in spans.items() if s >= 2 * p), key=lambda pair: (pair[1], -pair[0]))
    loop = find_loop(ids, tolerant=True)
    assert loop is not None
    assert (loop.period, loop.span) == (period, span)


@given(few_tokens)
def test_tolerant_loop_equals_its_definition(ids: list[int]):
    spans = {p: slow_tolerant_span(ids, p) for p in range(1, MAX_PERIOD + 1)}
    copies_2 = [(p, span) for p, span in spans.items() if span >= 2 * p]
    loop = find_loop(ids, tolerant=True)
    expected = max(copies_2, key=lambda pair: (pair[1], -pair[0]), default=(None, 0)) if len(ids) >= 2 else None
    assert (None if loop is None else (loop.period, loop.span)) == expected


# --- properties


@given(few_tokens)
def test_the_tolerant_loop_is_never_shorter_than_the_strict_one(ids: list[int]):
    strict, tolerant = find_loop(ids, tolerant=False), find_loop(ids, tolerant=True)
    if strict is None or tolerant is None:
        assert strict is tolerant is None
    else:
        assert tolerant.span >= strict.span


@given(few_tokens)
def test_metrics_do_not_depend_on_which_tokens_they_are(ids: list[int]):
    renamed = [{0: 17, 1: 4, 2: 65_000}[token] for token in ids]
    values, renamed_values = repetition_metrics(ids), repetition_metrics(renamed)
    del values["lz_ratio"], renamed_values["lz_ratio"]  # deflate sees bytes
    assert values == renamed_values


@settings(deadline=None)
@given(few_tokens)
def test_one_pass_gives_what_the_table_gives(ids: list[int]):
    assert repetition_metrics(ids) == {name: metric.function(ids) for name, metric in SAMPLE_METRICS.items()}


@given(few_tokens.filter(bool))
def test_longest_run_is_a_loop_of_period_1_or_shorter_than_the_loop(ids: list[int]):
    longest_run = max(len(list(run)) for _, run in groupby(ids))
    loop = find_loop(ids, tolerant=False)
    assert longest_run < 2 or (loop is not None and loop.span >= longest_run)


@pytest.mark.parametrize(("length", "limit_ms"), [(200, 5), (1024, 30)])
def test_metrics_are_fast_enough_for_every_step(length: int, limit_ms: float):
    # The best of several, in CPU time: other processes on the machine do not count.
    from time import process_time

    draw = random.Random(length)
    ids = [draw.randrange(3000) for _ in range(length)]
    times_s: list[float] = []
    for _ in range(10):
        begin = process_time()
        repetition_metrics(ids)
        times_s.append(process_time() - begin)
    assert min(times_s) * 1000 < limit_ms
