"""What tests compare of a run directory, and how they end a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from collapselab.records import Record
from collapselab.rundir.layout import read_lines


def timeless(path: Path) -> list[dict[str, object]]:
    lines = read_lines(path / "steps.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith("seconds_")} for line in lines]


def weights(path: Path) -> bytes:
    newest = sorted((path / "checkpoint").iterdir())[-1]
    return (newest / "model.safetensors").read_bytes() + (newest / "optimizer.safetensors").read_bytes()


def newest_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((path / "checkpoint").iterdir())[-1] / "model.safetensors")


def stop_after(step: int, number: int = signal.SIGTERM):
    """A listener that sends this process a signal once a step is recorded."""

    def listener(record: Record) -> None:
        if record.step == step:
            os.kill(os.getpid(), number)

    return listener
