"""Executes the runs of a sweep: which are due, which are done, which are tried again; all state is on disk."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from collapselab.errors import EXIT_DONE, EXIT_INTERRUPTED, InputError
from collapselab.interruptions import interruptions
from collapselab.rundir.claim import check_claim
from collapselab.rundir.layout import RunDir
from collapselab.rundir.lease import Watch
from collapselab.rundir.progress import glance, holder
from collapselab.rundir.run_files import check_run, is_damaged_run, read_identity
from collapselab.sweep.executors.interface import Attempt, Executor, Job
from collapselab.sweep.grid import PlannedRun

POLL_S = 0.1
LOG_TAIL_BYTES = 8192
State = Literal["waiting", "queued", "running", "elsewhere", "done", "failed", "interrupted", "damaged"]


@dataclass
class Task:
    """One run of a sweep and its progress.

    `queued`: handed to the executor, and not begun yet. `elsewhere`: another process has its directory, so we wait.
    `interrupted`: it can be resumed. `damaged`: its configuration is damaged, so it is left alone; after other damage,
    a run resumes from a checkpoint before it.
    `num_attempts` counts the attempts of this sweep, so a task done without any was finished before. `message` says
    why it failed, what is damaged, or which process has it.
    """

    run: PlannedRun
    path: Path
    state: State = "waiting"
    num_attempts: int = 0
    message: str | None = None

    @property
    def log(self) -> Path:
        """The output of the run's processes; not in its directory, which a process may fail to make."""
        return self.path.parent / "logs" / f"{self.path.name}.txt"


def place(planned: Sequence[PlannedRun], out: Path) -> list[Task]:
    """A task for each run, with its directory below `out`; finished runs are done.

    An existing run is identified by its configuration's hash, whatever its directory is called.

    Raises:
        InputError: a directory of that name holds something else.
    """
    there = dict(_known_runs(out))
    tasks = [Task(run, there.get(run.config.run_id, out / run.name)) for run in planned]
    for task in tasks:
        if not task.path.exists():
            continue
        task.message = _damage(task)
        if task.message is None:
            task.state = "done" if glance(task.path).is_finished else "waiting"
        elif not _is_known(task.path):
            task.state = "damaged"
    return tasks


def _is_known(path: Path) -> bool:
    """Whether the configuration is intact: then the run can resume from a checkpoint before the damage."""
    try:
        read_identity(RunDir(path))
    except InputError:
        return False
    return True


def _known_runs(out: Path) -> Iterator[tuple[str, Path]]:
    """The run directories in a folder by run id, without those whose configuration is damaged."""
    for path in sorted(out.glob("*/config.json")):
        try:
            yield read_identity(RunDir(path.parent))["run_id"], path.parent
        except InputError:  # a saved model's, or damaged: then the run is found by its name
            continue


def _damage(task: Task) -> str | None:
    """What is wrong with the files of a run directory; None: nothing.

    Raises:
        InputError: it holds another run, or something else.
    """
    rundir = RunDir(task.path)
    try:
        if rundir.holds_a_run() or is_damaged_run(task.path):
            read_identity(rundir)
    except InputError as error:
        return error.message
    _check_claim(task)
    try:
        if rundir.holds_a_run():
            check_run(rundir)
    except InputError as error:
        return error.message
    return None


def _check_claim(task: Task) -> None:
    try:
        check_claim(RunDir(task.path), task.run.config, resume=True, fresh=False)
    except InputError as error:
        raise InputError(error.message, "choose another folder with --out, or keep the sweep's base settings") from None


def carry_out(
    tasks: Sequence[Task],
    executor: Executor,
    *,
    retries: int = 1,
    data_dir: Path | None = None,
    asked_for: Mapping[str, object] | None = None,
    on_tick: Callable[[], None] = lambda: None,
) -> bool:
    """Executes the tasks that are not done, and updates their states; returns whether it was interrupted.

    A run that fails (or whose process is killed) is tried again from its last checkpoint after the others, `retries`
    times. Ctrl-C and SIGTERM let every run write a checkpoint; a second Ctrl-C does not wait for that. `on_tick` is
    called about ten times a second.
    """
    queue = deque(task for task in tasks if task.state not in ("done", "damaged"))
    going: list[tuple[Task, Attempt]] = []
    watch = Watch()
    _make_log_folders(queue)
    with interruptions() as stopped:
        try:
            while not stopped.is_set() and (going or queue):
                _collect(going, queue, watch, retries, stopping=False)
                on_tick()  # in between, so that a failure is shown before the next attempt
                _fill(going, queue, watch, executor, data_dir, asked_for or {})
                stopped.wait(POLL_S if going or queue else 0)
            _interrupt(going)
            while going:
                _collect(going, queue, watch, retries, stopping=True)
                on_tick()
                time.sleep(POLL_S if going else 0)
            on_tick()
        except KeyboardInterrupt:  # the second one
            for task, attempt in going:
                attempt.kill()
                task.state = "interrupted"
        except BaseException:
            _interrupt(going)
            raise
    return stopped.is_set()


def _make_log_folders(tasks: Iterable[Task]) -> None:
    for folder in {task.log.parent for task in tasks}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {folder}: {error.strerror}", "choose another folder with --out"
            ) from None


def _interrupt(going: Sequence[tuple[Task, Attempt]]) -> None:
    for _, attempt in going:
        attempt.interrupt()


def _fill(
    going: list[tuple[Task, Attempt]],
    queue: deque[Task],
    watch: Watch,
    executor: Executor,
    data_dir: Path | None,
    asked_for: Mapping[str, object],
) -> None:
    """Starts as many waiting runs as there are free workers, in order; runs of other processes are skipped."""
    for task in tuple(queue):
        if len(going) >= executor.num_workers:
            break
        # The lease of another machine is looked at only once a process has found its owner alive.
        task.message = holder(task.path, watch if task.state == "elsewhere" else None)
        task.state = "waiting" if task.message is None else "elsewhere"
        if task.state == "elsewhere":
            continue
        queue.remove(task)
        if glance(task.path).is_finished and _damage(task) is None:  # by another sweep in the meantime
            task.state = "done"
            continue
        asked = {**asked_for, "name": task.run.name, "changes": dict(task.run.changes)}
        task.state, task.num_attempts = "queued", task.num_attempts + 1
        going.append((task, executor.start(Job(task.run.config, task.path, task.log, data_dir, asked))))


def _collect(
    going: list[tuple[Task, Attempt]], queue: deque[Task], watch: Watch, retries: int, *, stopping: bool
) -> None:
    """Notes the attempts that have ended."""
    for pair in tuple(going):
        task, attempt = pair
        code = attempt.exit_code()
        if code is None:
            task.state = "queued" if attempt.is_queued() else "running"
            continue
        going.remove(pair)
        if code == EXIT_DONE:
            task.state, task.message = "done", None
        elif stopping or code == EXIT_INTERRUPTED:
            task.state, task.message = "interrupted", None
        elif (other := holder(task.path, watch if code > 0 else None)) is not None:  # a killed one leaves its lease
            # Another sweep was faster, or the process outlived its parent: it has the directory, so wait.
            task.state, task.message, task.num_attempts = "elsewhere", other, task.num_attempts - 1
            queue.append(task)
        else:
            task.state, task.message = "failed", _reason(code, task.log)
            if task.num_attempts <= retries:
                queue.append(task)


def _reason(code: int, log: Path) -> str:
    """Why an attempt failed: the signal that killed it, or the last error in its log."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name in ("SIGKILL", "SIGABRT") else "")
    lines = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").splitlines() if log.exists() else []
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"ended with exit code {code}"
