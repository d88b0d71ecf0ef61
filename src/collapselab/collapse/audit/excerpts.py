"""A degenerate text in a line: its loop shown once and counted."""

from __future__ import annotations

from dataclasses import dataclass

from collapselab.collapse.audit.samples import Judge, Judged
from collapselab.metrics.repetition import find_loop
from collapselab.visible import last_words

_LOOPED_TOKENS = 4096  # of the text, which are searched again for the loop
_BEFORE_TOKENS, _AFTER_TOKENS = 30, 15


def _as_numbers(ids: list[int]) -> str:
    return " ".join(map(str, ids))


@dataclass(frozen=True)
class Excerpt:
    """What stands before a loop, the loop once, how many copies there are, and what comes after.

    Where there is no loop, `before` is the text's beginning and the rest is empty.
    """

    before: str
    unit: str = ""
    copies: float = 0.0
    after: str = ""


def excerpt(judged: Judged, judge: Judge) -> Excerpt:
    """The excerpt of a text; of ids whose tokenizer is unknown, the ids."""
    ids = judged.ids[:_LOOPED_TOKENS].tolist()
    show = judge.decode if judged.text is not None else _as_numbers
    loop = find_loop(ids, tolerant=True)
    if loop is None or loop.period is None or loop.copies < 3:
        return Excerpt(judged.text if judged.text is not None else show(ids[:200]))
    unit = ids[loop.start : loop.start + loop.period]
    before = show(ids[max(0, loop.start - _BEFORE_TOKENS) : loop.start])
    if loop.start > _BEFORE_TOKENS:
        before = last_words(before, len(before) - 1)
    return Excerpt(before, show(unit), loop.copies, show(ids[loop.end : loop.end + _AFTER_TOKENS]))


def loop_places(judged: Judged, judge: Judge) -> tuple[int, int, int] | None:
    """Where in the text the loop begins, where its second copy does, and where it ends, in characters; `None`: no loop.

    Characters are those of decoded ids: where a tokenizer does not give back the text it read, they may be off.
    """
    ids = judged.ids[:_LOOPED_TOKENS].tolist()
    loop = find_loop(ids, tolerant=True)
    if loop is None or loop.period is None or loop.copies < 3:
        return None
    start, second, end = (len(judge.decode(ids[:at])) for at in (loop.start, loop.start + loop.period, loop.end))
    return start, second, end
