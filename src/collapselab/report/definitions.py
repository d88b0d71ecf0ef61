"""The meaning of each number of a run: the table of recorded numbers, and the events of a run."""

from __future__ import annotations

from collapselab.collapse.numbers import ANY_TEXT, DERIVED, NUMBERS
from collapselab.collapse.words import EVENTS

N_GRAMS = (
    "words, signs and line ends inside an n-gram that occurs earlier in the same sample; seq_rep_n counts tokens, "
    "but token borders are not recorded"
)


def definitions() -> dict[str, str]:
    """The meaning of every name on the page: of steps, samples and runs."""
    every = (NUMBERS | DERIVED).items()
    numbers = {name: number.meaning for name, number in every if f"{name}[{ANY_TEXT}]" not in NUMBERS}
    events = {event.label: event.meaning for event in EVENTS.values()}
    return numbers | events | {"n-grams marked in a sample": N_GRAMS}
