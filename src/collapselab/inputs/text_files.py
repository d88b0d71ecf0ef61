"""Text files: plain text, or JSON records with a text in each. Every command that reads text uses this.

The name decides: `.jsonl`, `.ndjson` and `.json`, in upper or lower case, also with `.gz`, are JSON; all else is
plain text.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from collapselab.errors import InputError
from collapselab.inputs.text_fields import find_texts, why_none
from collapselab.visible import visible

MAX_TEXT_BYTES = 2**30  # unpacked: more than anyone evaluates on, and a limit for gzip bombs
FORMS = "a text is plain text in UTF-8, or JSON lines (path.jsonl[:field])"
_JSON_NAME = r"\.(?:jsonl|ndjson|json)(?:\.gz)?"
_OTHER_FORMATS = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a ZIP file",
    b"%PDF": "a PDF file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
}
_MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


@dataclass(frozen=True)
class Passage:
    """One text of a file; `place` is its line or item, `field` what it was found in. Plain text has neither."""

    content: str
    place: str | None = None
    field: str | None = None


def split_field(spec: str) -> tuple[Path, str | None]:
    """The path and the field of `path.jsonl:field`. If a file has exactly this name, it takes precedence."""
    found = re.fullmatch(rf"(.*?{_JSON_NAME}):(.+)", spec, re.IGNORECASE | re.DOTALL)
    # os.path's, not pathlib's: that raises where a user or HOME is unknown.
    if found is None or os.path.exists(os.path.expanduser(spec)):
        return Path(os.path.expanduser(spec)), None
    return Path(os.path.expanduser(found[1])), found[2]


def is_json(path: Path) -> bool:
    """Whether a file is JSON, by its name."""
    return bool(re.search(_JSON_NAME + "$", path.name, re.IGNORECASE))


def read_passages(path: Path, field: str | None = None) -> list[Passage]:
    """The texts of a file: a single one for plain text, one per JSON record otherwise, or several in one record.

    JSON is recognised by the file's name or, if that says nothing, by the first line. `text_fields.find_texts` says
    where a record has its texts.

    Raises:
        InputError: not a regular file, not text, empty, or a record (its line is named) without a text.
    """
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path} is empty", "a text needs at least a few hundred words")
    if is_json(path) or (not path.suffix and _begins_as_json(text)):
        records = _records(path, text)
        return [found for place, record in records for found in _passages(f"{path}, {place}", place, record, field)]
    if field is not None:
        raise InputError(f"{path} is plain text and has no field {field!r}", f"{FORMS}; the name decides")
    return [Passage(text)]


def _begins_as_json(text: str) -> bool:
    first = text.lstrip().partition("\n")[0].rstrip()
    try:
        return first == "[" or isinstance(json.loads(first), (dict, list))
    except (ValueError, RecursionError):
        return False


def read_text(path: Path) -> str:
    """The text of a file, unpacked from gzip and without a byte-order mark, which UTF-16 and UTF-32 need.

    Raises:
        InputError: not a regular file, larger than `MAX_TEXT_BYTES`, another format, or not text.
    """
    content = _unpacked(path, _read_bytes(path))
    encoding = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        reason = None if "\0" not in text else f"character {text.index(chr(0))} is NUL"
    except UnicodeDecodeError as error:
        text, reason = "", f"{error.reason} at byte {error.start}"
    if reason is None:
        return text
    if other := next((name for start, name in _OTHER_FORMATS.items() if content.startswith(start)), None):
        raise InputError(f"{path} is {other}; {FORMS}", "write its texts to such a file")
    raise InputError(
        f"{path} is not {encoding.upper().removesuffix('-SIG')}: {reason}",
        "convert it, for example with iconv -t UTF-8; UTF-16 is read if it begins with its byte-order mark",
    )


def _read_bytes(path: Path) -> bytes:
    try:
        str(path).encode()
        status = os.stat(path)
        # Only regular files are opened: a pipe may wait for its writer for ever.
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_TEXT_BYTES else None
    except UnicodeEncodeError:
        raise InputError(f"the file name {visible(str(path))} is not UTF-8", "rename the file") from None
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", FORMS) from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise InputError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', error)}", FORMS) from None
    if content is not None:
        return content
    if stat.S_ISREG(status.st_mode):
        raise _too_large(path, f"{status.st_size:,} bytes")
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
    raise InputError(f"{path} is {kind}; {FORMS}", "give a file instead")


def _too_large(path: Path, received: str) -> InputError:
    return InputError(f"{path} may have {MAX_TEXT_BYTES:,} bytes at most, received {received}", "use a part of it")


def _unpacked(path: Path, content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is a broken gzip file: {error}", "pack or download it again") from None
    if len(unpacked) > MAX_TEXT_BYTES:
        raise _too_large(path, "more, once unpacked")
    return unpacked


def _records(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """(place, record) of each line, of each item of one array, or of one object that spans several lines."""
    # Not str.splitlines: it also cuts at separators such as U+2028, which JSON allows inside strings.
    lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if text.lstrip().startswith("["):
        items = cast(list[Any], _parsed(str(path), text))
        lines = []
        yield from ((f"item {number}", item) for number, item in enumerate(items, start=1))
    elif len(lines) > 1 and not _is_json(lines[0][1]) and _is_json(text):
        lines = [("object 1", text)]
    for place, line in lines:
        yield place, _parsed(f"{path}, {place}", line)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        raise InputError(
            f"{where} is not JSON: {error.msg} ({at})", "write one object per line, or one array of them"
        ) from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply to be read", "write one object per line, with a text") from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{where} cannot be read: {error}", "write such a number as a string") from None


def _passages(where: str, place: str, record: Any, field: str | None) -> list[Passage]:
    found = find_texts(record, field, ids_too=False)
    if not found:
        raise InputError(f"{where} {why_none(record, field)}", "name the field: path.jsonl:FIELD")
    return [Passage(_checked(where, text), place, path or None) for path, text in found if isinstance(text, str)]


def _checked(where: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        rule = f"{where} holds half a surrogate pair, {text[error.start]!r} at character {error.start}"
        raise InputError(
            f"{rule}, which is not a character", "write whole characters, or U+FFFD for broken ones"
        ) from None
    return text
