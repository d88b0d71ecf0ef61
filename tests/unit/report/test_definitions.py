"""The names on the page are those of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

from collapselab.metrics import SAMPLE_METRICS
from collapselab.report.definitions import RECORD_NAMES, definitions

ROOT = Path(__file__).parents[3]


def documented() -> dict[str, str]:
    """The names of steps.jsonl with their meanings, from docs/run-directory.md."""
    page = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    section = page.partition("## Names in steps.jsonl")[2].partition("## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| [^|]+ \| ([^|]+) \|$", section, re.MULTILINE)
    meanings = [(names, re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", meaning).replace("`", "")) for names, meaning in rows]
    return {name: meaning for names, meaning in meanings for name in re.findall(r"`([^`]+)`", names)}


def test_every_name_of_a_step_is_defined_on_the_page() -> None:
    again = {"step", "val_nll_nats", "val_nll_se", "full_nll_nats", "full_nll_se"}  # shown as the first text's
    names = {name for name in documented() if name not in again and not name.startswith("seconds_")}
    assert len(names) > 25
    assert names | set(SAMPLE_METRICS) <= set(definitions())


def test_definitions_are_those_of_the_documentation() -> None:
    written = documented()
    names = [name for name in RECORD_NAMES if name != "full_nll_se[TEXT]"]  # there in one row with full_nll_nats[TEXT]
    assert {name: written[name] for name in names} == {name: RECORD_NAMES[name] for name in names}
