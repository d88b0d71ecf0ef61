"""Writes the lists of figures and tables in docs/figures.md, from the figures and tables themselves.

python tools/report_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path

from collapselab.report.figures import FIGURES
from collapselab.report.tables import TABLES

PAGE = Path(__file__).parents[1] / "docs" / "figures.md"


def reference() -> str:
    """The page with its lists as they should be."""
    page = PAGE.read_text(encoding="utf-8")
    for head, listed in (("| figure | title |", FIGURES), ("| table | title |", TABLES)):
        rows = "".join(f"| `{key}` | {entry.title} |\n" for key, entry in listed.items())
        head = f"{head}\n|---|---|\n"
        assert head in page, f"docs/figures.md has no list that begins with {head!r}"
        page = re.sub(re.escape(head) + r"(\|.*\n)*", lambda _, text=head + rows: text, page)
    return page


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
