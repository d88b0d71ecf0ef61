"""Machines that share a file system, for tests: processes that see no locks of each other, each with its own clock."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from collapselab.config.schema import RunConfig

TIMEOUT_S = 180.0
LEASE_S = 2.0


@dataclass(frozen=True)
class Machine:
    """A machine that executes a run, or continues it.

    `hours`: by which its clock differs; `stop_at`: where its process stops itself (SIGSTOP), as in `STOPS`.
    """

    path: Path
    config: RunConfig
    host: str
    hours: float = 0.0
    stop_at: str = ""


class Running:
    """A machine at work."""

    def __init__(self, machine: Machine) -> None:
        self._told = machine.path.with_name(f"{machine.path.name}-{machine.host}.txt")
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["collapselab.runner"])  # torch is imported once
        self.process: BaseProcess = context.Process(target=_work, args=(machine, self._told))
        self.process.start()

    def is_stopped(self) -> bool:
        assert self.process.exitcode is None, self.ended()
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        return stat.rpartition(")")[2].split()[0] == "T"

    def wake(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def ended(self) -> tuple[int | None, str]:
        """(exit code, the error's message) at its end."""
        self.process.join(TIMEOUT_S)
        return self.process.exitcode, self._told.read_text(encoding="utf-8") if self._told.exists() else ""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _work(machine: Machine, told: Path) -> None:
    from collapselab.errors import CollapselabError
    from collapselab.rundir import lease
    from collapselab.runner import run

    now, hold = time.time, lambda handle: None
    time.time = lambda: now() + 3600 * machine.hours
    lease.BEAT_S, lease.LEASE_S = 0.1, LEASE_S
    lease.boot_id = lease.socket.gethostname = lambda: machine.host
    _without_locks(hold)
    if machine.stop_at == "wait":
        _before(*STOPS["append"], lambda: _wait(Path(f"{machine.path}.go")))
    elif machine.stop_at:
        _before(*STOPS[machine.stop_at], _stop)
    try:
        run(machine.config, machine.path, resume=True)
    except CollapselabError as error:
        told.write_text(f"{type(error).__name__}: {error.message}", encoding="utf-8")
        raise SystemExit(error.exit_code) from None


def _without_locks(hold: Callable[[int], None]) -> None:
    from collapselab import files
    from collapselab.rundir import layout, line_files

    files.hold = layout.hold = line_files.hold = hold


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)  # another thread may be the one that receives it


def _wait(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def _before(owner: Callable[[], Any], name: str, matches: Callable[..., bool], act: Callable[[], None]) -> None:
    """Acts once, before the first call of a function whose arguments match."""
    place = owner()
    function, done = getattr(place, name), list[bool]()

    def acting(*arguments: Any, **named: Any) -> Any:
        if not done and matches(*arguments):
            done.append(True)
            act()
        return function(*arguments, **named)

    setattr(place, name, acting)


def _line_file() -> Any:
    from collapselab.rundir.line_files import LineFile

    return LineFile


# Between the last look at the lease and what is written: (where the function is, its name, which call).
STOPS: dict[str, tuple[Callable[[], Any], str, Callable[..., bool]]] = {
    "append": (_line_file, "append", lambda file, line: file.path.name == "steps.jsonl" and line["step"] == 3),
    "summary": (
        lambda: os,
        "fsync",
        lambda handle: os.readlink(f"/proc/self/fd/{handle}").endswith("summary.json.tmp"),
    ),
    "summary-rename": (lambda: Path, "replace", lambda file, target: target.name == "summary.json"),
    "checkpoint-rename": (lambda: Path, "rename", lambda file, target: target.name == "00000004"),
    "status-rename": (lambda: Path, "replace", lambda file, target: target.name == "status.json"),
}
