"""Tables as files: text stays text, whatever it holds."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from collapselab.report.table_files import (
    escape_latex,
    escape_markdown,
    save_table,
    to_csv,
    to_latex,
    to_markdown,
)
from collapselab.report.values import readable
from collapselab.visible import visible

HOSTILE = (
    "a | b \\| c",
    "$x_1$ & 50 % #1 {}~^",
    "\\input{/etc/passwd} \\end{tabular}",
    "line\nline\r\nand\ttab",
    "<script>alert(1)</script> &lt; &amp;",
    "[a](javascript:alert(1)) ![x](y) `code` **bold** _it_ ~~gone~~",
    "https://example.org/x www.example.org a@example.org @user #12",
    "NUL \x00 ESC \x1b[31m BEL \x07 DEL \x7f",
    "\u202eright to left\u202c zero\u200bwidth",
    "lone \ud800 surrogate",
    '=1+1 "quoted", with commas',
    "--- – — … ’ “ é ß 中 😀",
    "''quotes'' ``ticks``",
)


def cells_of(markdown: str) -> list[list[str]]:
    """What a reader of the rendered table sees; fails if anything in a cell is more than text."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows:
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def as_seen(text: str) -> str:
    """Cells are trimmed, line ends and tabs are signs, control characters are spelled out."""
    return visible(text).replace("\t", "⇥").replace("\n", "⏎").strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    markdown = to_markdown(pd.DataFrame({"text": [text], "a|b": ["x"]}))
    assert cells_of(markdown) == [["text", "a|b"], [as_seen(text), "x"]]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\\`*_[]<>|$~&@#^{}!\n\t:/w."), max_size=30))
def test_markdown_shows_every_text_as_it_is(text: str) -> None:
    # A cell of nothing but white space of other alphabets is trimmed differently by every reader.
    shown = as_seen(text)
    if shown != shown.strip() or re.search(r"[^\S \n\t]", text):
        return
    assert cells_of(to_markdown(pd.DataFrame({"x": [1], "text": [text]})))[1][1] == shown


def test_markdown_makes_no_links_of_bare_addresses() -> None:
    escaped = escape_markdown("see https://example.org and WWW.example.org")
    assert "://" not in escaped
    assert "WWW." not in escaped
    assert "www\\." in escaped.lower()


def test_numbers_stand_right_with_four_digits_and_the_unknown_is_a_dash() -> None:
    frame = pd.DataFrame(
        {"n": [1, None], "loss": [3.14159, math.nan], "rate": [2e-5, 1.0], "ok": [True, None], "s": ["a", ""]}
    )
    frame["n"] = frame["n"].astype("Int64")
    assert to_markdown(frame, "A | title").splitlines() == [
        "A \\| title",
        "",
        "| n | loss | rate | ok | s |",
        "| ---: | ---: | ---: | --- | --- |",
        "| 1 | 3.142 | 2e-5 | yes | a |",
        "| – | – | 1 | – |  |",
    ]


def read_latex(latex: str) -> str:
    """What the escapes of `escape_latex` stand for; fails on a special character that is none."""
    words = {
        "textbackslash": "\\",
        "textasciicircum": "^",
        "textasciitilde": "~",
        "textless": "<",
        "textgreater": ">",
        "textbar": "|",
        "textquotedbl": '"',
        "textquotesingle": "'",
        "textasciigrave": "`",
        "ldots": "…",
    }
    symbols = {
        "$\\hookleftarrow$ ": "⏎",
        "$\\rightarrow$ ": "⇥",
        "$-$": "−",
        "$\\langle$": "⟨",
        "$\\rangle$": "⟩",
        "{[}": "[",
    }
    symbols |= {"{*}": "*", "-{}": "-"}
    token = re.compile(
        r"\\texttt\{U\+([0-9A-F]{4,})\}|\\([a-z]+)\{\}|\\([{}$&#%_])|"
        + "|".join(f"({re.escape(symbol)})" for symbol in symbols)
        + r"|(-(?!-)|[^\\{}$&#%_^~<>|\"'`\[*\n\t-])"
    )
    text, position = "", 0
    while position < len(latex):
        match = token.match(latex, position)
        assert match, f"unescaped at {latex[position : position + 20]!r}"
        code, word, special, plain = match[1], match[2], match[3], match[match.lastindex or 0]
        text += chr(int(code, 16)) if code else words[word] if word else special or symbols.get(plain, plain)
        position = match.end()
    return text


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_command_of_the_texts(text: str) -> None:
    shown = readable(text)
    assert read_latex(escape_latex(shown)) == shown.replace("\n", "⏎").replace("–", "--")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_latex_stands_for_every_text(text: str) -> None:
    shown = readable(text)
    assert read_latex(escape_latex(shown)) == shown.replace("\n", "⏎").replace("–", "--")


def test_a_latex_table_has_rules_and_aligned_columns() -> None:
    frame = pd.DataFrame({"100 %": [1.5], "word": ["a & b"], "text": ["[x] " + "y" * 60]})
    assert to_latex(frame, "two\nlines").splitlines() == [
        "% two lines",
        r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}",
        r"\begin{tabular}{rlp{0.5\linewidth}}",
        r"\toprule",
        r"100 \% & word & text \\",
        r"\midrule",
        r"1.5 & a \& b & {[}x] " + "y" * 60 + r" \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_gives_the_text_back_and_no_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(pd.DataFrame({"a,b": [text], "x": [0.1 + 0.2]})))))
    assert rows[0] == ["a,b", "x"]
    cell, number = rows[1]
    assert cell == ("'" if text[0] in "=+-@" else "") + visible(text)
    assert cell[0] not in "=+-@\t\r"
    assert float(number) == 0.1 + 0.2


def test_csv_leaves_the_unknown_empty_and_numbers_whole() -> None:
    frame = pd.DataFrame({"a": [None, -3], "b": [math.nan, "-3"], "c": [(1, 2), "x"]}).astype({"a": "Int64"})
    assert to_csv(frame) == 'a,b,c\n,,"1, 2"\n-3,\'-3,x\n'


def test_a_table_becomes_three_files(tmp_path: Path) -> None:
    paths = save_table(pd.DataFrame({"text": HOSTILE}), tmp_path, "table", "Title")
    assert [path.name for path in paths] == ["table.csv", "table.md", "table.tex"]
    assert all(path.read_bytes().decode("utf-8").count("\x1b") == 0 for path in paths)
    assert len(cells_of(paths[1].read_text(encoding="utf-8"))) == 1 + len(HOSTILE)
