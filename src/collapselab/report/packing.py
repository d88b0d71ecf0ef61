"""Data inside a page: JSON that can never be markup; large data are packed (deflated, base64)."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

SIGNIFICANT_DIGITS = 4
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_UNKNOWN = ("NAType", "NaTType")  # of pd.NA and pd.NaT: the page of an audit is made without pandas
_NON_FINITE = {np.inf: "Infinity", -np.inf: "-Infinity"}


def script_json(value: object) -> str:
    """JSON for `<script type="application/json">`: ASCII without `<`, `>` and `&`, so no text can end the element.

    Lone surrogates, U+2028 and U+2029 are escapes too, as is everything beyond ASCII.
    """
    text = _json(value)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def packed(value: object) -> str:
    """JSON, deflated (zlib), in base64: letters, digits, `+`, `/` and `=`. The page unpacks it on demand."""
    return base64.b64encode(zlib.compress(_json(value).encode("ascii"), 6)).decode("ascii")


def columns_for_json(frame: Any) -> dict[str, NDArray[Any]]:
    """The columns of a frame, floats rounded to four significant digits. Rounding a whole column at once is fast."""
    return {str(name): _rounded(frame[name]) for name in frame.columns}


def json_list(column: NDArray[Any]) -> list[Any]:
    """The values of such a column as JSON takes them: unknown is None, an infinite number "Infinity" or "-Infinity"."""
    values = cast(list[Any], column.tolist())
    if column.dtype.kind in "iub":
        return values
    return [_json_value(value) for value in values]


def _rounded(column: Any) -> NDArray[Any]:
    if column.dtype.kind != "f":
        return column.to_numpy(dtype=None if column.notna().all() and column.dtype.kind in "iub" else object)
    numbers: NDArray[np.float64] = column.to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shift = SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(np.abs(numbers)))
        # Dividing by a power of ten gives the float nearest to the rounded decimal, which keeps the JSON short.
        places: NDArray[np.float64] = np.where(
            shift >= 0, np.rint(numbers * 10**shift) / 10**shift, np.rint(numbers / 10**-shift) * 10**-shift
        )
    return np.where(np.isfinite(places), places, numbers)


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return None if value != value else _NON_FINITE.get(value, value)
    return None if type(value).__name__ in _UNKNOWN else value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
