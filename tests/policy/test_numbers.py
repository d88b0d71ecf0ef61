"""Numbers for people have one form: a share is 33 %, with a space; Python's own format writes 33%."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_PERCENT = re.compile(r":[^{}\s\"']*%\}")  # {share:.1%}


def test_no_share_is_written_without_a_space() -> None:
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")]
    found = [str(path.relative_to(ROOT)) for path in sources if IN_PERCENT.search(path.read_text(encoding="utf-8"))]
    assert found == [], "write f'{100 * share:.0f} %'"


def test_the_format_is_found() -> None:
    assert IN_PERCENT.search('f"{share:.1%}"')
    assert not IN_PERCENT.search('f"{100 * share:.0f} %"')
