"""Human texts by name or path: for evaluation, real prompts and the control arms."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from collapselab.errors import InputError, nearest
from collapselab.text_sources import TEXTS, TextInfo, download, sha256_of
from collapselab.tokenization import BUILTIN

DEFAULT_SPLIT = "valid"
DEFAULT_FIELD = "text"
FORMS = "wikitext-2[:split], another named text, a UTF-8 file, or JSON lines (path.jsonl[:field])"


@dataclass(frozen=True)
class Text:
    """A text, exactly as its file has it, and where it is from.

    `id` is the name or path it was asked for by, `sha256` that of `text` in UTF-8; a file of the user's own has neither
    split nor licence (`None`).
    """

    id: str
    text: str
    split: str | None
    sha256: str
    source: str
    licence: str | None
    form: str


def text_names() -> tuple[TextInfo, ...]:
    """Every text that has a name."""
    return tuple(TEXTS.values())


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Where named texts are kept: the argument, else `COLLAPSELAB_DATA`, else the user's cache folder."""
    chosen = data_dir or os.environ.get("COLLAPSELAB_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch  # pyright: ignore[reportMissingTypeStubs]

    return Path(pooch.os_cache("collapselab"))


def load_text(spec: str, data_dir: str | Path | None = None) -> Text:
    """A text by its spec: a name (`wikitext-2`, `ptb:test`), a UTF-8 file, or JSON lines (`path.jsonl:field`).

    A named text is read from `<data_dir>/<id>/<split>.txt` (`data_folder`) and downloaded there if it is not; its
    sha256 is checked either way. The split is valid unless one is given.

    Raises:
        InputError: nothing has that name, the file is missing, empty, broken or another one than named, or it can
            not be downloaded.
    """
    name, _, rest = spec.partition(":")
    if name in TEXTS:
        return _named_text(TEXTS[name], rest or DEFAULT_SPLIT, data_folder(data_dir))
    path, _, json_field = spec.rpartition(":")
    if path.endswith(".jsonl"):
        return _own_text(spec, Path(path).expanduser(), json_field)
    if not Path(spec).expanduser().exists() and not Path(spec).suffix and os.sep not in spec:
        raise InputError(f"unknown text {spec!r}; a text is {FORMS}", nearest(name, TEXTS))
    return _own_text(spec, Path(spec).expanduser(), DEFAULT_FIELD)


def read_json_lines(path: Path, json_field: str = DEFAULT_FIELD) -> list[str]:
    """One field of each line of a JSON-lines file; blank lines are skipped.

    Raises:
        InputError: the file cannot be read, a line is no JSON object, or its field is missing or no string.
    """
    lines = _read_utf8(path).split("\n")
    return [_json_text(f"{path}, line {i}", line, json_field) for i, line in enumerate(lines, 1) if line.strip()]


def _named_text(info: TextInfo, split: str, folder: Path) -> Text:
    if split not in info.splits:
        raise InputError(f"{info.id} has no split {split!r}", f"it has {', '.join(info.splits)}")
    if info.is_shipped:
        path = BUILTIN / "texts" / f"{info.id}.txt"
    else:
        path = folder / info.id / f"{split}.txt"
        if not path.exists():
            download(info, split, path)
    text = _read_utf8(path)
    sha256, expected = sha256_of(text.encode()), info.sha256.get(split)
    if expected is not None and sha256 != expected:
        raise InputError(
            f"{path} is not {info.id}:{split}: its sha256 is {sha256}, not {expected}",
            "delete it, so that it is downloaded again, or keep it under another name and give its path",
        )
    return Text(info.id, text, split, sha256, info.source, info.licence, info.form)


def _own_text(spec: str, path: Path, json_field: str) -> Text:
    if path.suffix == ".jsonl":
        # Documents stand apart like paragraphs.
        text, form = "\n\n".join(read_json_lines(path, json_field)), f"JSON lines, field {json_field!r}"
    else:
        text, form = _read_utf8(path), "plain text"
    if not text.strip():
        raise InputError(f"{path} is empty", "a text needs at least a few hundred words")
    return Text(spec, text, None, sha256_of(text.encode()), str(path.absolute()), None, form)


def _read_utf8(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path} is a folder; a text is {FORMS}", "give a file in it")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}", "convert it, for example with iconv -t UTF-8"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}", f"a text is {FORMS}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", f"a text is {FORMS}") from error


def _json_text(where: str, line: str, json_field: str) -> str:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error.msg} (column {error.colno})", "one object a line") from error
    if not isinstance(record, dict):
        raise InputError(f"{where} is not a JSON object", f'one object a line: {{"{json_field}": "…"}}')
    fields = cast(dict[str, object], record)
    if json_field not in fields:
        raise InputError(
            f"{where} has no field {json_field!r}", f"its fields: {', '.join(fields)}; give path.jsonl:FIELD"
        )
    value = fields[json_field]
    if not isinstance(value, str):
        raise InputError(f"{where}: the field {json_field!r} is no string", f"received {value!r}")
    return value
