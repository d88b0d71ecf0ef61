"""The repetition metrics in C against the plain ones, which are tested against their slow definitions."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.engine import repetition
from collapselab.engine.library import library
from collapselab.engine.repetition import repetition_of
from collapselab.metrics import repetition_metrics

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")


def check(samples: Sequence[Sequence[int]], threads: int = 1) -> None:
    for ids, fast in zip(samples, repetition_of(samples, threads), strict=True):
        plain = repetition_metrics(list(ids))
        del plain["lz_ratio"]
        assert list(fast) == list(plain)
        entropy = plain["match_entropy_nats"]
        if isinstance(entropy, float):  # a sum of logarithms: the last bit may differ
            assert fast["match_entropy_nats"] == pytest.approx(entropy, rel=1e-12)
            plain["match_entropy_nats"] = fast["match_entropy_nats"]
        assert fast == plain, ids


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=60), max_size=6))
def test_few_tokens(samples: list[list[int]]) -> None:
    check(samples)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.integers(1, 90), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_loops_that_slip(period: int, num_slips: int, seed: int) -> None:
    """Loops of every period, with slips, insertions and deletions, and healthy tokens around them."""
    draw = random.Random(seed)
    unit = [draw.randrange(30) for _ in range(period)]
    ids = [draw.randrange(2**32) for _ in range(draw.randrange(80))] + unit * draw.randrange(2, 2 + 400 // period)
    for _ in range(num_slips):
        place = draw.randrange(len(ids))
        ids[place : place + draw.randrange(3)] = [draw.randrange(30) for _ in range(draw.randrange(3))]
    check([ids or [1]])


def test_degenerate_input() -> None:
    check([[], [5], [5, 5], [1, 2], [7] * 300, list(range(1000)), [2**32 - 1, 0] * 40])
    assert repetition_of([]) == []


def test_threads_and_samples_in_one_call_change_nothing() -> None:
    draw = random.Random(1)
    samples = [[draw.randrange(9) for _ in range(draw.randrange(700))] for _ in range(60)]
    check(samples, threads=4)


def test_without_a_compiler_the_plain_path_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = repetition_of([[1, 2] * 60])
    monkeypatch.setattr(repetition, "library", lambda: None)
    assert repetition_of([[1, 2] * 60])[0] == pytest.approx(fast[0], rel=1e-12)
