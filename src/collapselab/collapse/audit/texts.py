"""The generated texts of a corpus, in order, in batches that are judged together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from collapselab.errors import InputError
from collapselab.inputs.corpus import Corpus
from collapselab.inputs.corpus_rows import Row
from collapselab.inputs.text_fields import Content, find_texts, values_at, why_none

BATCH_TEXTS, BATCH_CHARACTERS = 512, 128_000
STEP_FIELDS = ("step", "global_step", "iteration", "epoch")


@dataclass(frozen=True)
class Text:
    """One generated text, or a stretch of plain text: its row, the path of its field, and the value of `--by`."""

    row: Row
    path: str
    content: Content
    by: str | None = None
    own_nll_nats: float | None = None


@dataclass(frozen=True)
class Bad:
    """A row that could not be judged, and why."""

    place: str
    reason: str


def batches(
    corpus: Corpus, field: str | None = None, by: str | None = None, *, strict: bool = False
) -> Iterator[list[Text | Bad]]:
    """The texts and bad rows of a corpus, in order; a stretch of plain text is a batch of its own.

    Raises:
        InputError: a file cannot be read; with `strict`, a row is bad.
    """
    batch: list[Text | Bad] = []
    size = 0
    for row in corpus.rows():
        if row.is_prose:
            if row.field or field:
                named = row.field or field
                raise InputError(f"{row.file or 'the file'} is plain text and has no field {named!r}", "leave it out")
            if batch:
                yield batch
            yield [Text(row, "", row.record)]
            batch, size = [], 0
            continue
        for item in texts_of(row, row.field or field, by):
            if strict and isinstance(item, Bad):
                raise InputError(f"{item.place} {item.reason}", "without --strict such rows are counted and left out")
            batch.append(item)
            size += len(item.content) if isinstance(item, Text) else 0
        if len(batch) >= BATCH_TEXTS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def texts_of(row: Row, field: str | None, by: str | None) -> list[Text | Bad]:
    """The texts of one row, or why it has none."""
    if row.error is not None:
        return [Bad(row.full_place or "a file", row.error)]
    found = find_texts(row.record, field)
    if not found:
        return [Bad(row.full_place, why_none(row.record, field))]
    group = None if by is None else _group(row.record, by)
    fields = cast(Mapping[str, Any], row.record) if isinstance(row.record, Mapping) else dict[str, Any]()
    losses = (fields.get(name) for name in ("train_nll_nats", "nll_nats"))
    own_nll = next((float(loss) for loss in losses if isinstance(loss, (int, float))), None)
    made: list[Text | Bad] = []
    for path, content in found:
        broken = _broken(content)
        place = f"{row.full_place}: {path!r}" if path else row.full_place
        made.append(Bad(place, broken) if broken else Text(row, path, content, group, own_nll))
    return made


def step_field(record: object) -> str | None:
    """The field of a record that says its step, if it has one of a usual name."""
    fields = cast(Mapping[str, Any], record) if isinstance(record, Mapping) else dict[str, Any]()
    return next((name for name in STEP_FIELDS if isinstance(fields.get(name), (int, float))), None)


def _group(record: object, by: str) -> str:
    values = [value for _, value in values_at(record, by)]
    if not values:
        return "(none)"
    return values[0] if isinstance(values[0], str) else json.dumps(values[0])


def _broken(content: Content) -> str | None:
    if isinstance(content, list):
        return None
    try:
        content.encode()
    except UnicodeEncodeError as error:
        return f"holds half a surrogate pair, {content[error.start]!r} at character {error.start}"
    return None
