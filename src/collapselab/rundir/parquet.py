"""Frames as Parquet files that other programs read. Reading them back gives equal frames: types, `None` and NaN."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, cast

import pandas as pd

from collapselab.errors import InputError

# Columns of a frame, by name, in the `attrs` that pandas writes into the file.
LISTS, AS_JSON = "lists", "json"


def check_pyarrow() -> None:
    """Checks that the library for Parquet is installed.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError("Parquet needs the missing package pyarrow", "pip install 'collapselab[hf]'")


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame. Text and lists of numbers are such columns in the file; other objects are JSON text."""
    objects = {str(name): list[object](column) for name, column in frame.items() if column.dtype == object}
    lists = [name for name, values in objects.items() if all(map(_is_list_of_numbers, values))]
    as_json = [name for name, values in objects.items() if name not in lists and not all(map(_is_text, values))]
    made = frame.assign(**{name: list(map(json.dumps, objects[name])) for name in as_json})
    made.attrs = {LISTS: lists, AS_JSON: as_json}
    made.to_parquet(path, engine="pyarrow", index=False)


def read_frame(path: Path) -> pd.DataFrame:
    """The frame that `write_frame` wrote.

    Raises:
        InputError: no such file, or it holds no frame.
    """
    try:
        frame: Any = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "give a folder that Runs.to_parquet wrote") from None
    for kind, decode in ((LISTS, list), (AS_JSON, json.loads)):
        for name in frame.attrs.get(kind, []):
            frame[name] = pd.Series(list(map(decode, frame[name])), index=frame.index, dtype=object)
    frame.attrs = {}
    return frame


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and value == value.encode(errors="replace").decode())


def _is_list_of_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in cast(list[object], value))
