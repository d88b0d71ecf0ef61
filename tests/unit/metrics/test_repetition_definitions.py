"""Repetition metrics against their slow definitions, and properties that hold for every sample."""

import random
from collections.abc import Sequence
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.metrics import repetition_metrics, that_need
from collapselab.metrics.matches import match_lengths
from collapselab.metrics.repetition import (
    MAX_PERIOD,
    SLIP_DISTANCE,
    find_loop,
    rep_r,
    rep_w,
    seq_rep,
)

SAMPLE_METRICS = that_need("sample")
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
