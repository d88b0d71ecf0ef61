"""Runs as jobs of Slurm, submitted by submitit: the runs that are due together become one array.

A run that is near its job's wall time gets SIGUSR1: it writes a checkpoint, and its job is queued again. Preempted jobs
(SIGTERM) are queued again by Slurm itself. The command that submits only looks at the queue; if it is killed, its jobs
continue, and the same command finds their runs again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from collapselab.errors import EXIT_FAILED, EXIT_INTERRUPTED, InputError, RunFailed
from collapselab.sweep.executors.interface import Attempt, Job
from collapselab.sweep.executors.worker import execute
from collapselab.sweep.resources import Needs

POLL_S = 3.0  # sites ask not to question the controller more often
STOP_S = 0.2
CALL_S = 20.0
WARNING_S = 120  # before the wall time: for the step that is going on, and its checkpoint
RESULT_S = 30.0  # until a shared file system shows what a node has written
MAX_ARRAY = 1000  # Slurm's default MaxArraySize is 1001
_QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD"}
_LIVE = _QUEUED | {"RUNNING", "COMPLETING", "SUSPENDED", "PREEMPTED"}


def on_node(job: Job, num_threads: int) -> int:
    """What a node executes: the run, and near the wall time its return to the queue; returns its exit code."""
    from submitit import JobEnvironment

    environment = cast(Any, JobEnvironment)()
    environment.paths.result_pickle.unlink(missing_ok=True)  # of the attempt before a preemption
    outcome = execute(job, num_threads)
    if outcome.signal == signal.SIGUSR1:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if _call("scontrol", "requeue", environment.job_id).returncode == 0:
            while True:  # Slurm ends this process, and starts the job again
                signal.pause()
    return outcome.exit_code


@dataclass
class SlurmAttempt:
    """A run as a job; not submitted until the first look at it, so that those that begin together form one array."""

    executor: SlurmExecutor
    job: Job
    submitted: Any = None  # a submitit.Job
    ended_at: float | None = None

    def exit_code(self) -> int | None:
        """As in `Attempt`.

        Raises:
            RunFailed: Slurm refuses the jobs.
        """
        self.executor.submit()
        state = self.executor.state(self.submitted.job_id)
        if state is None or state in _LIVE:  # the files of a thousand waiting jobs are not looked at
            self.ended_at = None
            return None
        if self.submitted.paths.result_pickle.exists():
            outcome, code = self.submitted._get_outcome_and_result()
            return int(code) if outcome == "success" else EXIT_FAILED
        self.ended_at = self.ended_at or time.monotonic()
        if time.monotonic() - self.ended_at < RESULT_S and state in ("COMPLETED", "GONE"):  # perhaps with a result
            return None
        return EXIT_INTERRUPTED if state == "CANCELLED" else -signal.SIGKILL

    def is_queued(self) -> bool:
        return self.submitted is None or self.executor.state(self.submitted.job_id) in _QUEUED

    def interrupt(self) -> None:
        if self.submitted is not None:
            self.executor.stop(self.submitted.job_id)

    def kill(self) -> None:
        if self.submitted is not None:
            _call("scancel", self.submitted.job_id)


@dataclass
class SlurmExecutor:
    """Executes jobs on a Slurm cluster, `num_workers` at a time, with `num_threads` threads each.

    Attributes:
        needs: of each run.
        folder: for submitit's files and the output of Slurm; on a file system that the nodes see.
        options: further ones of sbatch, by name.
    """

    num_workers: int
    num_threads: int
    needs: Needs
    folder: Path
    options: Mapping[str, str | bool] = field(default_factory=dict[str, str | bool])
    _waiting: list[SlurmAttempt] = field(default_factory=list[SlurmAttempt])
    _stopping: list[str] = field(default_factory=list[str])
    _states: dict[str, str] | None = None
    _looked_at: float | None = None

    def start(self, job: Job) -> Attempt:
        attempt = SlurmAttempt(self, job)
        self._waiting.append(attempt)
        return attempt

    def submit(self) -> None:
        """Submits the attempts that wait, as arrays.

        Raises:
            RunFailed: sbatch refuses.
        """
        while self._waiting:
            chunk = self._waiting[:MAX_ARRAY]
            del self._waiting[:MAX_ARRAY]
            jobs = [attempt.job for attempt in chunk]
            try:
                submitted_jobs = self._submitit().map_array(on_node, jobs, [self.num_threads] * len(jobs))
            except Exception as error:  # submitit's, with the words of sbatch
                raise RunFailed(
                    f"Slurm does not take the jobs: {error}", "see `--dry-run` for the script, and `sbatch --help`"
                ) from None
            for attempt, one in zip(chunk, submitted_jobs, strict=True):
                attempt.submitted = one
            self._looked_at = None

    def state(self, job_id: str) -> str | None:
        """The state of a job in Slurm's words, GONE if it is not listed; None while the controller does not answer."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at >= POLL_S:
            self._looked_at = now
            done = _call("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T")
            rows = (line.split() for line in done.stdout.splitlines())
            self._states = {row[0]: row[1] for row in rows if len(row) == 2} if done.returncode == 0 else None
        return None if self._states is None else self._states.get(job_id, "GONE")

    def stop(self, job_id: str) -> None:
        """Takes a job that waits from the queue, and sends SIGTERM to one that runs; soon, with others, in one call."""
        if not self._stopping:
            threading.Timer(STOP_S, self._stop).start()
        self._stopping.append(job_id)

    def _stop(self) -> None:
        jobs, self._stopping = self._stopping, []
        _call("scancel", "--state=PENDING", *jobs)
        _call("scancel", "--signal=TERM", *jobs)

    def script(self, num_runs: int) -> str:
        """The job script of an array of that many runs."""
        executor = self._submitit(is_dry=True)
        if num_runs > 1:
            executor.parameters["map_count"] = min(num_runs, MAX_ARRAY)
        return executor._make_submission_file_text(executor._submitit_command_str, "")

    def _submitit(self, *, is_dry: bool = False) -> Any:
        """The executor of submitit; a dry one needs no Slurm.

        Raises:
            InputError: submitit or Slurm is missing.
        """
        try:
            from submitit import SlurmExecutor as Submitit
        except ImportError:
            raise InputError("--executor slurm needs submitit", "pip install 'collapselab[slurm]'") from None
        if not is_dry and shutil.which("sbatch") is None:
            raise InputError("Slurm's commands (sbatch, srun) are not on this machine", "use a login node")
        dry = type("Dry", (Submitit,), {"affinity": classmethod(lambda cls: 1)})  # it does not look for Slurm
        executor = cast(Any, dry if is_dry else Submitit)(self.folder)
        executor.update_parameters(
            job_name="collapselab",
            time=self.needs.minutes,
            cpus_per_task=self.needs.num_cpus,
            array_parallelism=self.num_workers,
            additional_parameters={
                "signal": f"USR1@{min(WARNING_S, 30 * self.needs.minutes)}",
                "requeue": True,
                **({} if self.needs.memory_gib is None else {"mem": f"{self.needs.memory_gib * 1024:.0f}M"}),
                **({"gpus-per-node": f"{self.needs.num_gpus:g}"} if self.needs.num_gpus else {}),
                **self.options,
            },
        )
        return executor


def sbatch_options(words: str) -> dict[str, str | bool]:
    """Options of sbatch by name, from words as on its command line, without dashes: `partition=gpu exclusive`.

    Raises:
        InputError: a word is no such option.
    """
    options: dict[str, str | bool] = {}
    for word in shlex.split(words):
        name, equals, value = word.removeprefix("--").partition("=")
        if not name.replace("-", "").isalnum():
            raise InputError(f"--slurm takes NAME=VALUE or NAME, received {word!r}", "--slurm 'partition=gpu qos=low'")
        options[name] = value if equals else True
    return options


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    """One of Slurm's commands; `scancel` repeats its request for a minute where a job changes its state just then."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=CALL_S)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, EXIT_FAILED, "", "no answer")
