"""What a run directory shows from outside, during the run and after it; reads only the ends of files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from collapselab.errors import InputError
from collapselab.files import hold, open_regular
from collapselab.records import loads
from collapselab.rundir.layout import RunDir
from collapselab.rundir.lease import Watch
from collapselab.rundir.migration import migrated
from collapselab.rundir.run_files import read_identity, read_status, read_summary

TAIL_BYTES = 32_768  # some 30 steps
LOSS = {"text", "first", "last"}  # shown for each text's losses in a summary


@dataclass(frozen=True)
class Glance:
    """A run at one moment. None: unknown, or not yet.

    `status` is that of status.json, `step` the last recorded step, `degenerate_share` and `loss_fate` that step's,
    `summary` that of a finished run, `seconds_per_step` the mean over the last steps, or over all of a finished run.
    """

    status: str | None = None
    step: int | None = None
    degenerate_share: float | None = None
    seconds_per_step: float | None = None
    summary: Mapping[str, Any] | None = None
    loss_fate: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.summary is not None


def glance(path: Path) -> Glance:
    """What the run directory shows now; of a directory without a run, nothing. What cannot be read is unknown.

    A run is finished once its summary is written, as for a run that is resumed.
    """
    rundir = RunDir(path)
    status = read_status(rundir)
    if (summary := _summary(rundir)) is not None:
        pace = sum(_number(value) or 0.0 for value in summary["seconds"].values()) / max(1, summary["num_steps"])
        return Glance("finished", summary["last_step"], _number(summary.get("degenerate_share")), pace, summary)
    steps = _last_steps(rundir.steps)
    last: Mapping[str, Any] = steps[-1] if steps else {}
    paced = steps[1:] if len(steps) > 1 and steps[0]["step"] == 0 else steps  # step 0 evaluates whole texts
    pace = sum(_seconds(step) for step in paced) / len(paced) if paced else None
    loss: Any = last.get("loss_fate")
    is_known = isinstance(loss, str)
    return Glance(
        status, last.get("step"), _number(last.get("degenerate_share")), pace, loss_fate=loss if is_known else None
    )


def holder(path: Path, watch: Watch | None = None) -> str | None:
    """Who is writing in the run directory; None: nobody. Only with `watch` are other machines' leases looked at."""
    rundir = RunDir(path)
    for file in (path / "lock", rundir.steps):  # records are locked too: somebody may have removed `lock`
        try:
            flags = os.O_RDWR if os.access(file, os.W_OK) else os.O_RDONLY
            with open(open_regular(file, flags), "rb") as handle:
                hold(handle.fileno())
        except BlockingIOError:
            return rundir.owner()
        except OSError:  # missing or unreadable: the error appears when the run is started
            continue
    owner = None if watch is None else watch.owner(path)
    return None if owner is None else owner.who


def _summary(rundir: RunDir) -> Mapping[str, Any] | None:
    """The summary of a finished run; None if it cannot be read, or is not that of this run."""
    try:
        summary = read_summary(rundir, read_identity(rundir)["run_id"])
    except InputError:
        return None
    if summary is None or any(summary.get(name) is None for name in ("last_step", "num_steps")):
        return None
    losses: Any = summary.get("losses")
    if not isinstance(summary.get("seconds"), dict) or not isinstance(losses, list) or not losses:
        return None
    is_complete = all(isinstance(loss, dict) and loss.keys() >= LOSS for loss in cast(list[Any], losses))
    return summary if is_complete else None


def _last_steps(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        return []
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - TAIL_BYTES))
            lines = handle.read().split(b"\n")
    except OSError:  # removed meanwhile
        return []
    whole = lines[1:-1] if size > TAIL_BYTES else lines[:-1]
    return [step for line in whole if (step := _step(line)) is not None]


def _step(line: bytes) -> Mapping[str, Any] | None:
    """The record of a line; None if it is damaged."""
    try:
        value: Any = loads(line.decode())
    except (ValueError, RecursionError):
        return None
    is_step = isinstance(value, dict) and isinstance(cast(dict[str, Any], value).get("step"), int)
    return migrated(cast(dict[str, Any], value)) if is_step else None


def _seconds(step: Mapping[str, Any]) -> float:
    return sum(_number(value) or 0.0 for name, value in step.items() if name.startswith("seconds_"))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
