"""What befalls a sweep of three runs on this machine: its worker or itself is killed, or it is begun twice at once.

Rows of the table of `process_faults.py`, which carries them out. A try is held if the sweep, repeated at once, ends by
itself with the runs of an undisturbed one: none lost, doubled, or different in a bit (`faults.contents`). The command
line is that of users; its process and the one that forks its runs are forked from this one, which has torch imported.
`tests/e2e/test_sweep.py` kills sweeps that import all anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults import contents

from collapselab.cli import main

if TYPE_CHECKING:
    from process_faults import Tried

NUM_STEPS = 6
NAMES = [f"lr-0.0001-seed-{seed}" for seed in range(3)]
SWEEP = f"""
preset = "demo"
model = "builtin:nano"
threads = 1
checkpoint_every_s = 0.0
generate.max_new_tokens = 50
eval.protocol = "windows[50,2]"
eval.full_every = 0
stop.on_collapse = false
stop.max_steps = {NUM_STEPS - 1}

[sweep.grid]
optim.lr = [1e-4]
seed = [0, 1, 2]
"""
TIMEOUT_S = 600.0  # for three runs on a busy machine
POLL_S = 0.005  # a step takes 20 ms at least


class Sweeps:
    """Sweeps of one file, and the runs of one that nothing disturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sweep.toml").write_text(SWEEP)
        whole = self.begun("whole")
        assert self.ended(whole) == 0, self.said("whole")
        self.whole = {name: contents(folder / "whole" / name) for name in NAMES}

    def begun(self, out: str, log: str | None = None) -> int:
        """The process of a sweep with two workers, which leads a process group; `log`: for what it prints."""
        if (pid := os.fork()) == 0:
            os.setsid()
            handle = os.open(self.folder / f"{log or out}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.chdir(self.folder)
            util.spawnv_passfds = _forked
            _to_the_end(lambda: main(["sweep", "sweep.toml", "--out", out, "--workers", "2"]))
        return pid

    def ended(self, sweep: int) -> int:
        """The exit code; a sweep that hangs is killed."""
        deadline = time.monotonic() + TIMEOUT_S
        while (found := os.waitpid(sweep, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(sweep, signal.SIGKILL)
            time.sleep(POLL_S)
        return os.waitstatus_to_exitcode(found[1])

    def said(self, log: str) -> str:
        """The end of what a sweep has printed."""
        return (self.folder / f"{log}.log").read_text()[-500:]

    def worker(self, out: Path, step: int) -> tuple[str, int] | None:
        """A running run of a sweep that has written that record, and its process; None: all runs have ended."""
        while not all((out / name / "summary.json").exists() for name in NAMES):
            for name in NAMES:
                status = out / name / "status.json"
                if status.exists() and (found := json.loads(status.read_text()))["status"] == "running":
                    steps = out / name / "steps.jsonl"
                    if steps.exists() and step < steps.read_bytes().count(b"\n") < NUM_STEPS:
                        return name, found["pid"]
            time.sleep(POLL_S)
        return None

    def begins(self, path: Path) -> int:
        """How often a run was begun or resumed."""
        return (path / "log.txt").read_text().count(" begin at step ")

    def wrong(self, out: Path, *, begun_once: bool = False) -> str | None:
        """How the runs of a sweep differ from those of the undisturbed one; None: in nothing."""
        found = sorted(path.name for path in out.iterdir() if path.is_dir() and path.name != "logs")
        if found != NAMES:
            return f"runs {', '.join(found)}"
        for name in NAMES:
            now = contents(out / name)
            if different := [key for key, value in self.whole[name].items() if now[key] != value]:
                return f"{name}: other {', '.join(different)}"
            if begun_once and (times := self.begins(out / name)) != 1:
                return f"{name}: begun {times} times"
        return None


def _to_the_end(action: Callable[[], object]) -> None:
    """The rest of a forked process."""
    code: Any = 0
    try:
        action()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)


def _forked(path: object, arguments: Sequence[str], kept: Iterable[int]) -> int:
    """As `multiprocessing.util.spawnv_passfds`: the new Python is a fork of this one, so that it imports nothing."""
    if (pid := os.fork()) == 0:
        begin = 3
        for handle in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
            os.closerange(begin, handle)
            begin = handle + 1
        _to_the_end(lambda: exec(arguments[-1], {}))  # after -c
    return pid


def _killed(tried: Tried, whom: str) -> None:
    """SIGKILL after a random record, then the sweep is repeated at once; a run that ended just before is no try."""
    sweeps, number = Sweeps(tried.folder), 0
    while tried.num_tried < tried.tries:
        number += 1
        out = tried.folder / (name := f"{whom}-{number}")
        sweep = sweeps.begun(name)
        victim = sweeps.worker(out, tried.random.randrange(NUM_STEPS - 1))
        if whom != "worker":
            os.kill(sweep, signal.SIGKILL)
        if whom != "parent" and victim is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim[1], signal.SIGKILL)
        code = sweeps.ended(sweep)
        again = sweeps.ended(sweeps.begun(name, "again"))  # an orphan may still be writing its checkpoint
        wrong = sweeps.wrong(out) if again == 0 else sweeps.said("again")
        if code != (0 if whom == "worker" else -signal.SIGKILL):
            wrong = f"ended with {code}: {sweeps.said(name)}"
        if wrong is None and (victim is None or sweeps.begins(out / victim[0]) < 2):
            assert number < 3 * tried.tries, "no kill in the middle of a run"
            continue
        _note(tried, f"{name}, {victim}", wrong)


def _note(tried: Tried, name: str, wrong: str | None) -> None:
    tried.num_tried += 1
    if wrong is not None:
        tried.failed[name] = wrong


def worker_killed(tried: Tried) -> None:
    """SIGKILL for the process of a run: the sweep tries it again by itself."""
    _killed(tried, "worker")


def parent_killed(tried: Tried) -> None:
    """SIGKILL for the sweep: its runs write a checkpoint and end."""
    _killed(tried, "parent")


def both_killed(tried: Tried) -> None:
    """SIGKILL for the sweep and for one of its two runs."""
    _killed(tried, "both")


def two_sweeps(tried: Tried) -> None:
    """The same sweep, twice at once on one folder: each run is begun once, by one of them, and both end."""
    sweeps = Sweeps(tried.folder)
    for number in range(tried.tries):
        name = f"two-{number}"
        first = sweeps.begun(name, f"{name}-first")
        time.sleep(tried.random.choice((0.0, 0.0, tried.random.uniform(0, 3.0))))  # mostly at once
        second = sweeps.begun(name, f"{name}-second")
        codes = sweeps.ended(first), sweeps.ended(second)
        wrong = sweeps.wrong(tried.folder / name, begun_once=True)
        said = sweeps.said(f"{name}-first") + sweeps.said(f"{name}-second")
        _note(tried, name, f"ended with {codes}: {said}" if codes != (0, 0) or "Traceback" in said else wrong)


# row: (what is done, tries in the whole campaign)
SWEEP_ROWS = {
    "worker of a sweep killed": (worker_killed, 50),
    "parent of a sweep killed": (parent_killed, 50),
    "worker and parent of a sweep killed": (both_killed, 50),
    "two sweeps on one folder": (two_sweeps, 50),
}
