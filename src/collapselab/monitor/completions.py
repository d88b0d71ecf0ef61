"""Completions as they are handed over: lists, tensors or arrays, of one or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from collapselab.engine.repetition import repetition_of
from collapselab.errors import InputError
from collapselab.metrics.repetition import lz_ratio
from collapselab.records import Value


def nested(rows: Any) -> list[list[Any]]:
    """One list per completion; tensors and arrays become lists."""
    rows = rows.tolist() if hasattr(rows, "tolist") else list(rows)
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in rows]
    return [list(row) for row in rows] if not rows or hasattr(rows[0], "__len__") else [rows]


def difference(own: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The mean absolute difference of the log-probabilities of the same tokens.

    Raises:
        InputError: they are of different tokens.
    """
    if [len(row) for row in own] != [len(row) for row in theirs]:
        raise InputError("logprobs and sampler_logprobs are of different tokens", "give one number per token in both")
    return fmean(
        abs(x - y) for ours, others in zip(own, theirs, strict=True) for x, y in zip(ours, others, strict=True)
    )


def metrics_of(samples: Sequence[Sequence[int]]) -> list[dict[str, Value]]:
    """`repetition_metrics` of each sample, in C where there is a compiler."""
    return [row | {"lz_ratio": lz_ratio(ids)} for ids, row in zip(samples, repetition_of(samples), strict=True)]


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, evenly spread."""
    return [items[i * len(items) // most] for i in range(most)] if len(items) > most else list(items)


def cached(decode: Callable[[list[int]], str]) -> Callable[[list[int]], str]:
    """The same, remembering single tokens: rules ask which of them are white space at every step."""
    known: dict[int, str] = {}

    def decoded(ids: list[int]) -> str:
        if len(ids) != 1:
            return decode(ids)
        if ids[0] not in known:
            known[ids[0]] = decode(ids)
        return known[ids[0]]

    return decoded
