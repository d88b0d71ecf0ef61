"""What the process of one run does, whichever executor has started it."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass

from collapselab.config.names import as_flags
from collapselab.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, CollapselabError, Interrupted
from collapselab.sweep.executors.interface import Job


@dataclass(frozen=True)
class Outcome:
    """How it ended: the exit code, as on the command line, and the signal that interrupted it, if one did."""

    exit_code: int
    signal: int | None = None


def execute(job: Job, num_threads: int) -> Outcome:
    """Executes a job in this process, whose output goes to the job's log; its last line there says why it failed."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8", buffering=1) as log:
        for stream in (1, 2):  # for libraries that write past Python
            os.dup2(log.fileno(), stream)
    try:
        import torch

        from collapselab.runner import run

        torch.set_num_threads(num_threads)  # the configuration or a resumed run may set another number
        run(job.config, job.path, resume=True, data_dir=job.data_dir, asked_for=job.asked_for)
    except CollapselabError as error:
        _say(f"hint: {as_flags(error.hint)}" if error.hint else "", f"error: {error.message}")
        return Outcome(error.exit_code, error.signal if isinstance(error, Interrupted) else None)
    except KeyboardInterrupt:  # SIGTERM, before the first step
        return Outcome(EXIT_INTERRUPTED)
    except Exception as error:
        _say(traceback.format_exc(), f"error: {type(error).__name__}: {error}")
        return Outcome(EXIT_FAILED)
    return Outcome(EXIT_DONE)


def _say(*lines: str) -> None:
    print(*filter(None, lines), sep="\n", file=sys.stderr, flush=True)  # noqa: T201
