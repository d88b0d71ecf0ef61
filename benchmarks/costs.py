"""The minimum cost of a step: the bytes it reads and its operations, divided by the machine's rates. Without torch.

Weights, keys and values, matrix products and causal attention count; activations, the softmax over the vocabulary and
sampling do not, so the results are floors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, cast

from benchmarks.measure import Spread
from benchmarks.workload import Workload

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
NUM_PROMPT = 1  # the end-of-text token before a sample
FLOAT32_BYTES = 4
# A fused AdamW reads weight, gradient and two moments and writes all but the gradient, in float32.
ADAMW_BYTES = 7 * FLOAT32_BYTES
TRAINING_COPIES = 4  # weights, gradients and two moments


@dataclass(frozen=True)
class Size:
    """The numbers of a model that determine its cost.

    `read_parameters`: read for every token: all except tables looked up by row. `body_parameters`,
    `head_parameters`: multiplied by every position, in the layers and for the logits. `attention_width`,
    `kv_width`: of all query heads, and of all keys (or values), per layer.
    """

    parameters: int
    read_parameters: int
    body_parameters: int
    head_parameters: int
    layers: int
    attention_width: int
    kv_width: int

    @property
    def training_bytes(self) -> int:
        """Weights, gradients and AdamW's two moments in float32."""
        return TRAINING_COPIES * FLOAT32_BYTES * self.parameters


@dataclass(frozen=True)
class Ceilings:
    """The best measured rates: bytes read per second, operations per second in float32 and bfloat16 (multiply-add: 2).

    `rates` has the rate of every kernel by name: "read sum", "float32 1024x768x3072", …
    """

    read_bytes_per_s: float
    float32_flops_per_s: float
    bfloat16_flops_per_s: float
    rates: Mapping[str, Spread]


@dataclass(frozen=True)
class Rates:
    """The ceilings for one kind of numerics."""

    read_bytes_per_s: float
    flops_per_s: float
    bytes_per_weight: int


def size_of(model: PreTrainedModel) -> Size:
    """The size of a dense causal language model of `transformers`."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    looked_up = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    products = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, (nn.Linear, Conv1D))}
    head = cast(nn.Linear, cast(Any, model).get_output_embeddings()).weight
    parameters = sum(p.numel() for p in model.parameters())
    config: Any = model.config
    heads, key_heads = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Size(
        parameters=parameters,
        read_parameters=parameters - sum(n for key, n in looked_up.items() if key not in products),
        body_parameters=sum(n for key, n in products.items() if key != id(head)),
        head_parameters=head.numel(),
        layers=config.num_hidden_layers,
        attention_width=heads * head_width,
        kv_width=(key_heads or heads) * head_width,
    )


def rates_for(dtype: Dtype, ceilings: Ceilings) -> Rates:
    """The ceilings for weights and products of that type."""
    if dtype == "bfloat16":
        return Rates(ceilings.read_bytes_per_s, ceilings.bfloat16_flops_per_s, 2)
    return Rates(ceilings.read_bytes_per_s, ceilings.float32_flops_per_s, FLOAT32_BYTES)


def typical(ceilings: Sequence[Ceilings]) -> Ceilings:
    """The median of each ceiling over several probes."""
    return Ceilings(
        median(c.read_bytes_per_s for c in ceilings),
        median(c.float32_flops_per_s for c in ceilings),
        median(c.bfloat16_flops_per_s for c in ceilings),
        {},
    )


def floors(size: Size, workload: Workload, rates: Rates) -> dict[str, float]:
    """The minimum seconds of each phase of a turn."""
    return {
        "generate": generate_floor_s(size, workload, rates),
        "evaluate": evaluate_flops(size, workload) / rates.flops_per_s,
        "update": update_floor_s(size, workload, rates),
    }


def generate_floor_s(size: Size, workload: Workload, rates: Rates) -> float:
    """Each token reads the weights once and computes one position with the cache, or the whole window when cropping."""
    seconds = 0.0
    for num_read in range(NUM_PROMPT, NUM_PROMPT + workload.max_new_tokens):
        is_cropped = workload.context is not None and num_read > workload.context
        positions = cast(int, workload.context) if is_cropped else 1
        attended = positions * (positions + 1) // 2 if is_cropped else num_read
        flops = 2 * (size.body_parameters * positions + size.head_parameters) + attention_flops(size, attended)
        cached = 0 if is_cropped else kv_bytes(size, num_read, rates.bytes_per_weight)
        num_bytes = size.read_parameters * rates.bytes_per_weight + workload.batch_size * cached
        seconds += max(num_bytes / rates.read_bytes_per_s, workload.batch_size * flops / rates.flops_per_s)
    return seconds


def decode_bytes(size: Size, workload: Workload, bytes_per_weight: int) -> int:
    """Bytes that writing a sample with a cache must read: weights once per token, and the keys and values so far."""
    cached = sum(
        kv_bytes(size, NUM_PROMPT + i, bytes_per_weight) * workload.batch_size for i in range(workload.max_new_tokens)
    )
    return workload.max_new_tokens * size.read_parameters * bytes_per_weight + cached


def evaluate_flops(size: Size, workload: Workload) -> float:
    """Operations of one evaluation: every position of every window, logits included."""
    n = workload.window_tokens
    of_window = 2 * (size.body_parameters + size.head_parameters) * n + attention_flops(size, n * (n + 1) // 2)
    return float(workload.num_windows * of_window)


def update_floor_s(size: Size, workload: Workload, rates: Rates) -> float:
    """Forward and backward (three times the forward's operations), then the optimiser's traffic in float32."""
    n = NUM_PROMPT + workload.max_new_tokens - 1
    forward = 2 * (size.body_parameters + size.head_parameters) * n + attention_flops(size, n * (n + 1) // 2)
    compute = 3 * workload.batch_size * forward / rates.flops_per_s
    return compute + ADAMW_BYTES * size.parameters / rates.read_bytes_per_s


def attention_flops(size: Size, pairs: int) -> int:
    """Operations of scores and weighted sums in all layers, for this number of (query, key) pairs."""
    return 4 * size.layers * size.attention_width * pairs


def kv_bytes(size: Size, positions: int, bytes_per_value: int) -> int:
    """Bytes of the keys and values of a sequence."""
    return 2 * size.layers * size.kv_width * positions * bytes_per_value
