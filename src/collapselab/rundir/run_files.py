"""Reads the files of one run and compares them with each other, so that damage is reported and not plotted."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from collapselab.collapse.numbers import entry
from collapselab.collapse.words import ENDED_BY, FATES
from collapselab.config.identity import identity
from collapselab.errors import InputError
from collapselab.records import are_token_ends
from collapselab.rundir.judged_again import up_to_date
from collapselab.rundir.layout import RunDir, read_json, read_lines
from collapselab.rundir.record_writer import check_extents

Line = dict[str, Any]

MARKS_OF_A_RUN = ("steps.jsonl", "status.json")  # a saved model has a config.json too, but none of these
SAME_LOSS = 1e-5  # relative; the records of results/ are packed with six digits
_STEPS = ("onset_step", "total_collapse_step", "last_step", "num_steps")
_WORDS = ("name", "list of names")  # units of entries that are not numbers


@dataclass(frozen=True)
class RunFiles:
    """The content of the files of one run. `notes`: what could not be read; nothing else depends on it."""

    identity: Line
    status: str | None
    summary: Line
    environment: Line
    steps: list[Line]
    samples: list[Line]
    notes: tuple[str, ...]


def run_directories(folder: Path) -> Iterator[Path]:
    """The folder itself if it is a run directory, otherwise those below it, in order; damaged ones too."""
    if _is_run(folder):
        yield folder
        return
    for path, folders, _ in os.walk(folder):  # skips folders that are removed meanwhile
        folders.sort()
        if path != str(folder) and _is_run(Path(path)):
            folders.clear()
            yield Path(path)


def read_run(rundir: RunDir) -> RunFiles:
    """The files of a run, finished or not.

    Raises:
        InputError: a file is damaged, or of another run than the others.
    """
    content = read_identity(rundir)
    notes: list[str] = []
    status, environment = read_status(rundir), Line()
    if status is None and os.path.lexists(rundir.status):
        notes.append(f"{rundir.status}: cannot be read, so the run's status is unknown")
    if os.path.lexists(rundir.env):
        try:
            environment = read_json(rundir.env)
        except InputError as error:
            notes.append(f"{error.message}; its versions and machine are unknown")
    summary = read_summary(rundir, content["run_id"]) or {}
    steps, samples = _read_steps(rundir), _read_samples(rundir)
    if summary:
        _check_end(rundir, steps, summary)
    return RunFiles(content, status, summary, environment, steps, samples, tuple(notes))


def check_run(rundir: RunDir) -> None:
    """Checks the files that decide whether a run is finished and how it resumes.

    Raises:
        InputError: a file is damaged, or of another run than the others.
    """
    summary = read_summary(rundir, read_identity(rundir)["run_id"])
    steps = _read_steps(rundir)
    if summary:
        _check_end(rundir, steps, summary)


def is_damaged_run(path: Path) -> bool:
    """Whether there was a run here whose configuration cannot be read."""
    return not RunDir(path).holds_a_run() and any(os.path.lexists(path / name) for name in MARKS_OF_A_RUN)


def read_identity(rundir: RunDir) -> Line:
    """What config.json says: `run_id`, `config`, `text_sha256`.

    Raises:
        InputError: it cannot be read, belongs to no run, or its settings do not match its run id.
    """
    content = read_json(rundir.config)
    config: Any = content.get("config")
    if not (isinstance(content.get("run_id"), str) and isinstance(config, dict) and _has_basics(cast(Line, config))):
        raise _damaged(rundir.config, "holds no settings of a run")
    expected = identity(cast(Line, config))
    if content["run_id"] != expected:
        raise _damaged(
            rundir.config, f"its settings are not those of run {content['run_id']}: they would be run {expected}"
        )
    return content


def read_status(rundir: RunDir) -> str | None:
    """The status of a run; None: there is none, or it cannot be read."""
    return rundir.read_status().get("status")


def read_summary(rundir: RunDir, run_id: str) -> Line | None:
    """What summary.json says; None while there is none.

    Raises:
        InputError: it cannot be read, is no summary, or is that of another run.
    """
    if not os.path.lexists(rundir.summary):
        return None
    summary = read_json(rundir.summary)
    is_known = summary.get("ended_by") in ENDED_BY and summary.get("fate") in FATES
    if not is_known or any(not _is_step(summary.get(name)) for name in _STEPS):
        raise _damaged(rundir.summary, "is no summary of a run")
    if summary.get("run_id", run_id) != run_id:
        raise _damaged(rundir.summary, f"belongs to run {summary['run_id']}, config.json to run {run_id}")
    return up_to_date(rundir, summary)


def _is_run(path: Path) -> bool:
    return RunDir(path).holds_a_run() or is_damaged_run(path)


def _read_steps(rundir: RunDir) -> list[Line]:
    before = -1
    steps = read_lines(rundir.steps)
    for number, line in enumerate(steps, 1):
        step: Any = line.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or not _are_values(line):
            raise _damaged(rundir.steps, "is no record of a step", number)
        if step <= before:
            raise _damaged(rundir.steps, f"step {step} follows step {before}", number)
        before = step
    return steps


def _read_samples(rundir: RunDir) -> list[Line]:
    samples = read_lines(rundir.samples)
    for number, line in enumerate(samples, 1):
        if not _is_sample(line):
            raise _damaged(rundir.samples, "is no sample", number)
    return samples


def _check_end(rundir: RunDir, steps: Sequence[Line], summary: Mapping[str, Any]) -> None:
    """A finished run has the records that its summary was made from.

    If it has no checksums of them (packed records, or an older version), compares their number and the losses.
    """
    if isinstance(summary.get("records"), dict):
        check_extents(rundir, summary["records"])
        return
    recorded = summary.get("num_steps", len(steps))
    if not steps or len(steps) != recorded:
        raise _damaged(rundir.steps, f"has {len(steps)} steps, summary.json says {recorded or 'some'}")
    last_step = steps[-1]["step"]
    if last_step != summary.get("last_step", last_step):
        raise _damaged(rundir.steps, f"ends at step {last_step}, summary.json says {summary['last_step']}")
    for end, name in ((0, "train_nll_first"), (-1, "train_nll_last")):
        said, found = summary.get(name), steps[end].get("train_nll_nats")
        if name in summary and not _is_same(said, found):
            raise _damaged(
                rundir.steps, f"training loss {found} at step {steps[end]['step']}, summary.json says {said}"
            )


def _damaged(path: Path, what: str, line: int | None = None) -> InputError:
    place = "" if line is None else f", line {line}"
    return InputError(f"{path}{place}: {what}", "the file was damaged, or copied while it was being written")


def _has_basics(config: Line) -> bool:
    """Whether it has what every frame of runs needs; the rest follows from the run id."""
    data, optimizer, stop = config.get("data"), config.get("optim"), config.get("stop")
    is_named = isinstance(data, list) and all(isinstance(name, str) for name in cast(list[object], data))
    return is_named and isinstance(stop, dict) and isinstance(optimizer, dict) and "lr" in optimizer


def _are_values(line: Line) -> bool:
    return all(_is_value(name, value) for name, value in line.items())


def _is_value(name: str, value: object) -> bool:
    known = entry(name)
    if known is not None and known.unit not in _WORDS:
        return value is None or isinstance(value, (int, float))
    if isinstance(value, list):
        return all(isinstance(item, str) for item in cast(list[object], value))
    return value is None or isinstance(value, (int, float, str))


def _is_sample(line: Line) -> bool:
    ids = line.get("token_ids")
    return (
        isinstance(line.get("step"), int)
        and isinstance(line.get("text"), str)
        and isinstance(line.get("role"), str)
        and isinstance(ids, list)
        and all(isinstance(token, int) for token in cast(list[object], ids))
        and are_token_ends(line.get("token_ends"), line["text"], cast(list[int], ids))
    )


def _is_step(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_same(said: object, found: object) -> bool:
    if not isinstance(said, (int, float)) or not isinstance(found, (int, float)):
        return said == found
    return math.isclose(said, found, rel_tol=SAME_LOSS) or (math.isnan(said) and math.isnan(found))
