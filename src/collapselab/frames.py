"""Run directories as tidy pandas frames; finished, running and crashed runs read alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from collapselab.config import join_with_commas
from collapselab.errors import InputError
from collapselab.records import flatten
from collapselab.rundir import RunDir, read_json, read_lines
from collapselab.summary import read_summary

RUN_COLUMNS = ("run", "run_id", "model", "data", "seed", "lr", "status", "outcome", "onset_step", "total_collapse_step")
STEP_COLUMNS = ("run", "step")
_ABOUT_FILES = ("schema", "records.")  # of summary.json: checks of the files, nothing about the run
SAMPLE_COLUMNS = ("run", "step", "index", "role", "text", "token_ids")


@dataclass(frozen=True)
class Runs:
    """The frames of one or more runs, joined by the column `run`. Unknown values are NaN, NA or None.

    `runs`: a row a run: identity, every setting by its dotted name (`optim.lr` as `lr`), status, outcome.
    `steps`: a row a step: the names of steps.jsonl (docs/run-directory.md).
    `samples`: a row a sample: what it was for (`role`), its text, its ids.
    """

    runs: pd.DataFrame
    steps: pd.DataFrame
    samples: pd.DataFrame


def load_runs(folder: Path | str) -> Runs:
    """The frames of one run directory, or of all run directories below a folder.

    A run is named by its folder: the folder's own name, or its path below the one given.

    Raises:
        InputError: no such folder, no run in it, or a damaged file.
    """
    folder = Path(folder)
    named = {_name(path, folder): RunDir(path) for path in _find(folder)}
    if not named:
        reason = "no run directory lies here" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {reason}", "give a directory made by `collapselab run`, or a folder of them")
    rows = [_run_row(name, rundir) for name, rundir in named.items()]
    steps = [{"run": name, **line} for name, rundir in named.items() for line in read_lines(rundir.steps)]
    samples = [{"run": name, **line} for name, rundir in named.items() for line in read_lines(rundir.samples)]
    return Runs(_frame(rows, RUN_COLUMNS), _frame(steps, STEP_COLUMNS), _frame(samples, SAMPLE_COLUMNS))


def _find(folder: Path) -> list[Path]:
    """The folder itself if it is a run directory, else those below it, in order."""
    if RunDir(folder).holds_a_run():
        return [folder]
    return sorted(path.parent for path in folder.rglob("config.json") if RunDir(path.parent).holds_a_run())


def _name(path: Path, folder: Path) -> str:
    return path.resolve().name if path == folder else path.relative_to(folder).as_posix()


def _run_row(name: str, rundir: RunDir) -> dict[str, object]:
    identity = read_json(rundir.config)
    config = dict(flatten(identity["config"]))
    status = read_json(rundir.status) if rundir.status.exists() else {}
    summary = read_summary(rundir) if rundir.summary.exists() else {}
    row = {"run": name, "run_id": identity["run_id"], **config, "status": status.get("status")}
    row["data"], row["lr"] = join_with_commas(config["data"]), row.pop("optim.lr")
    return row | {key: value for key, value in flatten(summary) if key not in row and not key.startswith(_ABOUT_FILES)}


def _frame(rows: list[dict[str, Any]], first_columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame with these columns first; steps and verdicts keep their type where some are unknown."""
    others = dict.fromkeys(name for row in rows for name in row if name not in first_columns)
    names = [*first_columns, *others]
    # Settings have dotted names (optim.reset_each_step is no step).
    kinds = {name: "Int64" for name in names if name == "step" or (name.endswith("_step") and "." not in name)}
    kinds |= {"degenerate": "boolean"} if "degenerate" in others else {}
    return pd.DataFrame(rows, columns=pd.Index(names)).astype(kinds)
