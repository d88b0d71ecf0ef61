"""Records: what the loop yields and the run directory keeps, one per step; and JSON with non-finite numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

SCHEMA_VERSION = 2

Role = Literal["train", "used", "probe", "start"]
Value = float | int | bool | str | list[str] | None
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class Number:
    """Describes a recorded number: unit, meaning, the label that people see and, if it is drawn, its curve's panel.

    `live`: its short name in the live view; `None`: it is not shown there.
    """

    unit: str
    meaning: str
    label: str | None = None
    panel: Literal["loss", "repetition", "entropy", "window", "reward"] | None = None
    live: str | None = None


@dataclass(frozen=True)
class Sample:
    """One generated sequence: its ids (without the prompt), their text, and what it was for.

    `role` is "train" for a sequence the loop trains on, unless a safeguard changed it: then it is what the model wrote,
    and what the loop trains on is "used"; "probe" for one that only judges the model, "start" for one of
    the untouched model, to compare with. `token_ends` says where in the text each token ends, in characters; `None` in
    older records.
    """

    token_ids: tuple[int, ...]
    text: str
    role: Role = "train"
    token_ends: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Record:
    """Step t of a run: the model after t updates, and what it wrote.

    `values` holds the names of `steps.jsonl` (docs/run-directory.md lists them); an unknown value is `None`.
    """

    step: int
    values: Mapping[str, Value]
    samples: tuple[Sample, ...] = field(default=())

    def number(self, name: str) -> float | None:
        """A value as a number; `None` where it is unknown or was not recorded."""
        value = self.values.get(name)
        return float(value) if isinstance(value, (int, float)) else None


def dumps(value: object, *, indent: int | None = None) -> str:
    """JSON in which non-finite numbers are the strings "NaN", "Infinity" and "-Infinity"."""
    return json.dumps(_encode(value), ensure_ascii=False, allow_nan=False, indent=indent)


def loads(text: str) -> Any:
    """The inverse of `dumps`.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return _decode(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted name, in order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _encode(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        items = cast(Mapping[str, object], value).items()
        return {key: _encode(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in cast(list[object], value)]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        # The text of a sample may itself read "NaN"; text stays text.
        items = cast(dict[str, Any], value).items()
        return {key: item if key == "text" else _decode(item) for key, item in items}
    if isinstance(value, list):
        return [_decode(item) for item in cast(list[Any], value)]
    return value


def are_token_ends(ends: object, text: str, ids: Sequence[int]) -> bool:
    """Whether `token_ends` of a sample says where in its text each of its tokens ends; `None` in older records."""
    if ends is None:
        return True
    if not isinstance(ends, list) or not all(type(end) is int for end in cast(list[object], ends)):
        return False
    known = cast(list[int], ends)
    return len(known) == len(ids) and known == sorted(known) and ([0, *known][-1], min([0, *known])) == (len(text), 0)
