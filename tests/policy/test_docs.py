"""Docs do not drift: settings, links, commands and the names of the records are those of the code."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from benchmarks import command as benchmark
from collapselab import cli
from collapselab.cli.settings import given
from collapselab.collapse import words
from collapselab.collapse.numbers import NUMBERS, SUMMARY
from collapselab.config import presets
from collapselab.config.overrides import override, settings
from collapselab.errors import InputError
from collapselab.sweep import presets as sweep_presets
from collapselab.sweep.grid import rebase

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/**/*.md")])
QUICK = ("--help", "-h", "--dry-run", "--version")


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


def table_rows(page: str) -> list[str]:
    """The rows of a page's tables, as plain words: links and code marks are a matter of looks."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [
        re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", line).replace("`", "") for line in text.splitlines() if line[:1] == "|"
    ]


RECORDED = {
    "numbers of a step": [f"| {name} | {number.unit} | {number.meaning} |" for name, number in NUMBERS.items()],
    "names of a summary": [f"| {name} | {meaning} |" for name, meaning in SUMMARY.items()],
    "ended_by": [f"| {word} | {shown.meaning} |" for word, shown in words.ENDED_BY.items()],
    "fates": [f"| {word} | {shown.meaning} |" for word, shown in words.FATES.items()],
    "statuses": [f"| {word} | {meaning} |" for word, meaning in words.STATUSES.items()],
}


@pytest.mark.parametrize("table", RECORDED)
def test_the_run_directory_is_described_in_the_words_of_the_code(table: str) -> None:
    """A failure prints the lines that docs/run-directory.md lacks, as they can be put there."""
    rows = [row.replace("`", "") for row in RECORDED[table]]
    found = table_rows("run-directory.md")
    assert [row for row in rows if row not in found] == [], "lines missing in docs/run-directory.md"


def test_the_run_directory_describes_nothing_else() -> None:
    known = {row.replace("`", "") for rows in RECORDED.values() for row in rows}
    begin = next(i for i, row in enumerate(table_rows("run-directory.md")) if row.startswith("| step |"))
    rest = table_rows("run-directory.md")[begin:]
    assert [row for row in rest if row not in known and not row.startswith(("| word", "|---", "| name"))] == []


def test_kinds_are_described_in_the_words_of_the_code() -> None:
    rows = table_rows("collapse.md")
    assert [row for kind, meaning in words.KINDS.items() if (row := f"| {kind} | {meaning} |") not in rows] == []


def test_the_lists_of_figures_and_tables_are_current() -> None:
    written = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert written == load_tool("report_reference").reference(), "run: python tools/report_reference.py"


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


def commands(text: str) -> list[list[str]]:
    """The commands of fenced blocks, indented blocks and inline code, continued lines joined.

    Those of `collapselab …` without its name, those of `python -m benchmarks …` with "benchmarks" before them.
    """
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).splitlines() + re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    shown = [line.strip().removeprefix("$ ") for line in lines] + inline_code(text)
    shown = [re.sub(r"^python -m benchmarks(?= |$)", "collapselab benchmarks", line) for line in shown]
    return [command for line in shown if line.startswith("collapselab ") for command in alternatives(line)]


def alternatives(line: str) -> list[list[str]]:
    """The commands of a line, in which `a|b` means either and `[--x]` may be left out."""
    words = [word.split("|") for word in shlex.split(re.sub(r"\[(--[^]]+)]", r"\1", line), comments=True)[1:]]
    return [[either[i % len(either)] for either in words] for i in range(max(map(len, words)))]


def test_the_front_page_is_short_and_has_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert {"make demo", "make test"} <= {line.strip().partition(" #")[0].strip() for line in text.splitlines()}


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


SOURCES = sorted(
    [*ROOT.glob("src/collapselab/**/*.py"), *ROOT.glob("benchmarks/*.py")]
)  # docstrings and messages tell commands too
TEXTS = [path.read_text(encoding="utf-8") for path in PAGES] + [
    "\n".join(f"`{code}`" for code in inline_code(path.read_text(encoding="utf-8"))) for path in SOURCES
]
COMMANDS = sorted({tuple(command) for text in TEXTS for command in commands(text)})
OPTIONS = sorted({code for text in TEXTS for code in inline_code(text) if re.match(r"--[a-z]", code)})
BEGINNINGS = (
    ("run", "demo"),
    ("sweep", "learning-rates"),
    ("reproduce",),
    ("benchmarks",),
    ("report", "runs"),
    ("serve", "runs"),
    ("eval", "--model", "gpt2", "--data", "ptb"),
    ("diagnose", "FILE"),
    ("watch", "FOLDER"),
)


def check(command: Sequence[str]) -> None:
    """Parses a command as the command line does, and checks its settings, without carrying it out."""
    if command[0] == "benchmarks":
        benchmark.parse(command[1:])
        return
    if command[0] == "--tyro-write-completion":  # tests/unit/cli/test_arguments.py writes it
        return
    ready = cast("partial[None]", cli.parse(command))
    if command[0] == "run":
        options, changes = ready.keywords["options"], given(ready.keywords["settings"])
        override(presets.load(options.preset), changes)
    elif command[0] == "sweep":
        options, changes = ready.keywords["options"], given(ready.keywords["settings"])
        is_placeholder = options.sweep.endswith(".toml") and not Path(options.sweep).exists()
        rebase(sweep_presets.load("sizes" if is_placeholder else options.sweep), changes)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_documented_commands_are_understood(command: tuple[str, ...]) -> None:
    """Every option of every command is parsed; commands that only show something are executed."""
    shows = ("models", "data", "presets", "metrics", "safeguards")
    if command[0] in shows or set(QUICK) & set(command):
        with pytest.raises(SystemExit) as ended:
            cli.main(command)
        assert ended.value.code == 0
    elif len(command) == 1:  # only a mention
        assert command[0] in (*cli.COMMANDS, *cli.MOVED, "benchmarks")
    else:
        check(command)


def is_understood(command: Sequence[str]) -> bool:
    try:
        check(command)
    except (SystemExit, InputError) as ended:
        return isinstance(ended, SystemExit) and ended.code == 0
    return True


@pytest.mark.parametrize("option", OPTIONS)
def test_documented_options_exist(option: str) -> None:
    words = shlex.split(option)
    values: list[list[str]] = [[], ["1"], ["gpt2"], ["fast"], ["plain"], ["slurm"]] if len(words) == 1 else [[]]
    assert any(is_understood([*begin, *words, *value]) for begin in BEGINNINGS for value in values)


def test_commands_and_options_are_collected_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    page = (
        '```toml title="a.toml"\nseed = 1\n```\n'
        "```sh\n$ collapselab run demo \\\n  --optim.lr 1e-4  # faster\npip install x\n```\n"
        "    collapselab report runs\n\nSay `python -m benchmarks decode|update [--json]`, collapselab run\n"
    )
    decode_and_update = [["benchmarks", task, "--json"] for task in ("decode", "update")]
    assert commands(page) == [["run", "demo", "--optim.lr", "1e-4"], ["report", "runs"], *decode_and_update]
    with pytest.raises(ValueError, match=r"unknown option '--optim\.rate'"):
        check(["run", "demo", "--optim.rate", "1"])
    for wrong in (
        ["benchmarks", "--nunerics", "fast"],
        ["run", "demo", "--numerics", "slow"],
        ["sweep", "sizes", "--out"],
    ):
        assert not is_understood(wrong), capsys.readouterr()
    assert len(COMMANDS) > 25
    assert "--numerics exact" in OPTIONS
