"""One run on disk: build, resume, iterate the loop, append its records, set the outcome."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import cast

import torch

from collapselab.checkpoint import load_checkpoint, save_checkpoint
from collapselab.config import RunConfig
from collapselab.environment import environment
from collapselab.errors import CollapselabError, InputError, Interrupted
from collapselab.loop import online_loop
from collapselab.measure import Metric
from collapselab.records import SCHEMA_VERSION, Record
from collapselab.rundir import FINISHED, RecordWriter, RunDir, Status, read_json, write_json
from collapselab.setup import Setup, build
from collapselab.summary import summarise

Listener = Callable[[Record], None]


@dataclass(frozen=True)
class RunResult:
    """A finished run: its directory and what summary.json says."""

    path: Path
    summary: Mapping[str, object]


def run(
    config: RunConfig,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    fresh: bool = False,
    data_dir: Path | None = None,
    metrics: Mapping[str, Metric] | None = None,
    asked_for: Mapping[str, object] | None = None,
    on_start: Callable[[Setup, list[Record]], None] | None = None,
    on_record: Listener | None = None,
) -> RunResult:
    """Carries out one run and leaves its directory behind.

    Args:
        config: the run.
        out: its directory; by default `runs/<run id>`.
        resume: go on where an interrupted run stopped, bit for bit; a new run where there is none.
        fresh: remove a former run in that directory first.
        data_dir: where texts lie or are downloaded to.
        metrics: further metrics on the ids of each sample, by name; they appear in steps.jsonl.
        asked_for: what the user asked for, kept as user.json.
        on_start: called once with the setup and the records so far, before the first step.
        on_record: called with each record after it was written.

    Raises:
        InputError: the configuration cannot work, or the directory holds another run or is in use.
        Interrupted: Ctrl-C, SIGTERM or the wall time; a checkpoint was written.
        RunFailed: the disk is full, say.
    """
    rundir = RunDir(Path(out) if out is not None else Path("runs") / config.run_id)
    with rundir.lock():
        _claim(rundir, config, resume, fresh, asked_for)
        finished = _finished(rundir)
        if finished is not None:
            return finished
        # Records of a run resumed from step 0 are made anew, so nothing of them is needed here.
        try:
            setup = build(config, data_dir)
            write_json(rundir.env, {"schema": SCHEMA_VERSION, **environment(torch.get_num_threads())})
            return _carry_out(rundir, setup, metrics or {}, on_start, on_record)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            rundir.write_status("interrupted", None)
            raise
        except BaseException as error:
            _note_failure(rundir, error)
            raise


def _claim(
    rundir: RunDir, config: RunConfig, resume: bool, fresh: bool, asked_for: Mapping[str, object] | None
) -> None:
    """Makes the directory this run's, or refuses."""
    if rundir.holds_a_run() and not fresh:
        _check_same_run(rundir, config)
        if not resume:
            raise InputError(
                f"{rundir.path} already holds this run",
                "--resume goes on with it (or shows it, if it is finished); --fresh removes it and begins anew",
            )
        return
    foreign = [p.name for p in rundir.path.iterdir() if p.name != "lock"]
    if rundir.holds_a_run():
        _remove_run(rundir)
    elif foreign:
        raise InputError(
            f"{rundir.path} is not empty and holds no run: {', '.join(sorted(foreign)[:3])}",
            "choose a new directory with --out",
        )
    write_json(rundir.user, {"schema": SCHEMA_VERSION, "asked_for": dict(asked_for or {})})
    write_json(
        rundir.config,
        {"schema": SCHEMA_VERSION, "run_id": config.run_id, "config": config.model_dump(mode="json")},
    )


def _check_same_run(rundir: RunDir, config: RunConfig) -> None:
    there = read_json(rundir.config)
    if there.get("run_id") == config.run_id:
        return
    raise InputError(
        f"{rundir.path} holds another configuration: {_difference(there.get('config', {}), config)}",
        "choose another directory with --out, repeat that run's settings, or --fresh to remove it",
    )


def _difference(there: object, config: RunConfig) -> str:
    """The first settings in which two configurations differ."""
    old, new = dict(_leaves(there)), dict(_leaves(config.model_dump(mode="json")))
    names = [name for name in new if old.get(name) != new[name]]
    return (
        "; ".join(f"{name} is {old.get(name)!r} there, {new[name]!r} here" for name in names[:3]) or "another version"
    )


def _leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(tree, Mapping):
        for key, value in cast(Mapping[str, object], tree).items():
            yield from _leaves(value, f"{prefix}{key}." if isinstance(value, Mapping) else f"{prefix}{key}")
    else:
        yield prefix, tree


def _remove_run(rundir: RunDir) -> None:
    """Removes the files of a run, and nothing else that may lie beside them."""
    for path in (rundir.steps, rundir.samples, rundir.summary, rundir.status, rundir.log, rundir.env, rundir.user):
        path.unlink(missing_ok=True)
    for picture in ("loss.svg", "loss.png"):
        (rundir.path / picture).unlink(missing_ok=True)
    shutil.rmtree(rundir.checkpoints, ignore_errors=True)
    rundir.config.unlink()


def _finished(rundir: RunDir) -> RunResult | None:
    if not (rundir.status.exists() and rundir.summary.exists()):
        return None
    if read_json(rundir.status)["status"] not in FINISHED:
        return None
    return RunResult(rundir.path, read_json(rundir.summary))


def _carry_out(
    rundir: RunDir,
    setup: Setup,
    metrics: Mapping[str, Metric],
    on_start: Callable[[Setup, list[Record]], None] | None,
    on_record: Listener | None,
) -> RunResult:
    config, begun = setup.config, time.monotonic()
    step = load_checkpoint(rundir.checkpoints, setup.learner, setup.optimizer, config.run_id)
    history = rundir.read_records()[:step]
    assert len(history) == step, f"checkpoint is at step {step}, records end at {len(history)}"
    writer = RecordWriter(rundir, keep=history)
    rundir.write_status("running", step)
    _log(rundir, f"begin at step {step}")
    if on_start is not None:
        on_start(setup, history)
    saved = time.monotonic()
    try:
        with interruptions() as interrupted:
            for record in online_loop(setup, history, metrics):
                writer.append(record)
                rundir.write_status("running", record.step)
                if on_record is not None:
                    on_record(record)
                timed_out = config.stop.max_seconds is not None and time.monotonic() - begun > config.stop.max_seconds
                ends = record.values["stop"] is not None
                stopping = not ends and (interrupted.is_set() or timed_out)
                if ends or stopping or time.monotonic() - saved >= config.checkpoint_every_s:
                    writer.sync()
                    save_checkpoint(rundir.checkpoints, setup.learner, setup.optimizer, record.step + 1, config.run_id)
                    saved = time.monotonic()
                if stopping:
                    raise _interruption(rundir, record.step, timed_out)
    finally:
        writer.close()
    return _finish(rundir, setup)


def _finish(rundir: RunDir, setup: Setup) -> RunResult:
    records = rundir.read_records()
    summary = summarise(records, setup.config, setup.learner.vocab_size, setup.protocols)
    write_json(rundir.summary, summary)
    status: Status = summary["outcome"]
    rundir.write_status(status, records[-1].step)
    _log(rundir, f"end at step {records[-1].step}: {status}")
    return RunResult(rundir.path, summary)


def _interruption(rundir: RunDir, step: int, timed_out: bool) -> Interrupted:
    rundir.write_status("interrupted", step)
    reason = "wall time reached" if timed_out else "interrupted"
    _log(rundir, f"{reason} after step {step}")
    return Interrupted(f"{reason} after step {step}; everything is kept in {rundir.path}", "--resume goes on from here")


def _note_failure(rundir: RunDir, error: BaseException) -> None:
    """Keeps the cause; on a full disk even this may fail, and the cause itself matters more."""
    message = str(error) or type(error).__name__
    try:
        rundir.write_status("failed", None, message)
        _log(rundir, f"failed: {message}")
    except (CollapselabError, OSError):
        pass


def _log(rundir: RunDir, message: str) -> None:
    with rundir.log.open("a", encoding="utf-8") as handle:
        handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")


@contextmanager
def interruptions() -> Generator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C raises `KeyboardInterrupt` at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
