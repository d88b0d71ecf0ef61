"""What carries out runs: a configuration goes in, a run directory comes out.

`local` does it with processes of this machine. An executor for a cluster implements the same two classes; which runs
are due, skipped or tried again is decided in `schedule`, from the run directories alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from collapselab.config.schema import RunConfig


@dataclass(frozen=True)
class Job:
    """One run to carry out, anew or from its last checkpoint.

    `path` is its run directory, `log` the file for what the process prints, `data_dir` where texts lie, `asked_for`
    what user.json shall say.
    """

    config: RunConfig
    path: Path
    log: Path
    data_dir: Path | None
    asked_for: Mapping[str, object]


class Attempt(Protocol):
    """A job on its way."""

    def exit_code(self) -> int | None:
        """How it ended, as the command line does: 0 done, 75 interrupted and resumable, else failed; None: it goes on.

        A negative code is the number of the signal that killed it.
        """
        ...

    def interrupt(self) -> None:
        """Asks the run to write a checkpoint and end with code 75."""
        ...

    def kill(self) -> None:
        """Ends the run at once; it can be resumed from its last checkpoint."""
        ...


class Executor(Protocol):
    """Carries out up to `num_workers` jobs side by side."""

    @property
    def num_workers(self) -> int: ...

    def start(self, job: Job) -> Attempt:
        """Begins a job and returns at once."""
        ...
