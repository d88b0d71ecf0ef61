"""The names on the page are those of the table of recorded numbers."""

from __future__ import annotations

from collapselab.collapse.numbers import NUMBERS
from collapselab.report.definitions import definitions


def test_every_recorded_number_is_defined_on_the_page_once() -> None:
    of_first_text = {name for name in NUMBERS if f"{name}[TEXT]" in NUMBERS}
    assert set(NUMBERS) - of_first_text <= set(definitions())
    assert not of_first_text & set(definitions()), "they would have the anchor of the same name with its text"
