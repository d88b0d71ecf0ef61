"""Docs do not drift: settings, links, commands and the names of the records are those of the code."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from collapselab import cli, presets
from collapselab.cli.running import split_settings
from collapselab.metrics import SAMPLE_METRICS
from collapselab.overrides import override, settings

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/**/*.md")])
QUICK = ("--help", "-h", "--dry-run")


def load_tool(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in settings() if not (field.description or "").strip()] == []


def test_the_settings_reference_is_current() -> None:
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == load_tool("settings_reference").reference(), "run: python tools/settings_reference.py"
    assert [name for name, _ in settings() if f"| `{name}` |" not in written] == []


def test_every_metric_is_in_the_description_of_the_run_directory() -> None:
    page = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    series = {"seq_rep_2", "seq_rep_3"}  # written "`seq_rep_1` … `seq_rep_4`"
    assert [name for name in SAMPLE_METRICS if f"`{name}`" not in page and name not in series] == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_project_are_alive(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](other.md) [b](#a-title) [c](#none) [d](https://example.org/x)\n")
    assert list(dead_links(page)) == ["other.md", "#none"]


def commands(page: Path) -> list[list[str]]:
    """The `collapselab …` commands of the fenced blocks of a page, continued lines joined."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    prompts = (line.strip().removeprefix("$ ") for line in lines)
    return [shlex.split(line, comments=True)[1:] for line in prompts if line.startswith("collapselab ")]


COMMANDS = [command for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_documented_commands_are_known(command: list[str]) -> None:
    """Quick ones run; of the others the command, the preset and every setting are checked."""
    if command[0] in ("models", "data", "presets") or set(QUICK) & set(command):
        with pytest.raises(SystemExit) as ended:
            cli.main(command)
        assert ended.value.code == 0
        return
    assert command[0] in cli.COMMANDS
    if command[0] == "run":
        flags, changes = split_settings(command[1:])
        override(presets.load(flags[0]), changes)


def test_commands_are_collected_and_checked(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\n$ collapselab run demo \\\n  --optim.lr 1e-4  # faster\npip install x\n```\ncollapselab run\n"
    )
    assert commands(page) == [["run", "demo", "--optim.lr", "1e-4"]]
    with pytest.raises(ValueError, match=r"unknown setting 'optim\.rate'"):
        test_documented_commands_are_known(["run", "demo", "--optim.rate", "1"])
