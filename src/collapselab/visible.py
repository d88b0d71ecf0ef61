"""Foreign text (names, messages, generated text) made harmless where it is shown: spelled out instead of obeyed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# Control, direction and zero-width characters, lone surrogates, and what is no character: they would reorder, hide or
# break the text around, and an SVG cannot hold them.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff"
    r"\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """A text whose control, direction and zero-width characters, lone surrogates and non-characters are spelled out.

    Line ends and tabs stay.
    """
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def html_table(rows: Iterable[Iterable[object]]) -> str:
    """Rows of values as an HTML table, for a notebook; nothing in them is obeyed."""
    cells = ("".join(f"<td>{html.escape(visible(str(value)))}</td>" for value in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
