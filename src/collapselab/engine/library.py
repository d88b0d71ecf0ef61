"""The kernels in C: compiled once for this machine, then loaded; `None` where there is no compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
# No -ffast-math: it would make every library of the process flush denormal numbers, and lose NaN.
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-std=gnu11", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
)


class CLinear(Structure):
    """`Linear` of common.h."""

    _fields_ = (
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("packed", c_void_p),
        ("num_in", c_int64),
        ("num_out", c_int64),
        ("is_in_out", c_int32),
    )


class CNorm(Structure):
    """`Norm` of common.h."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class CLayer(Structure):
    """`Layer` of common.h."""

    _fields_ = (
        ("norm_1", CNorm),
        ("norm_2", CNorm),
        ("qkv", CLinear * 3),
        ("out", CLinear),
        ("up", CLinear * 2),
        ("down", CLinear),
    )


class CModel(Structure):
    """`Model` of common.h."""

    _fields_ = (
        *(
            (name, c_int64)
            for name in ("num_layers", "width", "num_heads", "num_kv_heads", "head_dim", "inner", "vocab")
        ),
        ("num_qkv", c_int64),
        ("num_up", c_int64),
        ("num_embeddings", c_int64),
        ("num_positions", c_int64),
        ("eps", c_float),
        *((name, c_void_p) for name in ("embedding", "positions", "cosines", "sines")),
        ("layers", POINTER(CLayer)),
        ("final_norm", CNorm),
        ("head", CLinear),
    )


class CCache(Structure):
    """`Cache` of common.h."""

    _fields_ = (("keys", c_void_p), ("values", c_void_p), ("num_sequences", c_int64), ("length", c_int64))


_SIGNATURES = {
    "prepare_tiles": (c_int32, ()),
    "prefer_large_pages": (None, (c_void_p, c_int64)),
    "pack_weights": (None, (POINTER(CLinear), c_void_p, c_int32)),
    "workspace_bytes": (c_int64, (POINTER(CModel), c_int64, c_int64, c_int32)),
    "forward": (
        c_int32,
        (POINTER(CModel), POINTER(CCache), c_int32, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int32),
    ),
    "head_logits": (None, (POINTER(CModel), c_void_p, c_int32, c_void_p, c_void_p, c_int32)),
    "nll_bytes": (c_int64, (POINTER(CModel), c_int64, c_int32)),
    "head_nll": (c_int32, (POINTER(CModel), c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_int32)),
    "draw_tokens": (
        None,
        (c_void_p, c_void_p, c_int32, c_int64, c_float, c_int64, c_float, *([c_void_p] * 4), c_int32),
    ),
    "round_weights": (None, (c_void_p, c_void_p, c_int64, c_int32)),
    "sum_of_squares": (c_double, (c_void_p, c_int32, c_int64, c_int32)),
    "adamw": (
        None,
        (c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_int64, c_float, *([c_double] * 6), c_void_p, c_int32),
    ),
}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; `None` if there is no C compiler with OpenMP, or it fails.

    The first call on a machine compiles them (about a second) into the user's cache folder.
    """
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        return None
    try:
        file = _compiled(compiler)
        # Threads that wait for each other spin for some 20 µs, then sleep: the default of milliseconds makes runs
        # side by side crawl. Read when the OpenMP library is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        loaded = ctypes.CDLL(str(file))
    except (OSError, subprocess.SubprocessError):
        return None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded if loaded.prepare_tiles() else None


def _compiled(compiler: str) -> Path:
    files = sorted(SOURCES.iterdir())
    identity = [compiler, *FLAGS, _processor(), *(f.read_text(encoding="utf-8") for f in files)]
    name = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "collapselab"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"native-{name}.so"
    if not target.exists():
        # Under a name of its own first: several runs may begin at once.
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            built = Path(temporary) / "native.so"
            sources = [str(f) for f in files if f.suffix == ".c"]
            command = [compiler, *FLAGS, "-o", str(built), *sources, "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
            built.rename(target)
    return target


def _processor() -> str:
    """What -march=native looks at: a cache folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.machine())
