"""Makes foreign text (names, messages, generated text) fit to show: special characters spelled out, cut at words."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# Control, direction and zero-width characters, lone surrogates and non-characters: they would reorder, hide or break
# the surrounding text, and an SVG cannot hold them.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff"
    r"\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """A text with control, direction and zero-width characters, lone surrogates and non-characters spelled out.

    Line ends and tabs stay.
    """
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def first_words(text: str, at_most: int) -> str:
    """The beginning of a text, cut between two words if it has any."""
    if len(text) <= at_most:
        return text
    return (text[: at_most + 1].rpartition(" ")[0] or text[:at_most]) + " …"


def last_words(text: str, at_most: int) -> str:
    """The end of a text, cut between two words if it has any."""
    if len(text) <= at_most:
        return text
    return "… " + (text[-at_most - 1 :].partition(" ")[2] or text[-at_most:])


def html_table(rows: Iterable[Iterable[object]]) -> str:
    """Rows of values as an HTML table, for a notebook; all of them escaped."""
    cells = ("".join(f"<td>{html.escape(visible(str(value)))}</td>" for value in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
