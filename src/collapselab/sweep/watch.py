"""What a run directory shows from outside, while the run goes on and after it has ended; reads the files' ends only."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapselab.records import loads
from collapselab.rundir import FINISHED, RunDir, read_json
from collapselab.summary import read_summary

TAIL_BYTES = 32_768  # some 30 steps


@dataclass(frozen=True)
class Glance:
    """A run at one moment. None: unknown, or not yet.

    `status` is that of status.json, `step` the last recorded step, `degenerate_share` and `loss_state` that step's,
    `summary` that of a finished run, `seconds_per_step` the mean over the last steps, or over all of a finished run.
    """

    status: str | None = None
    step: int | None = None
    degenerate_share: float | None = None
    seconds_per_step: float | None = None
    summary: Mapping[str, Any] | None = None
    loss_state: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.summary is not None


def glance(path: Path) -> Glance:
    """What the run directory shows now; of a directory without a run, nothing."""
    rundir = RunDir(path)
    status: str | None = read_json(rundir.status)["status"] if rundir.status.exists() else None
    steps = _last_steps(rundir.steps)
    last = steps[-1] if steps else {}
    if status in FINISHED and rundir.summary.exists():
        summary = read_summary(rundir)
        pace = sum(summary["seconds"].values()) / summary["num_steps"]
        return Glance(status, summary["last_step"], summary["degenerate_share"], pace, summary)
    pace = sum(_seconds(step) for step in steps) / len(steps) if steps else None
    return Glance(status, last.get("step"), last.get("degenerate_share"), pace, loss_state=last.get("loss_state"))


def holder(path: Path) -> str | None:
    """Who writes in the run directory at the moment; None: nobody."""
    rundir = RunDir(path)
    try:
        with (path / "lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        owner = read_json(rundir.status) if rundir.status.exists() else {}
        return f"process {owner['pid']} on {owner['host']}" if owner else "another process"


def _last_steps(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open("rb") as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - TAIL_BYTES))
        lines = handle.read().split(b"\n")
    whole = lines[1:-1] if size > TAIL_BYTES else lines[:-1]
    return [loads(line.decode()) for line in whole]


def _seconds(step: Mapping[str, Any]) -> float:
    return sum(value or 0.0 for name, value in step.items() if name.startswith("seconds_"))
