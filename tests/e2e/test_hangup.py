"""The terminal of a sweep is closed: every run writes a checkpoint and ends."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import time
from collections.abc import Callable
from pathlib import Path

from collapselab.errors import EXIT_INTERRUPTED
from collapselab.rundir.layout import read_json, read_lines

SWEEP = """
preset = "demo"
model = "builtin:nano"
threads = 1
generate.max_new_tokens = 16
eval.protocol = "windows[20,2]"
eval.full_every = 0
stop.on_collapse = false
stop.on_divergence = false
stop.max_steps = 100000
[sweep.grid]
seed = [0, 1]
"""
TIMEOUT_S = 120.0


def wait_for(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_closed_terminal_interrupts_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(SWEEP)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "collapselab", "sweep", str(tmp_path / "sweep.toml"), "--out", str(out)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], [*command, "--workers", "1"])
    os.set_blocking(terminal, False)
    steps = out / "seed-0" / "steps.jsonl"

    def has_begun() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 65536)  # a full terminal would stop it
        return len(read_lines(steps)) >= 2

    wait_for("two steps", has_begun)
    os.close(terminal)
    ended: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        ended.extend([os.waitstatus_to_exitcode(status)] if found else [])
        return bool(ended)

    wait_for("the sweep's end", has_ended)
    assert ended == [EXIT_INTERRUPTED]
    assert read_json(out / "seed-0" / "status.json")["status"] == "interrupted"
    [checkpoint] = (out / "seed-0" / "checkpoint").iterdir()
    assert int(checkpoint.name) == len(read_lines(steps))
    assert not (out / "seed-1").exists(), "no further run begins"
