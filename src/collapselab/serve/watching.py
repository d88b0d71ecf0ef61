"""What a folder of runs shows now, and what has changed since; files are only read, and only where they changed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapselab.collapse.words import FATES, MARKED_EVENTS
from collapselab.errors import CollapselabError
from collapselab.rundir.layout import RunDir
from collapselab.rundir.line_files import some_lines
from collapselab.rundir.run_files import read_identity, read_summary, run_directories

SPARK_POINTS = 40
SILENT_S = 120  # without news a run that says it is running is called silent; longer if its steps are slow
SILENT_STEPS = 10
DISCOVER_S = 5  # between two searches for new and removed runs
SPARKS = ("train_nll_nats", "seq_rep_4")
LAST = ("step", "train_nll_nats", "val_nll_nats", "seq_rep_4", "degenerate_share")

Row = dict[str, Any]
Signature = tuple[tuple[int, int] | None, ...]


class Watch:
    """The rows of all runs below a folder: `refresh` reads what changed, `since` says what changed after a version.

    One thread at a time may call `refresh`; the others may be called meanwhile, since whole dictionaries are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0
        self._rows: dict[str, Row] = {}
        self._versions: dict[str, int] = {}  # of the last change of each row, and of each removal
        self._signatures: dict[str, Signature] = {}
        self._places: dict[str, Path] = {}
        self._ids: dict[str, int] = {}
        self._next_search = 0.0

    def find(self, number: int) -> tuple[Path, Signature] | None:
        """The directory of the run with this `id`, and what changes whenever its files do; `None`: no such run.

        Runs are asked for by number, so no path is ever made of what a browser sent.
        """
        row = next((row for row in self._rows.values() if row["id"] == number), None)
        path = None if row is None else self._places.get(row["name"])
        return None if row is None or path is None else (path, self._signatures[row["name"]])

    def signature(self) -> int:
        """Changes whenever the files of any run do."""
        return self.version

    def refresh(self) -> bool:
        """Reads what has changed; whether anything has."""
        if time.monotonic() >= self._next_search:
            self._places = {self._name(path): path for path in run_directories(self.folder)}
            self._next_search = time.monotonic() + DISCOVER_S
        self._places = {name: path for name, path in self._places.items() if path.exists()}
        changed = {name: row for name, path in self._places.items() if (row := self._news(name, path)) is not None}
        removed = self._rows.keys() - self._places.keys()
        if not changed and not removed:
            return False
        self._rows = {name: row for name, row in (self._rows | changed).items() if name not in removed}
        self._versions = self._versions | dict.fromkeys([*changed, *removed], self.version + 1)
        self.version += 1
        return True

    def since(self, version: int) -> dict[str, Any]:
        """Rows that changed after a version, ids of runs that are gone since, and the version now. After 0: all."""
        rows, versions, now = self._rows, self._versions, self.version
        news = [name for name, changed in versions.items() if changed > version]
        return {
            "version": now,
            "rows": [rows[name] for name in news if name in rows],
            "removed": [self._ids[name] for name in news if name not in rows] if version else [],
        }

    def _name(self, path: Path) -> str:
        return path.resolve().name if path == self.folder else path.relative_to(self.folder).as_posix()

    def _news(self, name: str, path: Path) -> Row | None:
        """The row of a run if its files or its silence have changed."""
        rundir = RunDir(path)
        signature: Signature = tuple(map(_stamp, (rundir.config, rundir.steps, rundir.status, rundir.summary)))
        row = self._rows.get(name)
        if row is not None and signature == self._signatures.get(name) and row["status"] == _status(row):
            return None
        self._signatures[name] = signature
        number = self._ids.setdefault(name, len(self._ids))
        row = read_row(rundir)
        row["damage"] = row["damage"] and row["damage"].replace(str(self.folder), "…")
        return row | {"id": number, "name": name, "status": _status(row)}


def read_row(rundir: RunDir) -> Row:
    """What is shown of a run in the list. What cannot be read is unknown; `damage` says what is wrong."""
    row: Row = {"damage": None, **dict.fromkeys(("model", "lr", "seed", "status", "fate", *LAST, *MARKED_EVENTS))}
    row |= {"steps": [], "sparks": {}, "heartbeat": 0.0, "seconds_per_step": 0.0}
    try:
        identity = read_identity(rundir)
        config, summary = identity["config"], read_summary(rundir, identity["run_id"]) or {}
        row |= {"model": config["model"], "lr": config["optim"]["lr"], "seed": config["seed"]}
        lines = some_lines(rundir.steps, SPARK_POINTS) if rundir.steps.exists() else []
    except (CollapselabError, OSError, KeyError, TypeError, ValueError) as error:
        return row | {"damage": error.message if isinstance(error, CollapselabError) else "its files cannot be read"}
    status = rundir.read_status()
    last: Mapping[str, Any] = lines[-1] if lines else {}
    row |= {name: number(last.get(name)) for name in LAST}
    losses = (number(line.get("val_nll_nats")) for line in reversed(lines))
    row["val_nll_nats"] = next((loss for loss in losses if loss is not None), None)
    row["steps"] = [number(line.get("step")) for line in lines]
    row["sparks"] = {name: [number(line.get(name)) for line in lines] for name in SPARKS}
    row |= {
        "status": "finished" if summary else status.get("status"),
        "heartbeat": number(status.get("heartbeat")) or 0.0,
    }
    row["seconds_per_step"] = sum(number(value) or 0.0 for name, value in last.items() if name.startswith("seconds_"))
    fate = summary.get("fate") if summary else last.get("loss_fate")
    row["fate"] = FATES[fate].label if isinstance(fate, str) and fate in FATES else None
    return row | {name: number(summary.get(name)) for name in MARKED_EVENTS}


def number(value: object) -> int | float | None:
    """A recorded number that can be drawn: finite, and not a truth value; `None` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def _status(row: Row) -> str | None:
    """The status of a run now: one that runs and has given no news for long is silent, perhaps killed."""
    if row["status"] not in ("running", "silent"):
        return row["status"]
    patience = max(SILENT_S, SILENT_STEPS * row["seconds_per_step"])
    return "silent" if time.time() - row["heartbeat"] > patience else "running"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
