"""Names and messages are shown, never obeyed: no markup, no escape sequence, no reordered or forged line."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import command as benchmark
from collapselab.cli import main
from collapselab.cli.live import Progress
from collapselab.cli.text import named
from collapselab.config.schema import RunConfig
from collapselab.records import Record, Sample, Value
from collapselab.testing import save_folder, tiny_model

ROOT = Path(__file__).parents[2]
HOSTILE = "a\\[/b] [red]x :smile: \x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\u200b\nerror: forged\r\ud8ff"
NAMES = {"markup": "a\\[/b][red] :x:", "control": "a\x1b]0;PWNED\x07\x9b31m\u202ecod", "lines": "a\nerror: b"}
ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\ud800-\udfff]")
STYLES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r")  # what Rich itself sends to a terminal


def said(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        benchmark.main(command[1:]) if command[0] == "benchmarks" else main(command)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert not ACTING.search(text), repr(ACTING.search(text))
    assert not any(line.startswith("error: b") for line in text.splitlines()), "a line that a name forged"
    assert "Traceback" not in text
    assert "fault in collapselab" not in text
    return (ended.value.code if isinstance(ended.value.code, int) else 0), text


def picture(path: Path) -> tuple[Path, ...]:
    return (path / "loss.svg",)


@pytest.fixture
def hostile(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_file: Path) -> str:
    """A name, and in the working directory a model folder `m…`, a text `t….txt` and a folder `f…` with it."""
    name: str = request.param
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("collapselab.cli.running._draw", picture)
    monkeypatch.setattr("collapselab.report.page._library", lambda: "")  # a second that no name changes
    for first in "mtf":
        (tmp_path / f"{first}{name}").parent.mkdir(parents=True, exist_ok=True)
    save_folder(tiny_model(1, layers=1), tmp_path / f"m{name}")
    (tmp_path / f"t{name}.txt").write_text(text_file.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / f"f{name}").mkdir()
    return name


@pytest.mark.parametrize("hostile", NAMES.values(), ids=NAMES, indirect=True)
def test_every_command_shows_a_hostile_name_as_it_is(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, text, folder, out = f"m{hostile}", f"t{hostile}.txt", f"f{hostile}", f"o{hostile}"
    settings = [
        "--model",
        model,
        "--data",
        text,
        "--generate.max_new_tokens",
        "100",
        "--eval.protocol",
        "windows[20,5]",
    ]
    settings += ["--eval.full_every", "0", "--stop.max_steps", "1", "--threads", "1"]
    finished = [
        (["run", "demo", *settings, "--out", out], 0),
        (["run", "demo", *settings, "--out", out, "--resume", "--json"], 0),
        (["report", out, "-o", f"{out}.html"], 0),
        (["eval", "--model", model, "--data", text, "--protocol", "disjoint[64]"], 0),
        (["diagnose", text], 0),
        (["diagnose", text, "--json"], 0),
        (["sweep", "learning-rates", *settings, "--out", folder, "--dry-run"], 0),
    ]
    refused = [
        (["run", hostile], 2),
        (["run", "demo", "--model", folder], 2),
        (["run", "demo", "--data", folder], 2),
        (["run", "demo", "--optim.lr", hostile], 2),
        (["run", "demo", f"--optim.{hostile}", "1"], 2),
        (["sweep", hostile], 2),
        (["eval", "--model", folder, "--data", "austen"], 2),
        (["eval", "--model", model, "--data", text, "--protocol", hostile], 2),
        (["diagnose", folder], 2),
        (["diagnose", text, "--tokenizer", folder], 2),
        (["report", folder], 2),
        (["reproduce", "--out", text], 2),
        (["benchmarks", "--model", folder, "--n", "1"], 2),
        (["benchmarks", hostile], 2),
        ([hostile], 2),
    ]
    for command, code in finished + refused:
        got, text_said = said(command, capsys)
        assert got == code, (command, text_said)
        is_named = any(name in text_said for name in (named(hostile), repr(hostile)[1:-1], hostile.replace("\n", " ")))
        assert is_named or command[0] not in ("run", "diagnose") or "--json" in command, (command, text_said)


def test_a_file_name_that_is_no_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(["diagnose", os.fsdecode(b"caf\xe9.txt")], capsys)
    assert (code, "caf⟨U+DCE9⟩.txt" in text) == (2, True)


def test_a_name_on_one_line() -> None:
    shown = named(HOSTILE)
    assert not ACTING.search(shown)
    assert shown.startswith("a\\[/b] [red]x :smile: ⟨U+001B⟩]0;PWNED⟨U+0007⟩")
    assert " ⏎ error: forged⟨U+000D⟩⟨U+D8FF⟩" in shown


def test_the_live_panel_shows_a_hostile_name_as_it_is() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=300, markup=False, emoji=False)
    name = HOSTILE.replace(",", "")
    values: dict[str, Value] = {
        "step": 0,
        "train_nll_nats": 2.5,
        f"val_nll_nats[{name}]": 3.0,
        "ended_by": None,
        "reasons": [],
    }
    with Progress(RunConfig(model=f"some/m[/x]{HOSTILE}", data=(name,)), console) as progress:
        progress.show(Record(0, values, (Sample((1,), HOSTILE),)))
    text = STYLES.sub("", stream.getvalue())
    assert not ACTING.search(text), repr(ACTING.search(text))
    assert "some/m[/x]a\\[/b] [red]x :smile:" in text


def test_consoles_are_made_in_one_place_and_parse_no_markup() -> None:
    wrong = re.compile(r"\bConsole\(|from_markup|markup=True|print\(f?\"\[")
    found = [path.name for path in (ROOT / "src/collapselab").rglob("*.py") if wrong.search(path.read_text("utf-8"))]
    assert found == ["text.py"], "collapselab.cli.text has stdout_console, stderr_console and plain"
    assert sys.modules["collapselab.cli.text"].stdout_console().render_str("[b]:x:").plain == "[b]:x:"
