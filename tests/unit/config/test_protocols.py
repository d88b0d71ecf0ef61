"""Evaluation protocols: which tokens of a text are scored, counted by hand and for any length."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.config.protocols import Protocol, Window, parse_protocol
from collapselab.errors import InputError
from collapselab.randomness import rng

lengths = st.integers(2, 200)


def scored(windows: list[Window]) -> Counter[int]:
    return Counter(position for w in windows for position in range(w.first_scored, w.end))


def test_disjoint_windows_by_hand() -> None:
    assert parse_protocol("disjoint[4]").windows(10) == [Window(0, 4, 1), Window(4, 8, 5), Window(8, 10, 9)]
    # A last window of one token has nothing to score.
    assert parse_protocol("disjoint[4]").windows(9) == [Window(0, 4, 1), Window(4, 8, 5)]
    assert parse_protocol("disjoint[4]+eot").windows(9) == [Window(0, 4, 0), Window(4, 8, 4), Window(8, 9, 8)]


def test_sliding_windows_by_hand() -> None:
    windows = parse_protocol("sliding[4,2]").windows(9)
    assert windows == [Window(0, 4, 1), Window(2, 6, 4), Window(4, 8, 6), Window(5, 9, 8)]
    assert parse_protocol("sliding[4,2]").windows(3) == [Window(0, 3, 1)]


@settings(deadline=None, derandomize=True)
@given(lengths, st.integers(2, 50), st.booleans())
def test_disjoint_scores_every_token_but_the_first_of_each_window_once(length: int, n: int, prefixed: bool) -> None:
    counts = scored(Protocol("disjoint", n, end_of_text_prefix=prefixed).windows(length))
    expected = {i for i in range(length) if prefixed or i % n}
    assert counts == Counter(expected)


@settings(deadline=None, derandomize=True)
@given(lengths, st.integers(2, 50), st.data(), st.booleans())
def test_sliding_scores_every_token_but_the_texts_first_once(
    length: int, n: int, data: st.DataObject, prefixed: bool
) -> None:
    stride = data.draw(st.integers(1, n - 1))
    windows = Protocol("sliding", n, stride, prefixed).windows(length)
    assert scored(windows) == Counter(range(0 if prefixed else 1, length))
    assert all(w.end - w.start <= n for w in windows)
    assert all(w.end - w.start == n for w in windows) or length < n, "later windows read all the context they may"


@settings(deadline=None, derandomize=True)
@given(st.integers(10, 200), st.integers(0, 5))
def test_random_windows_fit_the_text_and_are_those_of_their_generator(length: int, seed: int) -> None:
    protocol = parse_protocol("windows[10,7]")
    windows = protocol.windows(length, rng(seed, "evaluation", 0))
    assert len(windows) == 7
    assert all((w.end - w.start, w.first_scored - w.start) == (10, 1) and 0 <= w.start <= length - 10 for w in windows)
    assert windows == protocol.windows(length, rng(seed, "evaluation", 0))


def test_random_windows_reach_both_ends_of_the_text() -> None:
    windows = Protocol("windows", 2, 500).windows(6, np.random.default_rng(0))
    assert {w.start for w in windows} == {0, 1, 2, 3, 4}  # a fixed generator: true for ever


@pytest.mark.parametrize("name", ["windows[100,100]", "disjoint[1024]", "disjoint[256]+eot", "sliding[1024,512]"])
def test_a_protocol_keeps_its_name(name: str) -> None:
    assert parse_protocol(f" {name} ").name == name


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("disjont[4]", "unknown evaluation protocol 'disjont[4]'", "did you mean 'disjoint'?"),
        ("", "unknown evaluation protocol ''", "known: disjoint, sliding, windows"),
        ("disjoint[4,2]", "not of the form of disjoint", "for example disjoint[1024]"),
        ("disjoint", "not of the form of disjoint", "for example disjoint[1024]"),
        ("windows[100]", "not of the form of windows", "for example windows[100,100]"),
        ("sliding[4,4]", "no context", "sliding[1024,512]"),
        ("sliding[4,0]", "nothing to score", "sliding[1024,512]"),
        ("disjoint[1]", "nothing to score", "disjoint[1024]"),
    ],
)
def test_what_is_no_protocol_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_protocol(text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(("name", "num_tokens", "needed"), [("windows[10,5]", 9, 10), ("disjoint[10]", 1, 2)])
def test_a_text_that_is_too_short_is_refused(name: str, num_tokens: int, needed: int) -> None:
    with pytest.raises(InputError, match=f"at least {needed} tokens, received {num_tokens}"):
        parse_protocol(name).windows(num_tokens, rng(0, "evaluation", 0))


def test_windows_have_a_greatest_number() -> None:
    assert parse_protocol("windows[5,100000]").argument == 100_000
    with pytest.raises(InputError, match="more than 100,000 windows"):
        parse_protocol("windows[5,100001]")
