"""GPT-2 and Llama in torch with a preallocated cache: needs no compiler, and a GPU can capture it as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, rms_norm, scaled_dot_product_attention, silu

from collapselab.config.schema import Sampling
from collapselab.engine.families import Decoder, Layer, Linear, Norm
from collapselab.engine.interface import Draw, Precision
from collapselab.engine.numerics import round_at_random
from collapselab.engine.plain import ROWS_PER_CHUNK, draw_plainly, nll_of_logits


@dataclass
class _Cache:
    """Keys and values (layers, B, heads, T, head_dim) in float32, and the graph that reads and writes them."""

    keys: Tensor
    values: Tensor
    graph: _Graph | None = None


class _Place(NamedTuple):
    """Where new tokens are: their positions, and what depends on nothing else, for all layers.

    `end`: how much of the cache attention sees. `bias_T`: 0 at positions a single new token sees, -infinity elsewhere.
    """

    positions_T: Tensor
    end: int
    mask_TS: Tensor | None = None
    bias_T: Tensor | None = None


class StaticEngine:
    """Reads the module's float32 weights in place, or bfloat16 copies of its matrices."""

    name = "static"
    is_ragged = False

    def __init__(self, decoder: Decoder, precision: Precision) -> None:
        self._decoder, self._precision = decoder, precision
        self._device = decoder.embedding.device
        self._copies: dict[int, Tensor] = {}  # by the first of the matrices that read the same input
        self._is_stale = True  # whether the copies are older than the weights
        self._caches: dict[tuple[int, int], _Cache] = {}  # samples and probes take turns, each with its graph
        self._cache = _Cache(torch.empty(0), torch.empty(0))
        self._length = 0

    def weights_changed(self) -> None:
        self._is_stale = True

    def begin(self, num_sequences: int, length: int) -> None:
        self._refresh()
        shape = num_sequences, length
        if shape not in self._caches:
            self._caches[shape] = self._new_cache(*shape)
        self._cache = self._caches[shape]
        # A graph attends to all positions, to later ones with weight 0; but 0 times a NaN left there is NaN.
        self._cache.keys.zero_()
        self._cache.values.zero_()
        self._length = 0

    @torch.no_grad()
    def read(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], *, last_only: bool = False) -> Tensor:
        assert set(starts) == {self._length}, starts
        tokens_BT = torch.tensor([list(t) for t in tokens], device=self._device)
        start, end = starts[0], starts[0] + tokens_BT.shape[1]
        self._length = end
        if self._device.type == "cuda" and tokens_BT.shape[1] == 1:
            return self._graphed(tokens_BT, start)
        positions_T = torch.arange(start, end, device=self._device)
        mask_TS = None if end == start + 1 else torch.arange(end, device=self._device) <= positions_T[:, None]
        hidden_BTW = self._forward(tokens_BT, _Place(positions_T, end, mask_TS))
        return self._logits((hidden_BTW[:, -1:] if last_only else hidden_BTW).flatten(0, 1))

    def reread(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        self.begin(len(tokens), len(tokens[0]))
        return self.read(tokens, [0] * len(tokens), last_only=True)

    def draw(self, logits_RV: Tensor, noise_RV: Tensor, rule: Sampling) -> list[Draw]:
        return draw_plainly(logits_RV, noise_RV, rule)

    def write(self, token: int, position: int, noise_RV: Tensor, rule: Sampling, stop_token: int | None) -> list[Draw]:
        return []

    @torch.no_grad()
    def score(self, tokens_BT: Tensor, num_context: int) -> Tensor:
        num_sequences, length = tokens_BT.shape
        self._refresh()
        self._cache = self._new_cache(num_sequences, length)
        tokens_BT = tokens_BT.to(self._device)
        positions_T = torch.arange(length, device=self._device)
        hidden_BTW = self._forward(tokens_BT, _Place(positions_T, length, positions_T <= positions_T[:, None]))
        hidden_RW = hidden_BTW[:, num_context - 1 : -1].flatten(0, 1)
        targets_R = tokens_BT[:, num_context:].flatten()
        chunks = [slice(begin, begin + ROWS_PER_CHUNK) for begin in range(0, len(targets_R), ROWS_PER_CHUNK)]
        parts = [nll_of_logits(self._logits(hidden_RW[c]), targets_R[c]) for c in chunks]
        return torch.cat(parts).view(num_sequences, -1).cpu()

    def _new_cache(self, num_sequences: int, length: int) -> _Cache:
        d = self._decoder
        shape = (len(d.layers), num_sequences, d.num_kv_heads, length, d.head_dim)
        return _Cache(torch.zeros(shape, device=self._device), torch.zeros(shape, device=self._device))

    def _refresh(self) -> None:
        if self._precision == "float32" or not self._is_stale:
            return
        of_layers = [group for layer in self._decoder.layers for group in (layer.qkv, (layer.out,), layer.up)]
        downs = [(layer.down,) for layer in self._decoder.layers]
        for matrices in (*of_layers, *downs, (self._decoder.head,)):
            parts = [round_at_random(matrix.weight) for matrix in matrices]
            rounded = parts[0] if len(parts) == 1 else torch.cat(parts)
            if matrices[0] is self._decoder.head:
                # GPT-2's logits are around -100, where bfloat16 has steps of a half: this product is in float32.
                rounded = rounded.float()
            kept = self._copies.setdefault(id(matrices[0]), rounded)
            if kept is not rounded:
                kept.copy_(rounded)  # in place: a captured graph reads this memory
        self._is_stale = False

    def _forward(self, tokens_BT: Tensor, place: _Place) -> Tensor:
        """Normed hidden states (B, T, width)."""
        d = self._decoder
        x_BTW = embedding(tokens_BT, d.embedding)
        if d.positions is not None:
            x_BTW = x_BTW + d.positions[place.positions_T]
        rotation = None
        if d.cosines is not None and d.sines is not None:
            rotation = d.cosines[place.positions_T], d.sines[place.positions_T]
        for index, layer in enumerate(d.layers):
            x_BTW = x_BTW + self._attention(index, layer, self._norm(layer.norm_1, x_BTW), place, rotation)
            up_BTI = self._linear(layer.up, self._norm(layer.norm_2, x_BTW))
            if len(layer.up) == 1:
                active_BTI = gelu(up_BTI, approximate="tanh")
            else:
                gate_BTI, up_BTI = up_BTI.chunk(2, -1)
                active_BTI = silu(gate_BTI) * up_BTI
            x_BTW = x_BTW + self._linear((layer.down,), active_BTI)
        return self._norm(d.final_norm, x_BTW)

    def _attention(
        self, index: int, layer: Layer, x_BTW: Tensor, place: _Place, rotation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        d, (num_sequences, length) = self._decoder, x_BTW.shape[:2]
        heads_BHTD = self._linear(layer.qkv, x_BTW).view(num_sequences, length, -1, d.head_dim).transpose(1, 2)
        first_value = d.num_heads + d.num_kv_heads
        qk_BHTD, v_BHTD = heads_BHTD[:, :first_value], heads_BHTD[:, first_value:]
        if rotation is not None:
            qk_BHTD = _rotated(qk_BHTD, *rotation)
        q_BHTD = qk_BHTD[:, : d.num_heads]
        keys_BHTD, values_BHTD = self._cache.keys[index], self._cache.values[index]
        keys_BHTD.index_copy_(2, place.positions_T, qk_BHTD[:, d.num_heads :])
        values_BHTD.index_copy_(2, place.positions_T, v_BHTD)
        if place.bias_T is not None:
            mixed_BHTD = _attend_one(q_BHTD, keys_BHTD, values_BHTD, place.bias_T)
        else:
            keys_BHTD, values_BHTD = keys_BHTD[:, :, : place.end], values_BHTD[:, :, : place.end]
            is_grouped = d.num_heads != d.num_kv_heads
            mixed_BHTD = scaled_dot_product_attention(
                q_BHTD, keys_BHTD, values_BHTD, place.mask_TS, enable_gqa=is_grouped
            )
        return self._linear((layer.out,), mixed_BHTD.transpose(1, 2).reshape(num_sequences, length, -1))

    def _norm(self, norm: Norm, x: Tensor) -> Tensor:
        shape, eps = norm.weight.shape, self._decoder.eps
        if norm.bias is None:
            return rms_norm(x, shape, norm.weight, eps)
        return layer_norm(x, shape, norm.weight, norm.bias, eps)

    def _linear(self, matrices: Sequence[Linear], x: Tensor) -> Tensor:
        """The outputs of matrices that read the same input, next to each other; from copies in one product."""
        copy = self._copies.get(id(matrices[0]))
        weights = [matrix.weight for matrix in matrices] if copy is None else [copy]
        is_in_out, x = matrices[0].is_in_out, x.to(weights[0].dtype)
        y = _joined([linear(x, weight.T if is_in_out else weight) for weight in weights]).float()
        biases = [matrix.bias for matrix in matrices if matrix.bias is not None]
        return y + _joined(biases) if biases else y

    def _logits(self, hidden_RW: Tensor) -> Tensor:
        head = self._decoder.head
        return linear(hidden_RW, self._copies.get(id(head), head.weight), head.bias)

    def _graphed(self, tokens_BT: Tensor, position: int) -> Tensor:
        if self._cache.graph is None:
            self._cache.graph = _Graph(self, tokens_BT, position)
        return self._cache.graph.replay(tokens_BT, position)

    def one_token(self, tokens_BT: Tensor, position_T: Tensor) -> Tensor:
        """Logits (B, V) after one token at a position that is data, so that one graph serves all positions."""
        length = self._cache.keys.shape[3]
        is_seen_T = torch.arange(length, device=self._device) <= position_T
        bias_T = torch.zeros(length, device=self._device).masked_fill(~is_seen_T, -torch.inf)
        return self._logits(self._forward(tokens_BT, _Place(position_T, length, bias_T=bias_T))[:, -1])


class _Graph:
    """One decoding step as a CUDA graph; it reads the weights in place, so it stays valid when they change."""

    def __init__(self, engine: StaticEngine, tokens_BT: Tensor, position: int) -> None:
        # Captured at the position asked for: warming up writes to the cache there.
        self._tokens_BT = tokens_BT.clone()
        self._position_T = torch.tensor([position], device="cuda")
        stream: Any = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # capturing needs a warm allocator
            for _ in range(3):
                engine.one_token(self._tokens_BT, self._position_T)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Another thread may be reading the weights for a checkpoint; its calls do not concern the capture.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits_BV = engine.one_token(self._tokens_BT, self._position_T)

    def replay(self, tokens_BT: Tensor, position: int) -> Tensor:
        self._tokens_BT.copy_(tokens_BT)
        self._position_T.fill_(position)
        self._graph.replay()
        return self._logits_BV.clone()


def _rotated(x_BHTD: Tensor, cosines_TD: Tensor, sines_TD: Tensor) -> Tensor:
    low, high = x_BHTD.chunk(2, -1)
    return x_BHTD * cosines_TD + torch.cat([-high, low], -1) * sines_TD


def _attend_one(q_BHTD: Tensor, keys_BHTD: Tensor, values_BHTD: Tensor, bias_T: Tensor) -> Tensor:
    """Attention of one token to all positions, in few kernels: a GPU spends a decoding step on starting them."""
    keys, values = keys_BHTD.flatten(0, 1), values_BHTD.flatten(0, 1)
    groups = q_BHTD.reshape(len(keys), -1, q_BHTD.shape[-1])
    scores = torch.baddbmm(bias_T, groups, keys.transpose(1, 2), alpha=q_BHTD.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(-1), values).view_as(q_BHTD)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)
