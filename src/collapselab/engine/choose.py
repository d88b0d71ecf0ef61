"""Which engine runs a model on this machine."""

from __future__ import annotations

from typing import Literal

from transformers import PreTrainedModel

from collapselab.engine.families import read_decoder
from collapselab.engine.interface import Engine, Precision, Scorer
from collapselab.engine.library import kernels
from collapselab.engine.native import NativeEngine
from collapselab.engine.plain import PlainEngine
from collapselab.engine.static import StaticEngine
from collapselab.errors import InputError

EngineName = Literal["auto", "native", "static", "plain"]


def make_engines(
    model: PreTrainedModel, name: EngineName, *, write: Precision, score: Precision
) -> tuple[Engine, Scorer]:
    """An engine that writes and one that evaluates, each in its precision.

    `auto`: for the GPT-2 and Llama families native on a CPU with a C compiler, else static; for all others plain.
    Evaluation in float32 on a CPU is always plain: torch is good at many rows at once. A model that only the
    plain engine can run is evaluated in float32.

    Raises:
        InputError: the named engine cannot run the model here, or cannot write in bfloat16.
    """
    decoder = read_decoder(model) if name != "plain" else None
    plain = PlainEngine(model)
    if decoder is None:
        if name in ("native", "static"):
            rule = f"engine {name} runs only the GPT-2 and Llama families in their usual forms"
            raise InputError(f"{rule}, received {type(model).__name__}", "use --engine auto")
        if write == "bfloat16":
            rule = "only the plain engine can run this model, and it writes in float32"
            raise InputError(f"{rule}, received numerics.write bfloat16", "use --numerics.write float32")
        return plain, plain
    is_cpu = model.device.type == "cpu"
    if name == "native" and not is_cpu:
        raise InputError(f"engine native needs the CPU, received device {model.device.type}", "use --engine auto")
    library = kernels().library if is_cpu and name != "static" else None
    if name == "native" and library is None:
        rule = f"engine native needs its C kernels, and they are off: {kernels().why_off}"
        raise InputError(rule, "install a C compiler with OpenMP (gcc), or use --engine auto")
    exact = plain if is_cpu else StaticEngine(decoder, "float32")
    if library is None:
        return StaticEngine(decoder, write), exact if score == "float32" else StaticEngine(decoder, score)
    writer = NativeEngine(library, decoder, write, plain)
    if score == "float32":
        return writer, exact
    return writer, writer if write == score else NativeEngine(library, decoder, score, plain)
