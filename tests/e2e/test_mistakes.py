"""Mistakes that people make on the command line: exit code 2, one message, no traceback, nothing computed before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import command as benchmark
from collapselab.cli import main

RUN = "run demo --model builtin:nano --generate.max_new_tokens 100 "
MISTAKES = {
    "learning rate infinite": (RUN + "--optim.lr 1e400", "optim.lr"),
    "nothing after =": (RUN + "--optim.lr=", "optim.lr"),
    "seed of many digits and letters": (RUN + "--seed 1x", "seed"),
    "more threads than any machine": (RUN + "--threads 100000000000", "threads"),
    "wall time nan": (RUN + "--stop.max_seconds nan", "stop.max_seconds"),
    "three betas": (RUN + "--optim.betas 0.9,0.95,0.99", "optim.betas"),
    "numerics without a word": (RUN + "--numerics", "--numerics needs a value"),
    "numerics of another word": (RUN + "--numerics slow", "exact or fast"),
    "a part of numerics besides": (RUN + "--numerics fast --numerics.write float16", "numerics.write"),
    "a section for a setting": (RUN + "--generate 5", "--generate"),
    "an empty name": (RUN + "--.", "setting"),
    "a text twice": (RUN + "--data austen,austen", "once"),
    "only a comma": (RUN + "--data ,", "data"),
    "a folder for a text": (RUN + "--data folder", "folder"),
    "a text for a model": (RUN + "--model file.txt", "file.txt"),
    "an empty folder for a model": (RUN + "--model folder", "config.json"),
    "out over a file": (RUN + "--out file.txt", "file.txt"),
    "out below a file": (RUN + "--out file.txt/x", "file.txt"),
    "a name too long for the file system": (RUN + "--out " + "a" * 300, "File name too long"),
    "two presets": ("run demo paper", "paper"),
    "no preset": ("run", "Missing from collapselab run"),
    "a folder for a settings file": ("run folder.toml", "folder.toml"),
    "a sweep's out over a file": ("sweep learning-rates --model builtin:nano --data austen --out file.txt", "file.txt"),
    "no workers": ("sweep sizes --workers 0", "--workers"),
    "a protocol beyond the context": (
        "eval --model builtin:nano --data austen --protocol disjoint[100000]",
        "256",
    ),
    "no text for eval": ("eval --model builtin:nano --data ,", "--data names no text"),
    "window of no number": ("diagnose file.txt --window x", "window"),
    "no runs": ("report", "run directory"),
    "a page over a folder": ("report runs -o folder", "folder"),
    "a page below a file": ("report runs -o file.txt/page.html", "file.txt is not a folder"),
    "figures over a file": ("report runs --figures file.txt", "file.txt is not a folder"),
    "a page where nobody may write": ("report runs -o locked/page.html", "cannot be written to"),
    "seeds without end": ("reproduce --seeds 99999999999 --dry-run", "at most 1000"),
    "reproduction over a file": ("reproduce --out file.txt", "file.txt is not a folder"),
    "a command of former times": ("bench decode", "python -m benchmarks"),
    "negative threads": ("benchmarks --threads -1", "--threads"),
    "growth over a file": ("benchmarks growth --out file.txt", "file.txt is not a folder"),
    "no variant": ("benchmarks --variants ,", "variant"),
    "no task": ("benchmarks decod", "decod"),
}


def is_open(path: Path, mode: int) -> bool:
    return path.name != "locked"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_message_and_exit_code_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "folder.toml", "locked"):
        (tmp_path / folder).mkdir()
    (tmp_path / "locked").chmod(0o500)
    (tmp_path / "file.txt").write_text("word " * 500, encoding="utf-8")
    command, said = MISTAKES[name]
    is_benchmark, command = command.startswith("benchmarks "), command.removeprefix("benchmarks ")
    if "locked" in command and os.access(tmp_path / "locked", os.W_OK):
        monkeypatch.setattr("collapselab.cli.places.os.access", is_open)  # root may
    run = benchmark.main if is_benchmark else main
    with pytest.raises(SystemExit) as ended:
        run(command.split(" "))
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert said in " ".join(captured.err.replace("│", " ").split()), captured.err
    assert "Traceback" not in captured.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "runs") == [
        "file.txt",
        "folder",
        "folder.toml",
        "locked",
    ]
