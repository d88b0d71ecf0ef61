"""Runs in processes on this machine, each forked from a clean process that has already imported torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from collapselab.errors import InputError, RunFailed
from collapselab.sweep.executors.interface import Attempt, Job
from collapselab.sweep.executors.worker import execute

EXIT_UNGUARDED = 64  # of a process that began a sweep instead of its run
MAX_SOCKET_BYTES = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")  # for the folder: a socket's name has at most 107
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


@dataclass(frozen=True)
class LocalAttempt:
    """A run in its own process."""

    process: BaseProcess

    def exit_code(self) -> int | None:
        """As in `Attempt`.

        Raises:
            InputError: the process began the sweep again, instead of a run.
        """
        if self.process.exitcode == EXIT_UNGUARDED:
            raise InputError(
                "the script starts the sweep whenever it is imported, and each run's process imports it",
                'put the code that starts the sweep below `if __name__ == "__main__":`',
            )
        return self.process.exitcode

    def is_queued(self) -> bool:
        return False

    def interrupt(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


@dataclass(frozen=True)
class LocalExecutor:
    """Executes jobs on this machine, with `num_threads` threads each.

    A configuration may name another number. A resumed run keeps the number it began with, since that number
    affects the last bits of its results.

    `gpus`: those that the runs share evenly, as CUDA_VISIBLE_DEVICES names them; without any, each run sees all.
    """

    num_workers: int
    num_threads: int
    gpus: tuple[str, ...] = ()
    _given: dict[str, list[LocalAttempt]] = field(default_factory=dict[str, list[LocalAttempt]])

    def start(self, job: Job) -> Attempt:
        """Begins a job.

        Raises:
            RunFailed: no process can be made for it.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # a run's process, importing the script
            os._exit(EXIT_UNGUARDED)  # the sweep's own process will say why, once
        # Importing torch and transformers takes seconds of processor time; a fork of a process that has them takes
        # milliseconds. macOS does not allow forks once its frameworks are loaded.
        context: Any = multiprocessing.get_context("forkserver" if _has_fork_server() else "spawn")
        context.set_forkserver_preload(["collapselab.sweep.executors.preloaded"])
        gpu = min(self.gpus, key=self._num_runs, default=None)
        process: BaseProcess = context.Process(target=_carry_out, args=(job, self.num_threads, gpu))
        with _signals_blocked():
            resource_tracker.ensure_running()  # the first start would begin it after it has unblocked some signals
        try:
            with _signals_blocked():
                process.start()
        except (EOFError, OSError, MemoryError) as error:  # EOFError: the process that forks has ended at once
            raise RunFailed(
                f"cannot start a process for {job.path.name}: {str(error) or type(error).__name__} (out of memory?)",
                "use fewer --workers, or check the limits (ulimit -a) on memory, processes and open files",
            ) from None
        attempt = LocalAttempt(process)
        if gpu is not None:
            self._given.setdefault(gpu, []).append(attempt)
        return attempt

    def _num_runs(self, gpu: str) -> int:
        """The runs in progress on a GPU."""
        return sum(attempt.process.exitcode is None for attempt in self._given.get(gpu, []))


def _has_fork_server() -> bool:
    """Whether there is a fork server: on Linux, unless its socket's name would be too long."""
    return sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) <= MAX_SOCKET_BYTES


@contextmanager
def _signals_blocked() -> Generator[None]:
    """Processes started here see neither Ctrl-C nor the closing of the terminal: the parent decides what to do."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _carry_out(job: Job, num_threads: int, gpu: str | None) -> None:
    """The body of a worker process."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used, which importing torch does not do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    sys.exit(execute(job, num_threads).exit_code)


def _end_with_parent() -> None:
    """If the sweep is killed, its runs do not continue unseen: each writes a checkpoint and ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
