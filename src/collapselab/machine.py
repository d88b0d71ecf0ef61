"""The machine that runs this: processor, cores and memory. Whoever asks, asks here."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, cast

import psutil


def cpu_name() -> str | None:
    """The processor's name; `None` where the system does not say."""
    return _cpuinfo("model name") or platform.processor() or None


def cpu_features() -> str:
    """The instruction sets of the processor, with blanks; its kind, where the system does not list them."""
    return _cpuinfo("flags") or platform.processor() or platform.machine()


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """All memory."""
    return cast(Any, psutil).virtual_memory().total


def available_bytes() -> int:
    """Memory that can still be taken without swapping."""
    return cast(Any, psutil).virtual_memory().available


def _cpuinfo(name: str) -> str:
    """The first value of that name in Linux's list of processors; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
