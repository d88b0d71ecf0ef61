"""The machine's limits: how fast it reads memory and multiplies matrices; and its identity."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.costs import Ceilings
from benchmarks.measure import Spread, spread
from collapselab.rundir.environment import environment
from collapselab.rundir.machine import cpu_features, cpu_name, memory_bytes

ARRAY_BYTES = 2**30  # well beyond caches: the shared last-level cache of a large server is half of it
ROWS = 1024
# (inner, outer) of the products x (ROWS, inner) times w.T, w (outer, inner): those of a GPT-2 layer; and a square.
PRODUCTS = ((768, 768), (768, 3072), (3072, 768))
SQUARE = 2048
KINDS = ("read", "float32", "bfloat16")  # prefixes of kernel names
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

Kernel = tuple[Callable[[], object], float]  # a function, and the bytes or operations of a call


def make_probe(
    repeats: int = 3, array_bytes: int = ARRAY_BYTES, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], Ceilings]:
    """A function that measures the ceilings; it takes a second or two, and keeps its arrays for the next call.

    Args:
        repeats: runs of each kernel; a ceiling is the best run of the best kernel.
        array_bytes: size of the array that is read.
        clock: seconds.
    """
    kernels = _reads(array_bytes) | _products(torch.float32) | _products(torch.bfloat16)

    def probe() -> Ceilings:
        rates = {name: _rate(kernel, amount, repeats, clock) for name, (kernel, amount) in kernels.items()}
        best = {kind: max(r.greatest for name, r in rates.items() if name.startswith(kind)) for kind in KINDS}
        return Ceilings(best["read"], best["float32"], best["bfloat16"], rates)

    return probe


def _reads(array_bytes: int) -> dict[str, Kernel]:
    """Reductions over one array; the last one is a matrix-vector product, as in decoding."""
    array_N = torch.ones(array_bytes // 4)
    matrix_RC, vector_C = array_N.view(-1, ROWS), torch.ones(ROWS)
    functions: dict[str, Callable[[], object]] = {
        "read sum": array_N.sum,
        "read dot": lambda: torch.dot(array_N, array_N),
        "read matrix-vector": lambda: torch.mv(matrix_RC, vector_C),
    }
    return {name: (function, float(array_bytes)) for name, function in functions.items()}


def _products(dtype: torch.dtype) -> dict[str, Kernel]:
    sizes = [*((ROWS, inner, outer) for inner, outer in PRODUCTS), (SQUARE, SQUARE, SQUARE)]
    kernels: dict[str, Kernel] = {}
    for rows, inner, outer in sizes:
        name = f"{str(dtype).removeprefix('torch.')} {rows}x{inner}x{outer}"
        kernels[name] = (_product(rows, inner, outer, dtype), 2.0 * rows * inner * outer)
    return kernels


def _product(rows: int, inner: int, outer: int, dtype: torch.dtype) -> Callable[[], object]:
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(outer, inner, dtype=dtype)
    out = torch.empty(rows, outer, dtype=dtype)
    return lambda: torch.mm(left, right.T, out=out)


def _rate(kernel: Callable[[], object], amount: float, repeats: int, clock: Callable[[], float]) -> Spread:
    rates: list[float] = []
    for _ in range(repeats):
        begun = clock()
        kernel()
        rates.append(amount / (clock() - begun))
    return spread(rates)


def machine() -> dict[str, object]:
    """Versions, processor, caches, memory and instruction sets, and a fingerprint of the stable ones."""
    hardware: dict[str, object] = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "caches": _caches(),
        "instruction_sets": _instruction_sets(),
    }
    fingerprint = hashlib.sha256(repr(sorted(hardware.items())).encode()).hexdigest()[:12]
    return environment(torch.get_num_threads()) | hardware | {"fingerprint": fingerprint}


def _caches() -> dict[str, str]:
    """The size of each cache of one core, as the system reports it."""
    sizes: dict[str, str] = {}
    for index in sorted(CACHES.glob("index*")):
        level, kind, size = ("".join(_lines(index / name)) for name in ("level", "type", "size"))
        sizes[f"L{level} {kind}"] = size
    return sizes


def _instruction_sets() -> list[str]:
    known = {flag for flag in cpu_features().split() if flag.startswith(("avx", "amx", "fma"))}
    return sorted(known) or [torch.backends.cpu.get_cpu_capability()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
