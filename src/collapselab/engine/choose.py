"""Which engine runs a model on this machine."""

from __future__ import annotations

from typing import Literal

import numpy as np
from transformers import PreTrainedModel

from collapselab import ranks
from collapselab.engine.families import Decoder, read_decoder
from collapselab.engine.interface import Engine, Precision, Scorer
from collapselab.engine.library import kernels
from collapselab.engine.native import NativeEngine
from collapselab.engine.plain import PlainEngine
from collapselab.engine.static import StaticEngine
from collapselab.errors import InputError

PROBE_TOKENS = 256
SAME_LOGITS = 1e-4  # of the largest; rounding makes up some 1e-6 of it

EngineName = Literal["auto", "native", "static", "plain"]


def make_engines(
    model: PreTrainedModel, name: EngineName, *, write: Precision, score: Precision, is_changed: bool = False
) -> tuple[Engine, Scorer]:
    """An engine that writes and one that evaluates, each in its precision.

    `auto`: for the GPT-2 and Llama families native on a CPU with a C compiler, else static; for all others plain.
    Evaluation in float32 on a CPU is always plain: torch is good at many rows at once. A model that only the
    plain engine can run is evaluated in float32. A model whose code may be changed (`is_changed`) must give the same
    logits by the plain way and by the fast one.

    Raises:
        InputError: the named engine cannot run the model here, or cannot write in bfloat16.
    """
    decoder = read_decoder(model) if name != "plain" and ranks.size() == 1 else None
    plain = PlainEngine(model)
    if decoder is not None and is_changed and not _agree(plain, StaticEngine(decoder, "float32"), decoder):
        decoder = None
    if decoder is None:
        if name in ("native", "static"):
            rule = f"engine {name} runs only the GPT-2 and Llama families in their usual forms"
            raise InputError(f"{rule}, received {type(model).__name__}", "use `engine='auto'`")
        if write == "bfloat16":
            rule = "only the plain engine can run this model, and it writes in float32"
            raise InputError(f"{rule}, received numerics.write bfloat16", "use `**{\"numerics.write\": 'float32'}`")
        return plain, plain
    is_cpu = model.device.type == "cpu"
    if name == "native" and not is_cpu:
        raise InputError(f"engine native needs the CPU, received device {model.device.type}", "use `engine='auto'`")
    library = kernels().library if is_cpu and name != "static" else None
    if name == "native" and library is None:
        rule = f"engine native needs its C kernels, and they are off: {kernels().why_off}"
        raise InputError(rule, "install a C compiler with OpenMP (gcc), or use `engine='auto'`")
    exact = plain if is_cpu else StaticEngine(decoder, "float32")
    if library is None:
        return StaticEngine(decoder, write), exact if score == "float32" else StaticEngine(decoder, score)
    writer = NativeEngine(library, decoder, write, plain)
    if score == "float32":
        return writer, exact
    return writer, writer if write == score else NativeEngine(library, decoder, score, plain)


def _agree(plain: Engine, fast: Engine, decoder: Decoder) -> bool:
    """Whether two engines give the same logits at every position of a text."""
    num_tokens, length = decoder.embedding.shape[0], min(PROBE_TOKENS, decoder.num_positions)
    tokens = np.random.default_rng(0).integers(0, num_tokens, length).tolist()
    for engine in (plain, fast):
        engine.begin(1, length)
    one, other = (engine.read([tokens], [0]).cpu() for engine in (plain, fast))
    return bool((one - other).abs().max() <= SAME_LOGITS * one.abs().max())
