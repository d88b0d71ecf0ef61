"""Runs as tasks of Ray, on a cluster by its address or on this machine; each has a process of its own.

Where the nodes see the folder of the sweep, a run writes there; elsewhere its node begins with a copy of the run
directory and sends it back at the end. A task whose process or node dies is tried again by the sweep, not by Ray.
"""

from __future__ import annotations

import io
import logging
import math
import os
import secrets
import shutil
import signal
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from collapselab.errors import EXIT_FAILED, EXIT_INTERRUPTED, InputError
from collapselab.files import temporary_name
from collapselab.rundir.lease import is_lease
from collapselab.sweep.executors.interface import Attempt, Job
from collapselab.sweep.executors.worker import execute
from collapselab.sweep.resources import Needs

ASK_S = 1.0
MARKER = "ray-sees-this-folder.txt"


@dataclass(frozen=True)
class Result:
    """What a task returns: the exit code, and where the folder is not shared, the run directory and its log.

    No exit code: the task did nothing, since it needs a copy of the run directory first.
    """

    exit_code: int | None
    archive: bytes | None = None
    log: str = ""


class Stops:
    """An actor that knows which runs were asked to stop: a task of Ray receives no signals."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._begun: set[str] = set()

    def ask(self, name: str) -> bool:
        """Asks a run to stop; returns whether it has begun."""
        self._asked.add(name)
        return name in self._begun

    def begun(self) -> set[str]:
        """The runs that have begun."""
        return self._begun

    def is_asked(self, name: str) -> bool:
        self._begun.add(name)
        return name in self._asked


@dataclass(frozen=True)
class Ticket:
    """What a task has to know beside its job: its name, who says when to stop, and how it knows the sweep's folder.

    `cwd`: where the sweep was called, from which paths count. `token` is in a file of the sweep's folder.
    `has_begun`: there is a run directory to continue from.
    """

    name: str
    cwd: Path
    stops: Any
    token: str
    num_threads: int
    has_begun: bool


def carry_out_task(job: Job, ticket: Ticket, archive: bytes | None) -> Result:
    """What a node executes; `archive`: the run directory, where the node may not see it."""
    name, stops, token, num_threads = ticket.name, ticket.stops, ticket.token, ticket.num_threads
    threading.Thread(target=_listen, args=(stops, name), daemon=True).start()
    if ticket.cwd.is_dir():
        os.chdir(ticket.cwd)
    marker = job.log.parent / MARKER
    if marker.is_file() and marker.read_text(encoding="ascii") == token:
        return Result(execute(job, num_threads).exit_code)
    if ticket.has_begun and archive is None:
        return Result(None)
    folder = Path(tempfile.mkdtemp(prefix="collapselab-ray-"))
    try:
        here = replace(job, path=folder / "run", log=folder / "log.txt")
        if archive is not None:
            unpack(archive, here.path)
        code = execute(here, num_threads).exit_code
        packed = pack(here.path) if here.path.is_dir() else None
        return Result(code, packed, here.log.read_text(encoding="utf-8", errors="replace"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listen(stops: Any, name: str) -> None:
    """Interrupts this process as SIGTERM would, once its run was asked to stop."""
    import ray
    from ray.exceptions import RayError

    try:
        while not ray.get(stops.is_asked.remote(name)):
            time.sleep(ASK_S)
    except RayError:  # the cluster ends
        return
    os.kill(os.getpid(), signal.SIGTERM)


def pack(path: Path) -> bytes:
    """A run directory as the bytes of a tar file, without lock and lease."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for file in sorted(path.iterdir()):
            if file.name != "lock" and not is_lease(file.name):
                archive.add(file, file.name)
    return content.getvalue()


def unpack(content: bytes, path: Path) -> None:
    """Makes a packed run directory; it appears whole, in place of a former one."""
    temporary = path.with_name(temporary_name())
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(temporary, filter="data")
    if path.exists():
        shutil.rmtree(path)
    temporary.rename(path)


@dataclass
class RayAttempt:
    """A run as a task."""

    executor: RayExecutor
    job: Job
    ticket: Ticket
    reference: Any
    code: int | None = None

    def exit_code(self) -> int | None:
        import ray
        from ray import exceptions

        if self.code is not None or not ray.wait([self.reference], timeout=0)[0]:
            return self.code
        try:
            result = cast(Result, cast(Any, ray).get(self.reference))
        except exceptions.TaskCancelledError:
            self.code = EXIT_INTERRUPTED
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError):
            self.code = -signal.SIGKILL
        except exceptions.RayError as error:  # for example, collapselab is missing on the node
            self._tell(f"error: {error}")
            self.code = EXIT_FAILED
        else:
            if result.exit_code is None:
                self.reference = self.executor.submit(self.job, self.ticket, pack(self.job.path))
                return None
            self._tell(result.log)
            if result.archive is not None:
                unpack(result.archive, self.job.path)
            self.code = result.exit_code
        return self.code

    def is_queued(self) -> bool:
        return self.ticket.name not in self.executor.begun()

    def _tell(self, words: str) -> None:
        with self.job.log.open("a", encoding="utf-8") as log:
            log.write(words)

    def interrupt(self) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            has_begun = ray.get(self.ticket.stops.ask.remote(self.ticket.name))
        except RayError:
            has_begun = False
        if not has_begun:  # it waits for a node, perhaps for ever
            ray.cancel(self.reference)

    def kill(self) -> None:
        import ray

        ray.cancel(self.reference, force=True)


class RayExecutor:
    """Executes jobs on a Ray cluster, `num_workers` at a time, with `num_threads` threads each."""

    def __init__(self, num_workers: int, num_threads: int, needs: Needs, address: str | None = None) -> None:
        """Connects to the cluster at `address` ("auto": the one of this machine), or starts one on this machine.

        Raises:
            InputError: Ray is missing, or there is no cluster.
        """
        try:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        except ImportError:
            raise InputError("--executor ray needs Ray", "pip install 'collapselab[ray]'") from None
        self.num_workers, self.num_threads = num_workers, num_threads
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray's FutureWarning asks for
        if not ray.is_initialized():
            try:
                ray.init(
                    address or "local",
                    include_dashboard=False if address is None else None,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"no Ray cluster at {address!r}: {error}", "start one with: ray start --head"
                ) from None
        memory: dict[str, Any] = {} if needs.memory_gib is None else {"memory": int(needs.memory_gib * 2**30)}
        # A process for each run, which numbers and threads of the one before cannot reach.
        once: dict[str, Any] = {"max_calls": 1, "max_retries": 0}
        self._task: Any = ray.remote(num_cpus=needs.num_cpus, num_gpus=needs.num_gpus, **once, **memory)(carry_out_task)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._stops: Any = ray.remote(Stops).options(num_cpus=0, scheduling_strategy=here).remote()
        self._token = secrets.token_hex(16)
        self._begun: frozenset[str] = frozenset()
        self._asked_at = -math.inf

    def start(self, job: Job) -> Attempt:
        (job.log.parent / MARKER).write_text(self._token, encoding="ascii")
        name = f"{job.path} {secrets.token_hex(4)}"
        ticket = Ticket(name, Path.cwd(), self._stops, self._token, self.num_threads, job.path.is_dir())
        return RayAttempt(self, job, ticket, self.submit(job, ticket))

    def begun(self) -> frozenset[str]:
        """The names of the tasks that have begun, as of some second ago."""
        import ray
        from ray.exceptions import RayError

        if time.monotonic() - self._asked_at >= ASK_S:
            self._asked_at = time.monotonic()
            with suppress(RayError):  # the actor's node has ended
                self._begun = frozenset(cast(Any, ray).get(self._stops.begun.remote(), timeout=ASK_S))
        return self._begun

    def submit(self, job: Job, ticket: Ticket, archive: bytes | None = None) -> Any:
        """The reference of a task's result."""
        return self._task.remote(job, ticket, archive)
