"""One run on disk: build, resume, iterate the loop, append its records, set the outcome."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from collapselab import ranks
from collapselab.collapse.summary import summarise
from collapselab.config.schema import RunConfig
from collapselab.errors import CollapselabError, InputError, Interrupted, RunFailed
from collapselab.files import open_regular
from collapselab.interruptions import interruptions, sigterm_as_ctrl_c
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.rundir.checkpoint import BackgroundWriter, load_checkpoint
from collapselab.rundir.claim import check_claim, claim, damaged_copy, remove_checkpoints
from collapselab.rundir.environment import keep_engine, record_environment
from collapselab.rundir.judged_again import up_to_date
from collapselab.rundir.layout import RunDir, UnknownSchema, Vanished, disk_errors, read_json, write_json
from collapselab.rundir.lease import Lease, Superseded
from collapselab.rundir.record_writer import RecordWriter, check_extents
from collapselab.safeguards import Safeguard, made
from collapselab.step.measure import Metric
from collapselab.step.parts import Parts, build, take
from collapselab.step.shards import check_divisible, follow
from collapselab.visible import html_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The experiment of each `loop.kind`.
LOOPS = {"online": online_loop}
Listener = Callable[[Record], None]
_notices = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class RunResult:
    """A finished run: its directory and what summary.json says."""

    path: Path
    summary: Mapping[str, object]

    def _in_short(self) -> dict[str, object]:
        names = ("ended_by", "last_step", "onset_step", "total_collapse_step")
        return {name: self.summary[name] for name in names if self.summary.get(name) is not None}

    def __repr__(self) -> str:
        known = ", ".join(f"{name} {value}" for name, value in self._in_short().items())
        return f"RunResult({str(self.path)!r}: {known})"

    def _repr_html_(self) -> str:
        return html_table([("run", self.path), *self._in_short().items()])


def run(
    config: RunConfig,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    fresh: bool = False,
    data_dir: Path | None = None,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    metrics: Mapping[str, Metric] | None = None,
    safeguards: Sequence[Safeguard] = (),
    asked_for: Mapping[str, object] | None = None,
    on_start: Callable[[Parts, list[Record]], None] | None = None,
    on_record: Listener | None = None,
) -> RunResult:
    """Executes one run and writes its directory.

    Args:
        config: the run.
        out: its directory; by default `runs/<run id>`.
        resume: continue an interrupted run where it stopped, bit for bit; start a new run if there is none.
        fresh: first remove an earlier run in that directory.
        data_dir: where texts are, or are downloaded to.
        model: an object to train a copy of, in place of `config.model`. Its name in the records has a hash of its
            weights, so a run is resumed only with the object it began with.
        tokenizer: of that object.
        metrics: further metrics on the ids of each sample, by name; they appear in steps.jsonl.
        safeguards: what acts on text, objective and weights (`safeguards.Safeguard`), in this order, after those of the
            configuration.
        asked_for: what the user asked for, kept as user.json.
        on_start: called once with the parts of the run and the records so far, before the first step.
        on_record: called with each record after it was written.

    Raises:
        InputError: the configuration cannot work, or the directory holds another run or is in use.
        Interrupted: Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 or the wall time; a checkpoint was written.
        RunFailed: for example, the disk is full or the directory was removed.
    """
    if ranks.launched() > 1:
        check_divisible(config, has_own_objects=model is not None or bool(safeguards))
    if ranks.is_follower():
        return RunResult(Path(out or Path("runs") / config.run_id), follow(config))
    loaded = None if model is None else take(model, tokenizer, config)
    if loaded is not None:
        config = config.model_copy(update={"model": loaded.name})
    rundir = RunDir(Path(out) if out is not None else Path("runs") / config.run_id)
    check_claim(
        rundir, config, resume=resume, fresh=fresh
    )  # before anything is written to a directory that may be refused
    with rundir.lock() as lease, ranks.leading(config.device):
        check_claim(rundir, config, resume=resume, fresh=fresh)
        finished, damage = (None, None) if fresh else _finished(rundir, config)
        if finished is not None:
            return finished
        with sigterm_as_ctrl_c():
            if resume:
                _keep_threads(rundir, config)
            # Before anything is written: a mistake leaves no directory behind.
            parts = build(keep_engine(rundir.env, config) if resume else config, data_dir, model=loaded)
        claim(rundir, config, parts.text_sha256, asked_for or {}, fresh=fresh)
        is_named = config.engine != "auto"
        engines, threads = parts.learner.engine_names, torch.get_num_threads()
        record_environment(rundir.env, engines, threads, is_named=is_named, check=lease.check)
        try:
            guards = [*made(parts), *safeguards]
            return _carry_out(rundir, lease, parts, damage, metrics or {}, guards, on_start, on_record)
        except (Interrupted, Vanished, Superseded):
            raise
        except KeyboardInterrupt:
            rundir.write_status("interrupted", None)
            raise
        except BaseException as error:
            lease.check()  # a former owner fails because its successor has renamed its files
            _note_failure(rundir, error)
            raise


def _keep_threads(rundir: RunDir, config: RunConfig) -> None:
    """Keeps the number of threads: another number would change the last bits of sums."""
    if config.threads is not None or not rundir.steps.exists():
        return
    try:
        torch.set_num_threads(int(read_json(rundir.env)["threads"]))
    except (InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, UnknownSchema):
            raise
        _warn(rundir, f"{rundir.env} does not say how many threads the run began with: the last bits may differ")


def _finished(rundir: RunDir, config: RunConfig) -> tuple[RunResult | None, str | None]:
    """The result of a finished run whose records still match its summary; otherwise what is damaged, if anything."""
    if not rundir.summary.exists():
        return None, None
    try:
        summary = read_json(rundir.summary)
        _check_summary(rundir, config, summary)
        summary = up_to_date(rundir, summary)
    except UnknownSchema:
        raise
    except InputError as error:
        return None, error.message
    _settle(rundir, config, summary)  # it may have been killed before that
    return RunResult(rundir.path, summary), None


def _check_summary(rundir: RunDir, config: RunConfig, summary: Mapping[str, Any]) -> None:
    if summary.get("run_id") != config.run_id:
        raise InputError(f"{rundir.summary} belongs to run {summary.get('run_id')!r}, this is run {config.run_id}")
    extents = summary.get("records")
    if isinstance(extents, dict):
        check_extents(rundir, cast(dict[str, object], extents))
        return
    num_steps = len(rundir.read_records())  # written by a version that did not note them
    if num_steps != summary.get("num_steps"):
        raise InputError(f"{rundir.steps} has {num_steps} records, {rundir.summary.name} has another number")


def _keep_damaged(rundir: RunDir, damage: Sequence[str], step: int) -> None:
    """Warns of the damage, and keeps a copy of the records before they are cut back."""
    if not damage:
        return
    _warn(rundir, f"damage found: {'; '.join(damage)}; the run resumes from step {step}")
    with disk_errors(rundir.path):
        for path in (rundir.steps, rundir.samples):
            if path.is_file():
                shutil.copyfile(path, damaged_copy(path))
        rundir.summary.unlink(missing_ok=True)


def _carry_out(
    rundir: RunDir,
    lease: Lease,
    parts: Parts,
    damage: str | None,
    metrics: Mapping[str, Metric],
    safeguards: Sequence[Safeguard],
    on_start: Callable[[Parts, list[Record]], None] | None,
    on_record: Listener | None,
) -> RunResult:
    config, begun = parts.config, time.monotonic()
    restored = load_checkpoint(rundir, parts.learner, config.run_id, safeguards)
    history, step = restored.records, len(restored.records)
    _keep_damaged(rundir, [*filter(None, [damage]), *restored.damage], step)
    writer = RecordWriter(rundir, history, lease)
    rundir.write_status("running", step)
    _log(rundir, f"begin at step {step}")
    checkpoints = BackgroundWriter(rundir.checkpoints, parts.learner, config.run_id, safeguards, lease.check)
    saved = time.monotonic()
    try:
        if on_start is not None:
            on_start(parts, history)
        with interruptions() as interrupted, checkpoints:
            for record in LOOPS[config.loop.kind](parts, history, metrics, safeguards):
                writer.check_place()
                checkpoints.wait()  # the update has waited already: this only raises an error of the writer
                writer.append(record)
                rundir.write_status("running", record.step)
                if on_record is not None:
                    on_record(record)
                timed_out = config.stop.max_seconds is not None and time.monotonic() - begun > config.stop.max_seconds
                ends = record.values["ended_by"] is not None
                stopping = not ends and (interrupted.is_set() or timed_out)
                is_due = stopping or time.monotonic() - saved >= config.checkpoint_every_s
                if config.keep_checkpoints if ends else is_due:
                    writer.sync()
                    checkpoints.save(record.step + 1, writer.extents())
                    saved = time.monotonic()
                if stopping:
                    checkpoints.wait()
                    raise _interruption(rundir, record.step, None if timed_out else interrupted.signal)
        writer.check_place()
        writer.sync()
        return _finish(rundir, lease, parts, writer.extents())
    finally:
        writer.close()


def _finish(rundir: RunDir, lease: Lease, parts: Parts, extents: Mapping[str, object]) -> RunResult:
    """Writes summary.json, which marks the run as finished."""
    records = rundir.read_records()
    model = parts.learner.loaded
    summary = summarise(records, parts.config, model.vocab_size, model.num_parameters, parts.protocols)
    summary["records"] = dict(extents)
    write_json(rundir.summary, summary, lease.check)
    lease.check()
    _settle(rundir, parts.config, summary)
    return RunResult(rundir.path, summary)


def _settle(rundir: RunDir, config: RunConfig, summary: Mapping[str, Any]) -> None:
    """The work left once summary.json is written; none of it can make the run fail."""
    ended_by, step = summary["ended_by"], summary["last_step"]
    try:
        if rundir.read_status().get("status") != "finished":
            _log(rundir, f"end at step {step}: {ended_by}")
            rundir.write_status("finished", step)
        if not config.keep_checkpoints:
            remove_checkpoints(rundir.checkpoints)
    except (RunFailed, OSError) as error:
        _notices.warning("the run is complete, but: %s", error)


def _interruption(rundir: RunDir, step: int, signal: int | None) -> Interrupted:
    """The end of a run by a signal, or without one by its wall time."""
    rundir.write_status("interrupted", step)
    reason = "wall time reached" if signal is None else "interrupted"
    _log(rundir, f"{reason} after step {step}")
    return Interrupted(
        f"{reason} after step {step}; everything is kept in {rundir.path}",
        "`resume=True` continues from here",
        signal,
    )


def _note_failure(rundir: RunDir, error: BaseException) -> None:
    """Keeps the cause; on a full disk even this may fail, and the cause itself matters more."""
    message = str(error) or type(error).__name__
    with contextlib.suppress(CollapselabError, OSError):
        rundir.write_status("failed", None, message)
        _log(rundir, f"failed: {message}")


def _warn(rundir: RunDir, message: str) -> None:
    """Warns the user, and notes it in log.txt."""
    _notices.warning("%s", message)
    _log(rundir, message)


def _log(rundir: RunDir, message: str) -> None:
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n"
    with disk_errors(rundir.path):
        handle = open_regular(rundir.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with open(handle, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(line)
