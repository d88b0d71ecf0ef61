"""Values as text for people: numbers, settings and cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd

from collapselab.visible import visible

UNKNOWN = "–"


def known(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row of a frame has a known value of this name."""
    return not bool(pd.isna(row.get(name)))


def short(value: float) -> str:
    """A number in short form: 2e-5, not 2e-05 or 0.00002."""
    text = f"{value:e}" if 0 < abs(value) < 1e-3 else f"{value:g}"
    mantissa, _, exponent = text.partition("e")
    mantissa = f"{float(mantissa):g}"
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def readable(value: object) -> str:
    """A cell for people: numbers to four digits, unknown as a dash, control characters spelled out."""
    if isinstance(value, (list, tuple)):
        return visible(", ".join(map(str, cast(Sequence[object], value))))
    if value is None or bool(pd.isna(cast(Any, value))):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(float(f"{value:.4g}"))
    return visible(str(value)).replace("\t", "⇥")


def shown(value: object) -> str:
    """`readable` for the page: with spaces between the parts of a list, and with a word for an empty text."""
    is_list = isinstance(value, (list, tuple))
    return readable(" ".join(map(str, cast(Sequence[object], value))) if is_list else value) or "(empty)"


def occurring(values: Any) -> list[str]:
    """The values that occur in a column, in words: numbers in order of size."""
    found: dict[str, Any] = {readable(value) or "(empty)": value for value in values.tolist()}
    is_numeric = all(isinstance(value, (int, float)) and not math.isnan(value) for value in found.values())
    return sorted(found, key=lambda words: found[words]) if is_numeric else list(found)


def counted(number: int, word: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
