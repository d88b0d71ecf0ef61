"""Two machines and one run directory: an owner that is stopped beyond its lease and woken writes nothing any more.

Each process believes to be on a machine of its own: it sees no locks of the others, and their clocks are apart by an
hour.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from collapselab.config.schema import RunConfig
from collapselab.rundir.layout import RunDir, read_json, read_lines
from collapselab.rundir.run_files import check_run

TIMEOUT_S = 180.0
NUM_STEPS = 6
# One machine: its name, the hours by which its clock differs, and the operation before which it stops.
PROGRAM = """
import json, os, signal, sys, time
from collapselab import files
from collapselab.rundir import layout, lease, line_files

host, hours, stop_at, path, config = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
now = time.time
time.time = lambda: now() + 3600 * hours
lease.boot_id = lambda: host
lease.socket.gethostname = lambda: host
lease.BEAT_S, lease.LEASE_S = 0.1, 2.0
files.hold = layout.hold = line_files.hold = lambda handle: None  # no lock of another machine is seen

def stops(module, name, matches):
    function = getattr(module, name)
    def stopping(*arguments, **named):
        global stop_at
        if stop_at and matches(*arguments):
            stop_at = ""
            os.kill(os.getpid(), signal.SIGSTOP)
        return function(*arguments, **named)
    setattr(module, name, stopping)

def wait(line_file, line):
    if is_step(line_file, line):
        while not os.path.exists(path + ".go"):
            time.sleep(0.01)
    return False

from collapselab import runner
from collapselab.config.schema import RunConfig
from collapselab.rundir import checkpoint, record_writer

def is_step(line_file, line):
    return line_file.path.name == "steps.jsonl" and line["step"] == 3

if stop_at == "append":
    stops(line_files.LineFile, "append", is_step)
elif stop_at == "wait":
    stops(line_files.LineFile, "append", wait)
elif stop_at == "summary":
    stops(files.os, "fsync", lambda handle: os.readlink(f"/proc/self/fd/{handle}").endswith("/summary.json.tmp"))
elif stop_at == "summary-rename":
    stops(files.Path, "replace", lambda file, target: target.name == "summary.json")
elif stop_at == "checkpoint-rename":
    stops(checkpoint.Path, "rename", lambda file, target: target.name == "00000004")
elif stop_at == "status-rename":
    stops(files.Path, "replace", lambda file, target: target.name == "status.json")

try:
    runner.run(RunConfig.model_validate_json(config), path, resume=True)
except runner.CollapselabError as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "machine.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    stop = tiny_config.stop.model_copy(update={"max_steps": NUM_STEPS - 1})
    return tiny_config.model_copy(update={"stop": stop, "checkpoint_every_s": 0.0})


def machine(
    program: Path, path: Path, config: RunConfig, host: str, *, hours: float = 0, stop_at: str = ""
) -> subprocess.Popen[str]:
    command = [sys.executable, str(program), host, str(hours), stop_at, str(path), config.model_dump_json()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_stopped(process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    return (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stderr


def records(path: Path) -> list[dict[str, object]]:
    lines = [line for file in ("steps.jsonl", "samples.jsonl") for line in read_lines(path / file)]
    return [{name: value for name, value in line.items() if not name.startswith("seconds_")} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    return {}


def expected(
    undisturbed: dict[str, list[dict[str, object]]], program: Path, config: RunConfig, path: Path
) -> list[dict[str, object]]:
    """The records of a run that nothing disturbs."""
    if config.run_id not in undisturbed:
        assert ended(machine(program, path, config, "alone")) == (0, "")
        undisturbed[config.run_id] = records(path)
    return undisturbed[config.run_id]


@pytest.mark.parametrize(
    ("stop_at", "is_early", "hours"),
    [
        ("append", True, 1.0),
        ("append", False, -1.0),
        ("checkpoint-rename", True, -1.0),
        ("status-rename", True, 1.0),
        ("summary", False, 1.0),
        ("summary-rename", False, -1.0),
    ],
)
def test_an_owner_stopped_beyond_its_lease_and_woken_changes_nothing(
    stop_at: str,
    is_early: bool,
    hours: float,
    program: Path,
    config: RunConfig,
    undisturbed: dict[str, list[dict[str, object]]],
    tmp_path: Path,
) -> None:
    """It stops between its last look and a write; `is_early`: it is woken while the other one runs, else after that."""
    path = tmp_path / "run"
    first = machine(program, path, config, "host-a", stop_at=stop_at)
    wait_for(lambda: is_stopped(first))
    second = machine(program, path, config, "host-b", hours=hours, stop_at="append" if is_early else "")
    if is_early:
        wait_for(lambda: is_stopped(second))
        first.send_signal(signal.SIGCONT)
        code, told = ended(first)
        second.send_signal(signal.SIGCONT)
        assert ended(second)[0] == 0
    else:
        assert ended(second)[0] == 0
        first.send_signal(signal.SIGCONT)
        code, told = ended(first)
    assert code == 1 and "was taken over by process" in told and "on host-b" in told, told
    check_run(RunDir(path))
    assert read_json(path / "env.json")["earlier"], "the second resumed the run of the first"
    assert records(path) == expected(undisturbed, program, config, tmp_path / "undisturbed")


@pytest.mark.parametrize("hours", [-1.0, 1.0])
def test_a_living_owner_is_never_superseded_whatever_the_clocks(
    hours: float, program: Path, config: RunConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    first = machine(program, path, config, "host-a", stop_at="wait")
    wait_for(lambda: (path / "steps.jsonl").exists() and len(read_lines(path / "steps.jsonl")) == 3)
    code, told = ended(machine(program, path, config, "host-b", hours=hours))
    assert (code, "is in use by process" in told, "on host-a" in told) == (1, True, True), told
    Path(f"{path}.go").touch()
    assert ended(first)[0] == 0
    check_run(RunDir(path))
