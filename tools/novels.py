"""The novels the shipped models are trained on, and the parts of them that are held out."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

NOVELS = ("emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility")
HELD_OUT_CHARS = {"persuasion": 250_000, "moby-dick": 120_000}
HELD_OUT_NAME = {"persuasion": "austen", "moby-dick": "moby-dick"}


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
