"""The forms of files that hold generated text: one reader each, from a stream of bytes to rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, cast

from collapselab.errors import InputError
from collapselab.inputs.corpus_rows import Row, as_text, encoding_of
from collapselab.inputs.corpus_tables import read_arrow, read_parquet, read_table
from collapselab.inputs.text_fields import TEXT_FIELDS, find_texts

PEEK_BYTES = 1 << 16
BLOCK_CHARACTERS = 1 << 18  # read at once of an array or of plain text
MAX_ROW_CHARACTERS = 1 << 26  # of one record; a stream without a line end is no JSON lines
_REFUSED = {
    b"PK\x03\x04": "a ZIP archive (or an Excel, PyTorch or NumPy file)",
    b"%PDF": "a PDF file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"SQLite": "an SQLite database",
    b"\x93NUMPY": "a NumPy file",
    b"\x80\x04": "a pickle",
}
_NAMES = {
    r"\.(jsonl|ndjson)": "json lines",
    r"\.json": "json",
    r"\.csv": "csv",
    r"\.tsv": "tsv",
    r"\.parquet": "parquet",
    r"\.arrow": "arrow",
}


def form_of(name: str, start: bytes) -> str:
    """The form of a file: by its name, else by its first bytes. A key of `READERS`."""
    bare = re.sub(r"\.(gz|zst)$", "", name, flags=re.IGNORECASE)
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"ARROW1"):
        return "arrow"
    for magic, what in _REFUSED.items():
        if start.startswith(magic):
            raise InputError(f"{name or 'the input'} is {what}", "write its texts as JSON lines, CSV or Parquet")
    for pattern, form in _NAMES.items():
        if re.search(pattern + "$", bare, re.IGNORECASE):
            text = _text_start(start)
            if form == "json lines":
                return "json" if text.startswith("[") or text.partition("\n")[0].strip() == "{" else form
            return _form_of_json(text) if form == "json" else form
    return _form_of_text(_text_start(start)) if re.search(r"(^[^.]*|\.txt|\.text)$", bare) else "text"


def _form_of_json(start: str) -> str:
    """JSON lines where the first line is a whole object, though maybe a broken one, and another follows."""
    first, _, rest = start.partition("\n")
    return "json lines" if start.startswith("{") and first.rstrip().endswith("}") and rest.strip() else "json"


def _form_of_text(start: str) -> str:
    first = start.partition("\n")[0].strip()
    if first in ("[", "{") or first.startswith(("[{", '["', '{"')):
        return _form_of_json(start)
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        columns = [cell.lower() for cell in next(csv.reader([first], delimiter=delimiter), list[str]())]
        if len(columns) > 1 and set(columns) & set(TEXT_FIELDS) and all(re.match(r"[\w.-]+$", c) for c in columns):
            return form
    return "text"


def _text_start(start: bytes) -> str:
    encoding = encoding_of(start)
    return start.decode(encoding, errors="ignore").lstrip()


def _parsed(text: str | bytes) -> tuple[Any, str | None]:
    """(value, error) of a JSON text."""
    try:
        return json.loads(text.rstrip()), None  # what is cut off ends here, not in a next line
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        return None, f"is not JSON: {error.msg} ({line}column {error.colno})"
    except RecursionError:
        return None, "is nested too deeply to be read"
    except UnicodeDecodeError as error:
        return None, f"is not UTF-8: {error.reason} at byte {error.start}"
    except ValueError as error:  # an integer of thousands of digits
        return None, f"cannot be read: {error}"


def read_json_lines(path: str, stream: BinaryIO) -> Iterator[Row]:
    """One row per line."""
    encoding = encoding_of(cast(Any, stream).peek(4)[:4])
    # Bytes where possible: a line that is no UTF-8 is then one bad row.
    with cast(Any, stream if encoding == "utf-8" else as_text(stream)) as lines:
        number = 0
        while line := lines.readline(MAX_ROW_CHARACTERS):
            number += 1
            if len(line) == MAX_ROW_CHARACTERS:
                raise InputError(
                    f"{path}, line {number} has {MAX_ROW_CHARACTERS:,} characters or more", "write one object per line"
                )
            if line.strip():
                yield Row(f"line {number}", *_parsed(line))


def read_json(path: str, stream: BinaryIO) -> Iterator[Row]:
    """One row per item of an array, which is read piece by piece; of one object, see `_rows_of_object`."""
    with as_text(stream) as text:
        head = ""
        while not head.strip():
            block = text.read(BLOCK_CHARACTERS)
            if not block:
                raise InputError(f"{path} is empty", "write one object per line, or an array of them")
            head += block
        if head.lstrip().startswith("["):
            yield from _items(text, head.lstrip()[1:])
            return
        record, error = _parsed(head + text.read())
    if error is not None:
        yield Row("object 1", None, error)
    else:
        yield from _rows_of_object(record)


def _rows_of_object(record: Any) -> Iterator[Row]:
    """An object with a text is a row; of one around a single list of objects, such as "data", each item is one."""
    if not find_texts(record) and isinstance(record, Mapping):
        lists = [(name, value) for name, value in cast(Mapping[str, Any], record).items() if _is_list_of_rows(value)]
        if len(lists) == 1:
            name, items = lists[0]
            yield from (Row(f"{name}, item {number}", item) for number, item in enumerate(items, start=1))
            return
    yield Row("object 1", record)


def _is_list_of_rows(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, (Mapping, str)) for item in cast(list[Any], value))


def _items(text: io.TextIOWrapper, buffer: str) -> Iterator[Row]:
    """The items of an array whose "[" has been read, parsed from a buffer that holds one item at least."""
    decoder, at, number, is_end = json.JSONDecoder(), 0, 1, False
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n,":
            at += 1
        if at < len(buffer) and buffer[at] == "]":
            return
        error: str | None = None
        try:
            item, end = decoder.raw_decode(buffer, at) if at < len(buffer) else (None, len(buffer))
        except RecursionError:
            yield Row(f"item {number}", None, "is nested too deeply to be read; the rest of the file was not read")
            return
        except ValueError as failure:  # cut off at the buffer's end, or broken
            item, end, error = None, len(buffer), f"is not JSON: {failure}; the rest of the file was not read"
        if end >= len(buffer) and not is_end and len(buffer) - at < MAX_ROW_CHARACTERS:
            more = text.read(max(BLOCK_CHARACTERS, len(buffer) - at))
            is_end = not more
            buffer, at = buffer[at:] + more, 0
            continue
        if at >= len(buffer):
            yield Row(f"item {number}", None, "is missing: the array is cut off; what it holds was read")
            return
        yield Row(f"item {number}", item, error)
        if error is not None:
            return
        at, number = end, number + 1


def read_prose(path: str, stream: BinaryIO) -> Iterator[Row]:
    """Stretches of a plain text, cut at a line end or a blank."""
    rest, is_any = "", False
    with as_text(stream) as text:
        while block := text.read(BLOCK_CHARACTERS):
            if "\0" in block:
                hint = "UTF-16 is read if it begins with its byte-order mark"
                raise InputError(f"{path} is no text: it holds NUL", hint)
            is_last, block = len(block) < BLOCK_CHARACTERS, rest + block
            cut = len(block) if is_last else max(block.rfind("\n"), block.rfind(" "))
            cut = len(block) if cut < BLOCK_CHARACTERS // 2 else cut
            is_any = is_any or bool(block.strip())
            yield Row("", block[:cut], is_prose=True)
            rest = block[cut:]
    if rest:
        yield Row("", rest, is_prose=True)
    if not is_any:
        raise InputError(f"{path} is empty", "a text needs at least a few hundred words")


READERS: dict[str, Callable[[str, BinaryIO], Iterator[Row]]] = {
    "json lines": read_json_lines,
    "json": read_json,
    "csv": partial(read_table, ","),
    "tsv": partial(read_table, "\t"),
    "parquet": read_parquet,
    "arrow": read_arrow,
    "text": read_prose,
}
