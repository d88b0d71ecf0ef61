"""Processor, cores and memory of this machine: the only place that asks the system."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, cast

import psutil


def cpu_name() -> str | None:
    """The processor's name; `None` if the system does not report it."""
    return _cpuinfo("model name") or platform.processor() or None


def cpu_features() -> str:
    """The processor's instruction sets, separated by spaces; its architecture if the system does not list them."""
    return _cpuinfo("flags") or platform.processor() or platform.machine()


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Total memory."""
    return cast(Any, psutil).virtual_memory().total


def available_bytes() -> int:
    """Memory available without swapping."""
    return cast(Any, psutil).virtual_memory().available


def _cpuinfo(name: str) -> str:
    """The first value of that name in Linux's list of processors; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
