"""Tables that hold generated text, from a stream of bytes to rows: CSV, Parquet, Arrow."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from collapselab.errors import InputError
from collapselab.inputs.corpus_rows import Row, as_text


def read_table(delimiter: str, path: str, stream: BinaryIO) -> Iterator[Row]:
    """One row per record of a table, whose first line names the columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with as_text(stream) as text:
            rows = csv.reader(text, delimiter=delimiter)
            names = next(rows, list[str]())
            for number, cells in enumerate(rows, start=1):
                if len(cells) == len(names):
                    yield Row(f"row {number}", dict(zip(names, cells, strict=True)))
                elif cells:
                    yield Row(f"row {number}", None, f"has {len(cells)} cells for {len(names)} columns")
    except csv.Error as error:
        raise InputError(f"{path} is no table: {error}", "write it again with csv or pandas") from None


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise InputError(
            f"{path} is a Parquet or Arrow file, and pyarrow is not installed", "pip install pyarrow"
        ) from None
    return pyarrow


def read_parquet(path: str, stream: BinaryIO) -> Iterator[Row]:
    """One row per record; columns of bytes and of vectors are left out."""
    arrow = _pyarrow(path)
    from pyarrow import parquet

    source: Any = path if path != "-" else arrow.BufferReader(stream.read())
    try:
        file: Any = parquet.ParquetFile(source)
        columns = [f.name for f in file.schema_arrow if _is_kept(arrow, f.type)]
        batches = file.iter_batches(batch_size=256, columns=columns)
        yield from _rows_of_batches(batches)
    except arrow.ArrowException as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}", "write it again") from None


def read_arrow(path: str, stream: BinaryIO) -> Iterator[Row]:
    """One row per record of an Arrow stream (as `datasets` saves it) or file."""
    arrow = _pyarrow(path)
    try:
        source: Any = arrow.memory_map(path) if path != "-" else arrow.BufferReader(stream.read())
        try:
            reader: Any = arrow.ipc.open_stream(source)
            batches: Iterator[Any] = iter(reader)
        except arrow.ArrowInvalid:
            reader = arrow.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        kept = [i for i, f in enumerate(reader.schema) if _is_kept(arrow, f.type)]
        parts = (batch.slice(at, 256).select(kept) for batch in batches for at in range(0, batch.num_rows, 256))
        yield from _rows_of_batches(parts)
    except arrow.ArrowException as error:
        raise InputError(f"{path} cannot be read as Arrow: {error}", "write it again") from None


def _is_kept(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_list(kind):
        return False
    return not (types.is_list(kind) and types.is_floating(kind.value_type))


def _rows_of_batches(batches: Iterator[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield Row(f"row {number}", record)
