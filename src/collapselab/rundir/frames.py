"""Run directories as tidy pandas frames; finished, running and crashed runs read alike, damaged ones are left out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from collapselab.config.base import join_with_commas
from collapselab.config.identity import flat_settings
from collapselab.config.safeguards import shown
from collapselab.errors import InputError
from collapselab.records import flatten
from collapselab.rundir.layout import RunDir
from collapselab.rundir.parquet import check_pyarrow, read_frame, write_frame
from collapselab.rundir.run_files import RunFiles, read_run, run_directories
from collapselab.visible import html_table

_IDENTITY = ("run", "run_id", "model", "data", "seed", "lr")
RUN_COLUMNS = (*_IDENTITY, "status", "ended_by", "fate", "onset_step", "total_collapse_step")
STEP_COLUMNS = ("run", "step")
_ABOUT_FILES = ("schema", "records.")  # entries of summary.json that check files and say nothing about the run
SAMPLE_COLUMNS = ("run", "step", "index", "role", "text", "token_ids")
ENVIRONMENT = "env."
SHOWN_RUNS = 30


@dataclass(frozen=True)
class Damage:
    """What is wrong with the files of a run, and whether the run is left out for it."""

    run: str
    message: str
    is_left_out: bool


@dataclass(frozen=True, repr=False)
class Runs:
    """The frames of one or more runs, joined by the column `run`. Unknown values are NaN, NA or None.

    `runs`: one row per run: identity, every setting by its dotted name (`optim.lr` as `lr`), what env.json says
    (`env.python`), status, outcome.
    `steps`: one row per step: the names of steps.jsonl (docs/run-directory.md).
    `samples`: one row per sample: its purpose (`role`), its text, its ids and, if recorded, their ends in the text.
    `damages`: what was wrong with the files; damaged runs are in none of the frames.
    """

    runs: pd.DataFrame
    steps: pd.DataFrame
    samples: pd.DataFrame
    damages: tuple[Damage, ...] = ()

    @property
    def num_left_out(self) -> int:
        return sum(damage.is_left_out for damage in self.damages)

    def __repr__(self) -> str:
        counts = {name: len(frame) for name, frame in self._frames().items()}
        words = ", ".join(f"{count:,} {name if count != 1 else name[:-1]}" for name, count in counts.items())
        return f"Runs({words}{f', {self.num_left_out} left out' if self.num_left_out else ''})"

    def _repr_html_(self) -> str:
        names = [name for name in RUN_COLUMNS if name in self.runs]
        shown = cast(Any, self.runs[names])
        rows: list[list[object]] = shown.head(SHOWN_RUNS).to_numpy(dtype=object).tolist()
        return f"<p>{self!r}</p>{html_table([names, *rows])}"

    def _frames(self) -> dict[str, pd.DataFrame]:
        return {"runs": self.runs, "steps": self.steps, "samples": self.samples}

    def to_parquet(self, folder: Path | str) -> list[Path]:
        """Writes runs.parquet, steps.parquet and samples.parquet into a folder; returns their paths.

        `from_parquet` reads them, equal in every value. What was damaged is not written.

        Raises:
            InputError: pyarrow is missing.
        """
        check_pyarrow()
        paths = _parquet_files(folder)
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, frame in zip(paths, self._frames().values(), strict=True):
            write_frame(frame, path)
        return paths

    @classmethod
    def from_parquet(cls, folder: Path | str) -> Runs:
        """The frames that `to_parquet` wrote into a folder.

        Raises:
            InputError: pyarrow or a file is missing, or a file holds no frame.
        """
        check_pyarrow()
        runs, steps, samples = map(read_frame, _parquet_files(folder))
        return cls(runs, steps, samples)


def _parquet_files(folder: Path | str) -> list[Path]:
    return [Path(folder) / f"{name}.parquet" for name in ("runs", "steps", "samples")]


def load_runs(folder: Path | str) -> Runs:
    """The frames of one run directory, or of all run directories below a folder.

    A run is named by its folder: the folder's own name, or its path below the one given. Damaged runs are left out,
    with a warning for each; `Runs.damages` has them too.

    Raises:
        InputError: no such folder, no run in it, or every run is damaged.
    """
    runs = check_any_left(read_runs(folder))
    for damage in runs.damages:
        warnings.warn(damage.message + (": the run is left out" if damage.is_left_out else ""), stacklevel=2)
    return runs


def read_runs(folder: Path | str) -> Runs:
    """`load_runs` without warnings, and with empty frames where all runs are damaged.

    Raises:
        InputError: no such folder, or no run in it.
    """
    folder = Path(folder)
    read: dict[str, RunFiles] = {}
    damages: list[Damage] = []
    for path in run_directories(folder):
        name = path.resolve().name if path == folder else path.relative_to(folder).as_posix()
        try:
            read[name] = read_run(RunDir(path))
        except InputError as error:
            if path.exists():  # otherwise it was removed meanwhile
                damages.append(Damage(name, error.message, is_left_out=True))
            continue
        damages += [Damage(name, note, is_left_out=False) for note in read[name].notes]
    if not read and not damages:
        reason = "no run directory here" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {reason}", "give a directory made by `collapselab run`, or a folder of them")
    rows = [_run_row(name, files) for name, files in read.items()]
    steps = _named((name, files.steps) for name, files in read.items())
    samples = _named((name, files.samples) for name, files in read.items())
    frames = (_frame(rows, RUN_COLUMNS), _frame(steps, STEP_COLUMNS), _frame(samples, SAMPLE_COLUMNS))
    return Runs(*frames, tuple(damages))


def check_any_left(runs: Runs) -> Runs:
    """The same runs.

    Raises:
        InputError: all of them are damaged.
    """
    if len(runs.runs) or not runs.damages:
        return runs
    first, *others = [damage.message for damage in runs.damages if damage.is_left_out]
    more = f" (and {len(others)} further runs are damaged)" if others else ""
    raise InputError(first + more, "restore the files, or repeat the run with `fresh=True`")


def _named(lines: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    return [{**line, "run": name} for name, of_run in lines for line in of_run]


def _run_row(name: str, files: RunFiles) -> dict[str, object]:
    config = flat_settings(files.identity["config"])
    row = {"run": name, "run_id": files.identity["run_id"], **config, "status": files.status}
    row["safeguards"] = shown(config["safeguards"])
    row["data"], row["lr"] = join_with_commas(config["data"]), row.pop("optim.lr")
    row |= {ENVIRONMENT + key: value for key, value in flatten(files.environment) if key != "schema"}
    return row | {k: v for k, v in flatten(files.summary) if k not in row and not k.startswith(_ABOUT_FILES)}


def _frame(rows: list[dict[str, Any]], first_columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame with these columns first; steps and verdicts keep their type where some are unknown."""
    others = dict.fromkeys(name for row in rows for name in row if name not in first_columns)
    names = [*first_columns, *others]
    # Settings have dotted names (optim.reset_each_step is no step).
    kinds = {name: "Int64" for name in names if name == "step" or (name.endswith("_step") and "." not in name)}
    kinds |= {"degenerate": "boolean"} if "degenerate" in others else {}
    return pd.DataFrame(rows, columns=pd.Index(names)).astype(kinds)
