"""What is judged on the text of a sample: tokens may cut one number into four, and a word too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from collapselab.metrics.repetition import find_loop

_WORD = re.compile(r"[^\W\d_]{2,}(?:['’]\w+)?")
_NUMBER = re.compile(r"\d+")
_PIECE = re.compile(r"\d+|[^\W\d]+|\s+|[^\w\s]")
_MIN_NUMBERS, _MIN_WORDS = 6, 20
_MAX_SLOTS = 4  # numbers in one copy of the loop
# A slip in a row of ten: a model that counts skips a number now and then.
_STEADY_SHARE = 0.8


def counting_span(text: str) -> float:
    """The share of a text inside a loop of equal pieces, numbers aside, whose numbers go up or down by one step.

    Pieces are words, numbers, runs of white space and signs. 0 where the numbers are not steady: a table of
    measurements or of dates has a frame and no step.
    """
    if not _are_steady([int(number) for number in _NUMBER.findall(text) if len(number) < 10]):
        return 0.0
    pieces = _PIECE.findall(text)
    known: dict[str, int] = {}
    ids = [known.setdefault("0" if piece[0].isdecimal() else piece, len(known)) for piece in pieces]
    loop = find_loop(ids, tolerant=True)
    return 0.0 if loop is None or loop.copies < 3 else loop.span / len(ids)


def _are_steady(numbers: Sequence[int]) -> bool:
    """Whether the numbers stand in up to four slots, one or more of which move by one step and the others stay."""
    for slots in range(1, _MAX_SLOTS + 1):
        steps = [later - earlier for earlier, later in zip(numbers, numbers[slots:], strict=False)]
        if len(steps) < _MIN_NUMBERS - 1:
            return False
        moves = Counter(step for step in steps if step)
        count = max(moves.values(), default=0)
        if slots * count >= _STEADY_SHARE * len(steps) and count + steps.count(0) >= _STEADY_SHARE * len(steps):
            return True
    return False


def stutter_share(text: str) -> float:
    """The share of words (two letters or more) that equal the word before; 0 for fewer than 20 words.

    "To to be be or or" has 0.5, and neither a loop nor a repeated 4-gram. Numbers do not count: tables repeat them.
    """
    words = _WORD.findall(text)
    if len(words) < _MIN_WORDS:
        return 0.0
    return sum(word == before for before, word in pairwise(words)) / len(words)
