"""The meaning of each number of a run: the table of recorded numbers, and the events of a run."""

from __future__ import annotations

from collapselab.collapse.numbers import ANY_TEXT, DERIVED, NUMBERS
from collapselab.collapse.words import EVENTS

REPEATS = (
    "tokens inside a passage of at least n tokens that occurs earlier in the same sample; the share beside the text is "
    "seq_rep_n of that sample; older records do not say where tokens end, and words, signs and line ends are marked "
    "instead"
)


def definitions() -> dict[str, str]:
    """The meaning of every name on the page: of steps, samples and runs."""
    every = (NUMBERS | DERIVED).items()
    numbers = {name: number.meaning for name, number in every if f"{name}[{ANY_TEXT}]" not in NUMBERS}
    events = {event.label: event.meaning for event in EVENTS.values()}
    return numbers | events | {"repeats marked in a sample": REPEATS}
