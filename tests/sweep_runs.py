"""Sweeps of tiny runs in real processes: how they are started, watched and compared."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from collapselab.cli import main
from collapselab.rundir.layout import read_json, read_lines

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 120.0
NUM_STEPS = 12
SETTINGS = """
preset = "demo"
model = "builtin:nano"
checkpoint_every_s = 0.0
generate.max_new_tokens = 16
eval.protocol = "windows[20,2]"
eval.full_every = 0
stop.on_divergence = false
"""
# Read by every process of a sweep as it starts: a step takes 50 ms at least, so that a signal comes in its middle on a
# quick machine too, and is counted, by a line in a file, before its record is written. A run waits before the record of
# step 5 while there is a file hold-<run> beside that file, and makes hold-<run>.signalled when it gets a signal then.
HOOK = """
import os, signal, time
from collapselab.rundir.record_writer import RecordWriter

append = RecordWriter.append

def counted(self, record):
    hold = os.path.join(os.path.dirname(os.environ["COUNTED_STEPS"]), f"hold-{self._rundir.path.name}")
    if record.step == 5 and os.path.exists(hold):
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, noted(hold + ".signalled", signal.getsignal(number)))
    with open(os.environ["COUNTED_STEPS"], "a") as file:
        file.write(f"{self._rundir.path.name} {record.step}\\n")
    while record.step == 5 and os.path.exists(hold):
        time.sleep(0.01)
    append(self, record)
    time.sleep(0.05)

def noted(path, handler):
    def note(number, frame):
        handler(number, frame)
        open(path, "w").close()
    return note

RecordWriter.append = counted
"""


def hooked(folder: Path) -> dict[str, str]:
    """The environment of a process that counts its steps in a file of that folder."""
    (folder / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "COUNTED_STEPS": str(folder / "counted")}


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command, in this process."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    code = caught.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def sweep_file(path: Path, text_file: Path, axes: str, num_steps: int = NUM_STEPS) -> Path:
    further = f'stop.max_steps = {num_steps - 1}\ndata = "{text_file}"\n'
    path.write_text(SETTINGS + further + axes, encoding="utf-8")
    return path


def started(command: Sequence[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A command of collapselab with the hook, in that folder, as the leader of a process group of its own."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    return subprocess.Popen(
        [sys.executable, "-m", "collapselab", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**hooked(folder), **environment},
        start_new_session=True,
    )


def documented(words: str) -> list[list[str]]:
    """The commands of docs/cluster.md that contain these words, without the name `collapselab`."""
    lines = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").splitlines()
    return [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("collapselab sweep") and words in line
    ]


def held(path: Path) -> bool:
    """Whether a run waits at step 5, since `hold-<run>` says so: a signal now is noticed after that step."""
    counted = next(folder / "counted" for folder in path.parents if (folder / "sitecustomize.py").exists())
    return counted.exists() and f"{path.name} 5\n" in counted.read_text(encoding="utf-8")


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[str] | None = None, timeout_s: float = TIMEOUT_S
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], folder: Path, timeout_s: float = TIMEOUT_S) -> str:
    """The standard error of a sweep begun by `started` in that folder; on a busy machine each *step* has the time."""
    steps, seen = folder / "counted", -1
    while (now := steps.stat().st_size if steps.exists() else 0) != seen:
        seen = now
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=timeout_s)[1]
    raise AssertionError(f"no step within {timeout_s:.0f} s")


def count(path: Path) -> int:
    file = path / "steps.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def status(path: Path) -> str | None:
    return read_json(path / "status.json")["status"] if (path / "status.json").exists() else None


def runs_in(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob("*/config.json"))


def assert_equal_records(path: Path, reference: Path, num_steps: int = NUM_STEPS) -> None:
    timeless = [
        [{name: value for name, value in line.items() if not name.startswith("seconds_")} for line in read_lines(file)]
        for file in (path / "steps.jsonl", reference / "steps.jsonl")
    ]
    assert timeless[0] == timeless[1]
    assert len(timeless[0]) == num_steps
    assert (path / "samples.jsonl").read_bytes() == (reference / "samples.jsonl").read_bytes()


def begins(path: Path) -> list[int]:
    """The steps at which a run began or went on, from its log."""
    lines = (path / "log.txt").read_text(encoding="utf-8").splitlines()
    return [int(line.rpartition(" ")[2]) for line in lines if " begin at step " in line]


def call_main(*arguments: str) -> object:
    """The exit code of one command, in this process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code
