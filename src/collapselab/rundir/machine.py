"""Processor, cores and memory of this machine: the only place that asks the system."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
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


def boot_id() -> str:
    """Names the running system: another machine has another one, and so has this one after a restart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{platform.node()} {cast(Any, psutil).boot_time():.0f}"


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use: what CUDA_VISIBLE_DEVICES calls it, and its free memory."""

    name: str
    free_gib: float


def gpus() -> list[Gpu]:
    """The GPUs that `nvidia-smi` lists and CUDA_VISIBLE_DEVICES allows; empty without it."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.count(",") == 2]
    there = {name: Gpu(name, float(free) / 1024) for index, uuid, free in rows for name in (index, uuid)}
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [index for index, _, _ in rows] if allowed is None else [name.strip() for name in allowed.split(",")]
    return [there[name] for name in names if name in there]


def _cpuinfo(name: str) -> str:
    """The first value of that name in Linux's list of processors; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
