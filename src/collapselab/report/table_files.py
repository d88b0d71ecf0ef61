"""Tables as files: CSV for programs, Markdown and LaTeX for people. Generated text stays text in each of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.report.values import UNKNOWN, readable
from collapselab.report.writing import write_file
from collapselab.visible import visible

WIDE_CHARS = 40  # a column with longer cells gets a fixed width in LaTeX
# Characters that CommonMark and GitHub would read as markup; the backslash first.
_MARKDOWN = re.compile(r"([\\`*_\[\]|$~#^{}!@])")
_MARKDOWN_AS_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after a line end it would start an argument, like a star
    "*": "{*}",
    "\n": r"$\hookleftarrow$ ",
    "\t": r"$\rightarrow$ ",
    UNKNOWN: "--",
    "−": "$-$",
    "…": r"\ldots{}",
    "⏎": r"$\hookleftarrow$ ",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "⇥": r"$\rightarrow$ ",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would evaluate cells that begin like this


def save_table(frame: Frame, folder: Path, stem: str, caption: str = "") -> tuple[Path, Path, Path]:
    """Writes `stem.csv`, `stem.md` and `stem.tex` into a folder; returns the paths."""
    paths = folder / f"{stem}.csv", folder / f"{stem}.md", folder / f"{stem}.tex"
    contents = to_csv(frame), to_markdown(frame, caption), to_latex(frame, caption)
    for path, content in zip(paths, contents, strict=True):
        write_file(path, content)
    return paths


def to_csv(frame: Frame) -> str:
    """Comma-separated values with a header line; numbers in full, unknown ones empty.

    Text has control characters spelled out, and an apostrophe before a character that would make it a formula.
    """
    return frame.astype(object).map(_csv_cell).to_csv(index=False)


def to_markdown(frame: Frame, caption: str = "") -> str:
    """A table of GitHub's Markdown, below its caption. Text is escaped: nothing in it is markup, a link or HTML."""
    head = [escape_markdown(str(name)) for name in frame.columns]
    ruler = ["---:" if _is_numeric(frame[name]) else "---" for name in frame.columns]
    cells = frame.astype(object).map(readable).map(escape_markdown)
    lines = ["| " + " | ".join(row) + " |" for row in (head, ruler, *cells.itertuples(index=False, name=None))]
    return "\n".join([*([escape_markdown(caption), ""] if caption else []), *lines]) + "\n"


def to_latex(frame: Frame, caption: str = "") -> str:
    """A `tabular`, below comments with its caption and the packages it needs. Text is escaped.

    Letters beyond Latin-1, which LaTeX's fonts may lack, become code points.
    """
    cells = frame.astype(object).map(readable)
    columns = "".join(_latex_column(frame[name], cells[name].tolist()) for name in frame.columns)
    comment = [f"% {visible(caption).replace(chr(10), ' ')}"] if caption else []
    comment.append(r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}")
    escaped = cells.map(escape_latex).set_axis([escape_latex(str(name)) for name in frame.columns], axis=1)
    return "\n".join([*comment, escaped.to_latex(index=False, column_format=columns)])


def escape_markdown(text: str) -> str:
    """Text escaped for a cell of a Markdown table; line ends become `⏎`."""
    shown = text.replace("\n", "⏎")
    shown = _MARKDOWN.sub(r"\\\1", shown)
    shown = "".join(_MARKDOWN_AS_ENTITIES.get(character, character) for character in shown)
    # GitHub turns bare addresses into links.
    return re.sub(r"www\.", r"www\\.", shown.replace("://", r":\//"), flags=re.IGNORECASE)


def escape_latex(text: str) -> str:
    """Text escaped for LaTeX, for any engine."""
    # Two hyphens would become a dash.
    return re.sub("-(?=-)", "-{}", "".join(map(_latex_character, text)))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    is_known = character.isascii() or ("\u00a1" <= character <= "\u00ff") or character in "’‘“”—•"
    if is_known and unicodedata.category(character)[0] != "C":
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def _csv_cell(value: object) -> object:
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, cast(Sequence[object], value)))
    if value is None or (not isinstance(value, str) and bool(pd.isna(cast(Any, value)))):
        return ""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _is_numeric(column: Frame) -> bool:
    known = column[column.notna()].astype(object).tolist()
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _latex_column(column: Frame, cells: Sequence[str]) -> str:
    if _is_numeric(column):
        return "r"
    return r"p{0.5\linewidth}" if max(map(len, cells), default=0) > WIDE_CHARS else "l"
