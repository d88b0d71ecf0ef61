"""The C kernels as Python calls them, if they can be compiled."""

from __future__ import annotations

import ctypes
import logging
import threading
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache

from collapselab.engine.compiler import NoKernels, load_library

log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


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
        (c_void_p, c_void_p, c_int32, c_int64, c_float, c_int64, c_float, c_void_p, c_void_p, c_void_p, c_int32),
    ),
    "write_tokens": (
        c_int32,
        (
            *(POINTER(CModel), POINTER(CCache), c_int32, c_int32, c_int32, c_int32, c_void_p),
            *(c_float, c_int64, c_float, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int32),
        ),
    ),
    "round_weights": (None, (c_void_p, c_void_p, c_int64, c_int32)),
    "sum_of_squares": (c_double, (c_void_p, c_int32, c_int64, c_int32)),
    "repeated_shares": (None, (c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "repetition": (None, (c_void_p, c_void_p, c_int64, c_void_p, c_int32)),
    "adamw": (
        None,
        (c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_int64, c_float, *([c_double] * 6), c_void_p, c_int32),
    ),
}


@dataclass(frozen=True)
class Kernels:
    """The C kernels, or why there are none."""

    library: ctypes.CDLL | None
    why_off: str | None


@cache
def kernels() -> Kernels:
    """The kernels of this process: compiled and loaded at the first call, which logs the reason if that fails."""
    try:
        with _one_at_a_time:  # of threads that ask at once, one compiles, and the others find what it kept
            loaded = load_library(list(_SIGNATURES))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        if not loaded.prepare_tiles():
            raise NoKernels("the system does not grant the processor's matrix unit (AMX)")
    except NoKernels as error:
        log.warning("the C kernels are off; torch computes instead (slower): %s", error)
        return Kernels(None, str(error))
    return Kernels(loaded, None)


def library() -> ctypes.CDLL | None:
    """The compiled kernels; `None` where there are none (`kernels().why_off` says why)."""
    return kernels().library
