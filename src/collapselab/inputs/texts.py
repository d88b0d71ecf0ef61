"""Human texts by name or path: for evaluation, real prompts and the control arms."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from collapselab.errors import InputError, nearest
from collapselab.inputs.text_download import download, sha256_of
from collapselab.inputs.text_files import FORMS, is_json, read_passages, read_text, split_field
from collapselab.inputs.text_sources import TEXTS, TextInfo
from collapselab.inputs.tokenizers import BUILTIN

DEFAULT_SPLIT = "valid"


@dataclass(frozen=True)
class Text:
    """A text, exactly as in its file, and where it is from.

    `id` is the requested name or path, `sha256` that of `text` in UTF-8; a user's own file has neither split nor
    licence (`None`).
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
        return Path(os.path.expanduser(chosen))
    return Path(platformdirs.user_cache_dir("collapselab"))


def load_text(spec: str, data_dir: str | Path | None = None) -> Text:
    """A text by its spec: a name (`wikitext-2`, `ptb:test`), or a file (`text_files` says what a file may be).

    A named text is read from `<data_dir>/<id>/<split>.txt` (`data_folder`) and downloaded there if it is not; its
    sha256 is checked either way. The split is valid unless one is given.

    Raises:
        InputError: the name is unknown, the file is missing, empty, broken or not the named text, or it cannot be
            downloaded.
    """
    name, _, rest = spec.partition(":")
    if name in TEXTS:
        return _named_text(TEXTS[name], rest or DEFAULT_SPLIT, data_folder(data_dir))
    if not os.path.exists(spec) and not Path(spec).suffix and os.sep not in spec:
        raise InputError(f"unknown text {spec!r}; {FORMS}", nearest(name, TEXTS))
    return _own_text(spec)


def _named_text(info: TextInfo, split: str, folder: Path) -> Text:
    if split not in info.splits:
        raise InputError(f"{info.id} has no split {split!r}", f"it has {', '.join(info.splits)}")
    if info.is_shipped:
        path = BUILTIN / "texts" / f"{info.id}.txt"
    else:
        path = folder / info.id / f"{split}.txt"
        if not path.exists():
            download(info, split, path)
    text = read_text(path)
    sha256, expected = sha256_of(text.encode()), info.sha256.get(split)
    if expected is not None and sha256 != expected:
        raise InputError(
            f"{path} is not {info.id}:{split}: its sha256 is {sha256}, not {expected}",
            "delete it to download it again, or keep it under another name and give its path",
        )
    return Text(info.id, text, split, sha256, info.source, info.licence, info.form)


def _own_text(spec: str) -> Text:
    path, json_field = split_field(spec)
    passages = read_passages(path, json_field)
    text = "\n\n".join(passage.content for passage in passages)  # documents are separated like paragraphs
    if not text.strip():
        raise InputError(f"{path} is empty", "a text needs at least a few hundred words")
    fields = ", ".join(dict.fromkeys(repr(p.field) for p in passages if p.field is not None))
    form = ("JSON" + (f", field {fields}" if fields else "")) if is_json(path) else "plain text"
    return Text(spec, text, None, sha256_of(text.encode()), str(path.absolute()), None, form)
