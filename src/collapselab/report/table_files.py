"""Tables as files: CSV for programs, Markdown and LaTeX for people. What a model wrote stays text in each of them."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.report.describe import visible
from collapselab.report.theme import short
from collapselab.report.writing import write_file

UNKNOWN = "–"
WIDE_CHARS = 40  # a column of longer cells gets a width of its own in LaTeX
# What CommonMark and GitHub would read as markup; the backslash first.
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
    "[": "{[}",  # after a line's end it would begin an argument, as a star would
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
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute cells that begin so


def save_table(frame: Frame, folder: Path, stem: str, caption: str = "") -> tuple[Path, Path, Path]:
    """Writes `stem.csv`, `stem.md` and `stem.tex` into a folder; returns the paths."""
    writers: dict[str, Callable[[], str]] = {
        "csv": lambda: to_csv(frame),
        "md": lambda: to_markdown(frame, caption),
        "tex": lambda: to_latex(frame, caption),
    }
    paths = tuple(folder / f"{stem}.{ending}" for ending in writers)
    for path, write in zip(paths, writers.values(), strict=True):
        write_file(path, write())
    return cast(tuple[Path, Path, Path], paths)


def to_csv(frame: Frame) -> str:
    """Comma-separated values with a head line; numbers in full, unknown ones empty.

    Text has control characters spelled out, and an apostrophe before a character that would make it a formula.
    """
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([str(name) for name in frame.columns])
    writer.writerows([[_csv_cell(value) for value in row] for row in _rows(frame)])
    return out.getvalue()


def to_markdown(frame: Frame, caption: str = "") -> str:
    """A table of GitHub's Markdown, below its caption. Text is escaped: nothing in it is markup, a link or HTML."""
    lines = [*([escape_markdown(caption), ""] if caption else [])]
    lines.append(_markdown_line([escape_markdown(str(name)) for name in frame.columns]))
    lines.append(_markdown_line(["---:" if _is_numeric(frame[name]) else "---" for name in frame.columns]))
    lines += [_markdown_line([escape_markdown(readable(value)) for value in row]) for row in _rows(frame)]
    return "\n".join(lines) + "\n"


def to_latex(frame: Frame, caption: str = "") -> str:
    """A `tabular`, below its caption and what it needs as comments. Text is escaped.

    Letters beyond Latin-1, which LaTeX's fonts may not have, are spelled as their code points.
    """
    rows = [[readable(value) for value in row] for row in _rows(frame)]
    columns = "".join(_latex_column(frame[name], [row[i] for row in rows]) for i, name in enumerate(frame.columns))
    head = " & ".join(escape_latex(str(name)) for name in frame.columns)
    body = [" & ".join(map(escape_latex, row)) + r" \\" for row in rows]
    comment = [f"% {visible(caption).replace(chr(10), ' ')}"] if caption else []
    comment.append(r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}")
    begin = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head + r" \\", r"\midrule"]
    return "\n".join([*comment, *begin, *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def readable(value: object) -> str:
    """A cell for people: numbers to four digits, unknown as a dash, control characters spelled out."""
    if isinstance(value, (list, tuple)):
        return visible(", ".join(map(str, cast(Sequence[object], value))))
    if value is None or bool(pd.isna(cast(Any, value))):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(float(f"{value:.4g}"))
    return visible(str(value)).replace("\t", "⇥")


def escape_markdown(text: str) -> str:
    """Text that is shown as it is in a cell of a Markdown table; line ends become `⏎`."""
    shown = text.replace("\n", "⏎")
    shown = _MARKDOWN.sub(r"\\\1", shown)
    shown = "".join(_MARKDOWN_AS_ENTITIES.get(character, character) for character in shown)
    # GitHub makes links of bare addresses.
    return re.sub(r"www\.", r"www\\.", shown.replace("://", r":\//"), flags=re.IGNORECASE)


def escape_latex(text: str) -> str:
    """Text that is shown as it is by LaTeX, with any of its engines."""
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


def _rows(frame: Frame) -> list[list[object]]:
    # Column by column, since rows would make floats of whole numbers.
    return [list(row) for row in zip(*(frame[name].astype(object).tolist() for name in frame.columns), strict=True)]


def _is_numeric(column: Frame) -> bool:
    known = column[column.notna()].astype(object).tolist()
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _latex_column(column: Frame, cells: Sequence[str]) -> str:
    if _is_numeric(column):
        return "r"
    return r"p{0.5\linewidth}" if max(map(len, cells), default=0) > WIDE_CHARS else "l"


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
