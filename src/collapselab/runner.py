"""One run on disk: build, resume, iterate the loop, append its records, set the outcome."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from collapselab.checkpoint import BackgroundWriter, load_checkpoint
from collapselab.claim import check_claim, claim
from collapselab.config import RunConfig
from collapselab.environment import keep_engine, record_environment
from collapselab.errors import CollapselabError, Interrupted
from collapselab.interruptions import interruptions, sigterm_as_ctrl_c
from collapselab.loop import online_loop
from collapselab.measure import Metric
from collapselab.records import Record
from collapselab.rundir import FINISHED, RecordWriter, RunDir, Status, disk_errors, read_json, write_json
from collapselab.setup import Setup, build
from collapselab.summary import read_summary, summarise

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
        check_claim(rundir, config, resume=resume, fresh=fresh)
        finished = None if fresh else _finished(rundir)
        if finished is not None:
            return finished
        with sigterm_as_ctrl_c():
            if resume:
                _keep_threads(rundir, config)
            setup = build(
                keep_engine(rundir.env, config) if resume else config, data_dir
            )  # before anything is written: a mistake leaves no directory behind
        claim(rundir, config, setup.text_sha256, asked_for or {}, fresh=fresh)
        is_named = config.engine != "auto"
        record_environment(rundir.env, setup.engine_names, torch.get_num_threads(), is_named=is_named)
        try:
            return _carry_out(rundir, setup, metrics or {}, on_start, on_record)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            rundir.write_status("interrupted", None)
            raise
        except BaseException as error:
            _note_failure(rundir, error)
            raise


def _keep_threads(rundir: RunDir, config: RunConfig) -> None:
    """Goes on with as many threads as before: another number would change the last bits of sums."""
    if config.threads is None and rundir.holds_a_run() and rundir.env.exists():
        torch.set_num_threads(int(read_json(rundir.env)["threads"]))


def _finished(rundir: RunDir) -> RunResult | None:
    if not (rundir.status.exists() and rundir.summary.exists()):
        return None
    if read_json(rundir.status).get("status") not in FINISHED:
        return None
    return RunResult(rundir.path, read_summary(rundir))


def _carry_out(
    rundir: RunDir,
    setup: Setup,
    metrics: Mapping[str, Metric],
    on_start: Callable[[Setup, list[Record]], None] | None,
    on_record: Listener | None,
) -> RunResult:
    config, begun = setup.config, time.monotonic()
    records = rundir.read_records()
    step = load_checkpoint(rundir.checkpoints, setup.learner, setup.optimizer, config.run_id, len(records))
    history = records[:step]
    rundir.write_status("running", step)
    _log(rundir, f"begin at step {step}")
    writer = RecordWriter(rundir, keep=history)
    checkpoints = BackgroundWriter(
        rundir.checkpoints, setup.learner, setup.optimizer, config.run_id, setup.weights_in_use
    )
    saved = time.monotonic()
    try:
        if on_start is not None:
            on_start(setup, history)
        with interruptions() as interrupted, checkpoints:
            for record in online_loop(setup, history, metrics):
                checkpoints.wait()  # the update has waited already: this tells of a failure
                writer.append(record)
                rundir.write_status("running", record.step)
                if on_record is not None:
                    on_record(record)
                timed_out = config.stop.max_seconds is not None and time.monotonic() - begun > config.stop.max_seconds
                ends = record.values["stop"] is not None
                stopping = not ends and (interrupted.is_set() or timed_out)
                is_due = stopping or time.monotonic() - saved >= config.checkpoint_every_s
                if config.keep_checkpoints if ends else is_due:
                    writer.sync()
                    checkpoints.save(record.step + 1)
                    saved = time.monotonic()
                if stopping:
                    checkpoints.wait()
                    raise _interruption(rundir, record.step, timed_out)
    finally:
        writer.close()
    return _finish(rundir, setup)


def _finish(rundir: RunDir, setup: Setup) -> RunResult:
    records = rundir.read_records()
    model = setup.learner
    summary = summarise(records, setup.config, model.vocab_size, model.num_parameters, setup.protocols)
    write_json(rundir.summary, summary)
    if not setup.config.keep_checkpoints:
        shutil.rmtree(rundir.checkpoints, ignore_errors=True)
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
    with disk_errors(rundir.path), rundir.log.open("a", encoding="utf-8") as handle:
        handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
