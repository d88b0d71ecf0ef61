"""Processes that have a part of one model each, started by `torchrun`: rank 0 leads, the others follow.

Only rank 0 has the run: it draws the tokens, judges, and writes the run directory. Before it uses the model, it tells
the others, which do the same with their parts (`step.shards`).

Reference: M. Shoeybi et al., "Megatron-LM", 2019 (tensor parallelism).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from datetime import timedelta
from typing import Any

from collapselab.errors import CollapselabError, InputError

END = "end"
_SILENCE = timedelta(hours=2)  # of rank 0, which may evaluate a long text by itself
_begun = False


def launched() -> int:
    """The number of processes that torchrun has started for this program; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_follower() -> bool:
    """Whether this process has a part of a model that rank 0 uses."""
    return launched() > 1 and os.environ.get("RANK", "0") != "0"


def size() -> int:
    """Into how many parts this process divides the model that it loads."""
    return launched() if _begun else 1


def begin(device: str) -> None:
    """Connects the ranks.

    Raises:
        InputError: the model's parts would not be on this device, or there are fewer devices than processes.
    """
    import torch
    import torch.distributed as dist

    global _begun
    found = torch.accelerator.current_accelerator(check_available=True)
    there = "cpu" if found is None else found.type
    if torch.device(device).type != there:
        raise InputError(f"torchrun puts models on {there} here, received device {device!r}", f"use `device={there!r}`")
    if there != "cpu":
        index, count = int(os.environ["LOCAL_RANK"]), torch.accelerator.device_count()
        if index >= count:
            raise InputError(
                f"each process needs a device of its own; this machine has {count}, received process {index + 1}",
                f"use `torchrun --nproc-per-node {count}`",
            )
        torch.accelerator.set_device_index(index)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if there == "cuda" else "gloo", timeout=_SILENCE)
    _begun = True


@contextlib.contextmanager
def leading(device: str) -> Generator[None]:
    """While this lasts, the others follow rank 0; a process alone leads nobody."""
    if launched() == 1:
        yield
        return
    begin(device)
    try:
        yield
    except (CollapselabError, KeyboardInterrupt):  # between two messages; after any other error torchrun ends the rest
        _end()
        raise
    _end()


def _end() -> None:
    with contextlib.suppress(RuntimeError):  # they have met the same error
        tell(END)


def tell(*message: Any) -> None:
    """Rank 0 says what all do next."""
    import torch.distributed as dist

    dist.broadcast_object_list([message], src=0)


def hear() -> tuple[Any, ...]:
    """What rank 0 says next: a verb and its arguments."""
    import torch.distributed as dist

    heard: list[Any] = [None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0]
