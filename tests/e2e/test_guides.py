"""The guides are followed word by word: every file is written, every command is executed, page by page.

A fenced block with a title is a file. A block of `sh` is executed; if a comment in it speaks of minutes, in the slow
suite only. It ends with 0, or with the exit code that a comment names. Commands in blocks of `text` are parsed by
tests/policy/test_docs.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from collapselab.rundir.frames import load_runs

DOCS = Path(__file__).parents[2] / "docs"
FOLDERS = ("tutorials", "how-to", "explanation")
GUIDES = sorted([DOCS / "index.md", *(page for folder in FOLDERS for page in DOCS.glob(f"{folder}/*.md"))])
FENCE = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    title: str
    text: str

    @property
    def exit_code(self) -> int:
        named = re.search(r"# exit code (\d+)", self.text)
        return int(named[1]) if named else 0

    @property
    def takes_minutes(self) -> bool:
        return re.search(r"# .*minute", self.text) is not None


def blocks(page: str) -> list[Block]:
    return [Block(*match) for match in FENCE.findall(page)]


def follow(block: Block, folder: Path) -> str:
    """Writes a file, or executes commands in a folder; what they printed. A command that fails ends it."""
    if block.title:
        (folder / block.title).write_text(block.text, encoding="utf-8")
    if block.title or block.language != "sh":
        return ""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": paths, "PYTHONWARNINGS": "error"}
    shell = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == block.exit_code, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_guide_can_be_followed(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        if not block.takes_minutes:
            follow(block, tmp_path)
    assert [run for run in (tmp_path / "runs").glob("*") if load_runs(run).damages] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_takes_minutes_can_be_followed(page: Path, tmp_path: Path) -> None:
    long = [block for block in blocks(page.read_text(encoding="utf-8")) if block.takes_minutes]
    for block in long:
        follow(block, tmp_path)


def test_blocks_are_found_and_a_failure_is_seen(tmp_path: Path) -> None:
    page = (
        '# A\n```python title="a.py"\nprint(1)\n```\n\n```text\nfalse\n```\n'
        "```sh\npython a.py\n```\n```sh\nfalse\ntrue\n```\n"
    )
    found = blocks(page)
    assert [(block.language, block.title) for block in found] == [
        ("python", "a.py"),
        ("text", ""),
        ("sh", ""),
        ("sh", ""),
    ]
    assert [follow(block, tmp_path) for block in found[:3]] == ["", "", "1\n"]
    with pytest.raises(AssertionError, match="false"):
        follow(found[3], tmp_path)
    assert Block("sh", "", "collapselab run demo  # about a minute\n").takes_minutes
    follow(Block("sh", "", "exit 75  # exit code 75\n"), tmp_path)


def test_python_is_shown_in_files_that_a_command_executes() -> None:
    """Python outside a file would not be executed."""
    for page in GUIDES:
        found = blocks(page.read_text(encoding="utf-8"))
        commands = "".join(block.text for block in found if block.language == "sh")
        shown = [block for block in found if block.language in ("python", "toml")]
        assert [block.text for block in shown if not block.title or block.title not in commands] == [], page
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(found), f"{page}: a fence that is not read"
