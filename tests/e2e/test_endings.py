"""How commands end: the verdict before the picture, streams that close, fill up or cannot encode, exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from benchmarks import command as benchmark
from collapselab.cli import main
from collapselab.cli.streams import Stream
from collapselab.rundir.layout import read_json

Open = Callable[[], io.TextIOWrapper]


@pytest.fixture
def quick(tiny_folder: Path, text_file: Path) -> list[str]:
    """Settings of a run that takes a second."""
    return (
        f"run demo --model {tiny_folder} --data {text_file} --generate.max_new_tokens 100 --threads 1 "
        "--eval.protocol windows[20,5] --eval.full_every 0 --stop.max_steps 2"
    ).split()


def full() -> io.TextIOWrapper:
    return open("/dev/full", "w", encoding="utf-8")


def broken() -> io.TextIOWrapper:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def encoded(name: str) -> Open:
    return lambda: io.TextIOWrapper(io.BytesIO(), encoding=name)


def no_picture(path: Path) -> tuple[Path, ...]:
    return ()


def ended(command: list[str], monkeypatch: pytest.MonkeyPatch, **streams: io.TextIOWrapper | None) -> int:
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as caught:
        benchmark.main(command[1:]) if command[0] == "benchmarks" else main(command)
    for stream in filter(None, streams.values()):
        if not isinstance(getattr(stream, "buffer", None), io.BytesIO):
            stream.close()
    assert isinstance(caught.value.code, int)
    return caught.value.code


STREAMS = {
    "full": full,
    "broken": broken,
    "closed": lambda: None,
    "ascii": encoded("ascii"),
    "latin-1": encoded("latin-1"),
}


@pytest.mark.parametrize(
    ("stdout", "stderr"), [*zip(STREAMS, STREAMS, strict=True), ("full", "ascii"), ("ascii", "broken")]
)
def test_no_stream_ends_a_run(
    stdout: str, stderr: str, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr("collapselab.cli.running._draw", no_picture)
    streams = {"stdout": STREAMS[stdout](), "stderr": STREAMS[stderr]()}
    assert ended([*quick, "--out", str(out)], monkeypatch, **streams) == 0
    assert read_json(out / "status.json")["status"] == "finished"


@pytest.mark.parametrize(
    "command",
    [["models"], ["--help"], ["run", "--help"], ["run", "demo", "--dry-run"], ["eval", "-h"], ["benchmarks", "-h"]],
)
@pytest.mark.parametrize(("stream", "code"), [(full, 1), (broken, 1), (encoded("ascii"), 0), (lambda: None, 0)])
def test_a_command_whose_output_is_lost_says_so(
    command: list[str], stream: Open, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(command, monkeypatch, stdout=stream()) == code
    told = "error: cannot write to standard output: No space left on device"
    assert (told in capsys.readouterr().err) == (stream is full)


def test_json_and_toml_in_every_encoding(quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "caf\u00e9 \u202e\x9b\U0001f40b.txt"
    (tmp_path / name).write_text("text")
    monkeypatch.chdir(tmp_path)
    for encoding in ("ascii", "latin-1", "utf-8"):
        for options, data in (
            (["--json"], lambda text: json.loads(text)["config"]["data"]),
            ([], lambda text: tomllib.loads(text)["data"]),
        ):
            stream = encoded(encoding)()
            command = ["run", "demo", "--data", name, "--dry-run", *options]
            assert ended(command, monkeypatch, stdout=stream) == 0
            printed = cast(io.BytesIO, stream.buffer).getvalue().decode(encoding)
            assert data(printed) == [name]
            assert not set("\u202e\x9b") & set(printed)


def test_a_stream_replaces_what_it_cannot_show() -> None:
    buffer = io.BytesIO()
    stream = Stream(io.TextIOWrapper(buffer, encoding="ascii"), is_output=True)
    stream.write("é \ud800 \x1b]0;title\x07 \x1b[1mbold\x1b[0m \u202e")
    stream.flush()
    assert buffer.getvalue() == b"? ? ?]0;title? \x1b[1mbold\x1b[0m ?"


def test_the_verdict_comes_last_even_if_the_picture_fails(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(path: Path) -> None:
        sys.stdout.write("drawing begins\n")
        raise RuntimeError("no engine")

    monkeypatch.setattr("collapselab.cli.running._draw", fails)
    assert ended([*quick, "--out", str(tmp_path / "run")], monkeypatch) == 0
    captured = capsys.readouterr()
    assert 0 < captured.out.index("drawing begins") < captured.out.index("No collapse within 2 steps")
    assert captured.err.splitlines()[-1] == "warning: the picture is not drawn: RuntimeError: no engine"


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a shell of its own, where limits and closed streams are real."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=120, env=environment, check=False
    )


def test_limited_addresses_cost_the_picture_alone(quick: list[str], tmp_path: Path) -> None:
    run = " ".join([sys.executable, "-m", "collapselab", *map(repr, quick), "--out", "run"])
    report = f"{sys.executable} -m collapselab report run --figures figures"
    done = shell(f"ulimit -v 16000000; {run} && {report}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No collapse within 2 steps" in done.stdout
    assert "warning: the picture is not drawn: the drawing process was ended by SIGTRAP" in done.stderr
    assert "warning: the page has no figures" in done.stderr
    assert "warning: figures not drawn" in done.stderr
    assert len(done.stderr) < 3000, "no pages of addresses"
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".csv", ".md", ".tex"}
    assert not (tmp_path / "run" / "loss.svg").exists()


def test_closed_descriptors_are_not_taken_by_the_files_of_a_run(quick: list[str], tmp_path: Path) -> None:
    run = " ".join([sys.executable, "-m", "collapselab", *map(repr, quick), "--out", "run"])
    done = shell(f"{run} <&- >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "run" / "loss.svg").read_text(encoding="utf-8").startswith("<svg")


def test_no_file_is_opened_as_a_closed_standard_stream(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from collapselab.cli.streams import safe_streams\n"
        "with safe_streams(): os._exit(os.open(os.devnull, os.O_RDONLY) <= 2)"
    )
    (tmp_path / "script.py").write_text(script)
    assert shell(f"{sys.executable} script.py <&- >&- 2>&-", tmp_path).returncode == 0
