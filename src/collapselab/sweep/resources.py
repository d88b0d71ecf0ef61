"""How many parallel runs, with how many threads each: from the models' sizes and the machine's cores and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any, cast

from collapselab.config.schema import RunConfig

SMALL_PARAMETERS = 30_000_000  # below this, one thread is enough: a token costs more dispatch than arithmetic
BYTES_PER_PARAMETER = 16  # weights, gradients and two moments, in float32
GIB = 2**30


@dataclass(frozen=True)
class Share:
    """How the workers divide a machine."""

    num_workers: int
    num_threads: int


@dataclass(frozen=True)
class Needs:
    """What one run needs on a cluster. `memory_gib` None: unknown; `minutes`: the wall time of one attempt."""

    num_cpus: int
    num_gpus: float
    memory_gib: float | None
    minutes: int


def needs(
    configs: Sequence[RunConfig],
    *,
    num_cpus: int | None = None,
    num_gpus: float | None = None,
    memory_gib: float | None = None,
    minutes: int,
) -> Needs:
    """What the largest of these runs needs on a cluster; what is given takes precedence.

    A core for each thread (one for small models, otherwise four), a GPU for `device = "cuda"`, and as much memory as
    `share` counts, plus half of it and 1 GiB for libraries, since a cluster kills what exceeds it.
    """
    sizes = [num_parameters(model) for model in {config.model for config in configs}]
    largest = None if None in sizes else max(size for size in sizes if size is not None)
    is_small = largest is not None and largest < SMALL_PARAMETERS
    threads = max((config.threads or 0 for config in configs), default=0) or (1 if is_small else 4)
    on_gpu = any(config.device != "cpu" for config in configs)
    if memory_gib is None and largest is not None:
        memory_gib = ceil(1.5 * run_gib(largest) + 1.0)
    return Needs(num_cpus or threads, (1.0 if on_gpu else 0.0) if num_gpus is None else num_gpus, memory_gib, minutes)


def run_gib(parameters: float) -> float:
    """The memory of a run of a model of that size: weights, gradients and moments, and 1 GiB for the rest."""
    return parameters * BYTES_PER_PARAMETER / GIB + 1.0


def peak_memory(model: str, num_devices: int = 1) -> str:
    """What a run needs of each device's memory, in words, as far as that is known before the weights are read."""
    parameters, each = num_parameters(model), "" if num_devices == 1 else f" on each of {num_devices} devices"
    if parameters is None:
        return "peak memory unknown"
    return f"peak memory about {run_gib(parameters / num_devices):.1f} GiB{each}"


def share(configs: Sequence[RunConfig], num_workers: int | None, *, num_cores: int, memory_gib: float | None) -> Share:
    """The workers for these runs, and the threads of each.

    Small models get one thread, and a worker for each core. Larger ones get as many workers as fit in memory (16 bytes
    per parameter and 1 GiB), and the cores are divided among them; if a model's size is unknown, one worker has all.
    A number of threads in the configuration (`threads`), or of workers here, takes precedence.
    """
    assert configs and num_cores >= 1
    sizes = [num_parameters(model) for model in {config.model for config in configs}]
    largest = None if None in sizes else max(size for size in sizes if size is not None)
    is_small = largest is not None and largest < SMALL_PARAMETERS
    given = max((config.threads or 0 for config in configs), default=0)
    if num_workers is None:
        fitting = len(configs) if is_small and memory_gib is None else _fitting(largest, memory_gib)
        num_workers = max(1, min(num_cores // (given or 1), fitting))
    num_workers = min(num_workers, len(configs))
    return Share(num_workers, given or (1 if is_small else max(1, num_cores // num_workers)))


def _fitting(parameters: int | None, memory_gib: float | None) -> int:
    """How many runs fit in memory; one, if that cannot be known."""
    if parameters is None or memory_gib is None:
        return 1
    return int(memory_gib / run_gib(parameters))


def num_parameters(model: str) -> int | None:
    """The size of a named model or one in a folder; None for others (a hub id, a GGUF file)."""
    from collapselab.inputs.models import model_names

    named = {info.name: info.num_parameters for info in model_names()}
    try:
        folder = Path(model).expanduser()
        if model in named or not folder.is_dir():
            return named.get(model)
    except (OSError, RuntimeError):  # no name of a folder; the run will report it
        return None
    from safetensors import SafetensorError

    try:
        return sum(map(_num_weights, folder.glob("*.safetensors"))) or None
    except (OSError, SafetensorError):  # a broken file; the run will report it
        return None


def _num_weights(file: Path) -> int:
    """The numbers in a safetensors file; only its header is read."""
    from safetensors import safe_open

    with cast(Any, safe_open)(file, framework="np") as tensors:
        names: list[str] = tensors.keys()
        return sum(prod(tensors.get_slice(name).get_shape()) for name in names)
