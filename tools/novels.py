"""The novels that the shipped models are trained on, their held-out parts, and their unwrapped form."""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from pathlib import Path

NOVELS = ("emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility")
HELD_OUT_CHARS = {"persuasion": 250_000, "moby-dick": 120_000}
HELD_OUT_NAME = {"persuasion": "austen", "moby-dick": "moby-dick"}
# The novels are wrapped at 60 to 75 columns: where a line and the next word end before this one, the line end is meant.
WRAP_COLUMN = 52


def read_novels(source: str) -> dict[str, str]:
    """Text of each book by name, from a folder or from Debian's R packages."""
    if source == "debian":
        with tempfile.TemporaryDirectory() as folder:
            export_from_debian(Path(folder))
            return read_novels(folder)
    root = Path(source)
    books = {name: (root / "austen" / f"{name}.txt").read_text(encoding="utf-8") for name in NOVELS}
    books["moby-dick"] = cut_gutenberg_frame((root / "moby-dick" / "moby-dick.txt").read_text(encoding="utf-8-sig"))
    return books


def export_from_debian(folder: Path) -> None:
    """Writes the novels of the two R packages as text files."""
    (folder / "austen").mkdir()
    (folder / "moby-dick").mkdir()
    lines = [f'writeLines(janeaustenr::{name}, "{folder}/austen/{name}.txt")' for name in NOVELS]
    lines.append(f'writeLines(tokenizers::mobydick, "{folder}/moby-dick/moby-dick.txt")')
    subprocess.run(["Rscript", "-e", ";".join(lines)], check=True)


def cut_gutenberg_frame(text: str) -> str:
    """The book between Project Gutenberg's header and footer."""
    start = re.search(r"\*\*\* START OF TH.*?\*\*\*\n", text)
    end = re.search(r"\n(End of Project Gutenberg's|\*\*\* END OF TH)", text)
    assert start and end, "Project Gutenberg's marks were not found"
    return text[start.end() : end.start()].strip() + "\n"


def split_held_out(books: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(training text by book, held-out text by id): the ends of two books are never trained on."""
    training, held_out = dict(books), {}
    for book, num_chars in HELD_OUT_CHARS.items():
        training[book], held_out[HELD_OUT_NAME[book]] = books[book][:-num_chars], books[book][-num_chars:]
    return training, held_out


def split_unwrapped(books: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """As `split_held_out`, for unwrapped text; the two paragraphs cut by the split are in neither part."""
    training, held_out = split_held_out(books)
    training |= {book: training[book].rpartition("\n\n")[0] for book in HELD_OUT_CHARS}
    held_out = {name: text.partition("\n\n")[2] for name, text in held_out.items()}
    return {k: unwrap(v) for k, v in training.items()}, {k: unwrap(v) for k, v in held_out.items()}


def unwrap(text: str) -> str:
    """The text with one line per paragraph and one empty line between paragraphs.

    A line end inside a paragraph becomes a blank, or nothing after a hyphen or next to a dash, which these books print
    without blanks. Line ends that do not come from wrapping stay: those of verse, and those after short lines (letter
    heads, signatures, title pages). Indentation goes, and each run of blanks becomes one.
    """
    paragraphs = [p.split("\n") for p in re.split(r"\n\s*\n", text.rstrip()) if p.strip()]
    return "\n\n".join(map(unwrap_paragraph, paragraphs)) + "\n"


def unwrap_paragraph(lines: list[str]) -> str:
    """The lines of one paragraph, joined where they were wrapped."""
    joined, keeps_lines = lines[0], is_verse(lines)
    for line, following in itertools.pairwise(lines):
        word = following.split(maxsplit=1)[0]
        if keeps_lines or len(line) + 1 + len(word) <= WRAP_COLUMN:
            joined += "\n" + following
        else:
            has_no_blank = line.endswith("-") or word.startswith("--")
            joined += ("" if has_no_blank else " ") + following.lstrip()
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in joined.split("\n"))


def is_verse(lines: list[str]) -> bool:
    """Whether a paragraph is verse: indented, and most lines begin with something other than a lower-case letter."""
    starts = [line.lstrip()[0] for line in lines[1:]]
    is_indented = any(line.startswith("  ") for line in lines)
    return is_indented and sum(c.islower() for c in starts) < len(starts) / 2
