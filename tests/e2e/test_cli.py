"""The command line as a user meets it: output, exit codes, one clear message for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from collapselab.cli import main
from collapselab.records import loads
from collapselab.rundir.layout import read_json, read_lines


@pytest.fixture
def quick(tiny_folder: Path, text_file: Path) -> list[str]:
    """Settings of a run that takes a second."""
    settings = {
        "model": tiny_folder,
        "data": text_file,
        "seed": 1,
        "generate.max_new_tokens": 100,
        "eval.protocol": "windows[20,5]",
        "eval.full_protocol": "disjoint[64]",
        "stop.max_steps": 3,
        "threads": 1,
    }
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command, in this process."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    code = caught.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_run_prints_a_verdict_and_leaves_a_picture(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code, stdout, stderr = call(capsys, "run", "demo", *quick, "--out", str(out))
    assert code == 0, stderr
    assert "No collapse within 3 steps." in stdout
    assert "Samples" in stdout
    assert (out / "loss.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    asked_for = read_json(out / "user.json")["asked_for"]
    assert asked_for["preset"] == "demo"
    assert asked_for["settings"]["stop.max_steps"] == "3"


def test_run_json_is_the_summary(quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    code, stdout, _ = call(capsys, "run", "demo", *quick, "--out", str(out), "--json")
    assert code == 0
    assert loads(stdout) == read_json(out / "summary.json")


def test_a_finished_run_is_shown_again(quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("run", "demo", *quick, "--out", str(tmp_path / "run"))
    call(capsys, *command)
    code, stdout, _ = call(capsys, *command, "--resume")
    assert code == 0
    assert "No collapse within 3 steps." in stdout


def test_dry_run_prints_the_configuration_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = call(capsys, "run", "paper", "--optim.lr", "3e-5", "--data=ptb", "--dry-run")
    assert code == 0
    config = tomllib.loads(stdout)
    assert (config["optim"]["lr"], config["data"], config["sampling"]["top_k"]) == (3e-5, ["ptb"], 500)
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_a_toml_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "demo"\nseed = 7\n[optim]\nlr = 1e-3\n', encoding="utf-8")
    code, stdout, _ = call(capsys, "run", str(file), "--seed", "8", "--dry-run")
    config = tomllib.loads(stdout)
    assert (code, config["seed"], config["optim"]["lr"], config["model"]) == (0, 8, 1e-3, "builtin:micro")


def test_eval_prints_every_measure(text_file: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("eval", "--model", str(tiny_folder), "--data", str(text_file), "--protocol", "disjoint[64]")
    code, stdout, _ = call(capsys, *command, "--json")
    assert code == 0
    result = json.loads(stdout)
    (loss,) = result["texts"].values()
    assert result["protocol"] == "disjoint[64]"
    assert loss["nll_nats"] == pytest.approx(5.55, abs=0.3), "a random model over 257 tokens"
    code, stdout, _ = call(capsys, *command)
    assert (code, "bits/byte" in stdout) == (0, True)


def test_diagnose_tells_loops_from_prose(tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"text": "of the sea and " * 60}, {"token_ids": [7] * 150}, {"token_ids": list(range(150))}]
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, stdout, _ = call(capsys, "diagnose", str(file), "--json")
    *samples, audit = map(json.loads, stdout.splitlines())
    assert (code, audit["num_judged"], audit["num_degenerate"]) == (0, 3, 2)
    assert [s["kind"] for s in samples] == ["loop", "single-token", None]
    code, stdout, _ = call(capsys, "audit", str(file))
    assert (code, "2 of 3 texts, 67 % [9, 99] degenerate: 1 loops, 1 repeats one token" in stdout) == (0, True)


@pytest.mark.parametrize(
    "command", [["models"], ["data"], ["presets"], ["metrics"], ["--help"], ["run", "--help"], ["eval", "-h"]]
)
def test_listings_and_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, stdout, stderr = call(capsys, *command)
    assert (code, stderr) == (0, "")
    wanted = {"models": "builtin:micro", "data": "wikitext-2", "presets": "authors-code", "run": "--optim.lr"}
    wanted |= {"metrics": "distinct_4_pooled"}
    assert wanted.get(command[0], "usage: collapselab") in stdout


BAD = {
    "unknown command": (["rnu"], "unknown command 'rnu'", "'run'"),
    "unknown preset": (["run", "papper"], "unknown preset 'papper'", "'paper'"),
    "no settings file": (["run", "missing.toml"], "cannot read the settings file missing.toml", "preset"),
    "unknown key": (["run", "paper", "--optim.lrr", "1"], "unknown option '--optim.lrr'", "--optim.lr?"),
    "value missing": (["run", "paper", "--optim.lr"], "--optim.lr needs a value", "run --help"),
    "learning rate 0": (["run", "paper", "--optim.lr", "0"], "greater than 0, received '0'", "learning rate"),
    "learning rate -1": (["run", "paper", "--optim.lr", "-1"], "greater than 0, received '-1'", "learning rate"),
    "learning rate nan": (["run", "paper", "--optim.lr", "nan"], "finite number, received 'nan'", "learning rate"),
    "learning rate x": (["run", "paper", "--optim.lr", "x"], "received 'x'", "learning rate"),
    "unknown protocol": (["run", "paper", "--eval.protocol", "window[9,9]"], "unknown evaluation protocol", "windows"),
    "unknown protocol of eval": (
        ["eval", "--model", "builtin:nano", "--data", "austen", "--protocol", "disjont[9]"],
        "unknown evaluation protocol 'disjont[9]'",
        "disjoint",
    ),
    "unknown model": (["run", "demo", "--model", "builtin:mircro"], "unknown model 'builtin:mircro'", "builtin:micro"),
    "unknown bare model": (["run", "demo", "--model", "gtp2"], "unknown model 'gtp2'", "gpt2"),
    "unknown text": (["run", "demo", "--data", "wikitext2"], "wikitext2", "wikitext-2"),
    "beyond the context": (
        ["run", "demo", "--model", "builtin:nano", "--generate.max_new_tokens", "256"],
        "prompt and sample must fit the context of 256 tokens",
        "at most 255 new tokens",
    ),
    "no cuda": (["run", "demo", "--model", "builtin:nano", "--device", "cuda"], "cuda", "--device cpu"),
    "no file to diagnose": (["diagnose", "missing.txt"], "there is no file missing.txt", "a corpus is"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_gets_one_message_a_hint_and_exit_code_2(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message, hint = BAD[name]
    code, stdout, stderr = call(capsys, *arguments)
    assert (code, stdout) == (2, "")
    told = [line for line in stderr.splitlines() if not line.startswith("collapselab: ")]
    assert message in told[0].removeprefix("error: "), stderr
    assert hint in " ".join(told[1:]).removeprefix("hint: "), stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").glob("*/steps.jsonl"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"short", "at least 100 tokens"), (b"caf\xe9 " * 200, "not UTF-8")],
)
def test_a_text_that_cannot_be_used(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    out = tmp_path / "run"
    code, _, stderr = call(capsys, "run", "demo", "--model", "builtin:nano", "--data", str(file), "--out", str(out))
    assert code == 2
    assert message in stderr
    assert "hint:" in stderr


def test_a_hub_model_without_a_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    began = time.monotonic()
    code, _, stderr = call(capsys, "run", "demo", "--model", "gpt2-medium", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "gpt2-medium" in stderr
    assert "--model" in stderr, "where to put it"
    assert time.monotonic() - began < 20


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, stderr = call(capsys, "run", "demo", "--resum")
    assert code == 2
    assert "--resume" in stderr


def started(arguments: list[str], out: Path) -> subprocess.Popen[str]:
    """A run in its own process, once it has recorded a step."""
    command = [sys.executable, "-m", "collapselab", "run", "demo", *arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (out / "steps.jsonl").exists() or not read_lines(out / "steps.jsonl"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no step within two minutes"
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_checkpoint_and_exit_code_75(number: int, quick: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = started([*quick, "--stop.max_steps", "100000"], out)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (75, "")
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    status = read_json(out / "status.json")
    assert status["status"] == "interrupted"
    assert [p.name for p in (out / "checkpoint").iterdir()] == [f"{status['step'] + 1:08d}"]


def test_a_directory_in_use_is_refused(quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    process = started([*quick, "--stop.max_steps", "100000"], out)
    try:
        code, _, stderr = call(
            capsys, "run", "demo", *quick, "--stop.max_steps", "100000", "--out", str(out), "--resume"
        )
        assert code == 2
        assert f"in use by process {process.pid}" in stderr
    finally:
        process.kill()
        process.communicate()
