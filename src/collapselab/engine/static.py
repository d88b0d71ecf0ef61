"""GPT-2 and Llama in torch with a preallocated cache: needs no compiler, and a GPU can capture it as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, rms_norm, scaled_dot_product_attention, silu

from collapselab.config.schema import Sampling
from collapselab.engine.families import Decoder, Layer, Linear, Norm
from collapselab.engine.interface import Drawn, Precision
from collapselab.engine.numerics import round_at_random
from collapselab.engine.plain import ROWS_PER_CHUNK, draw_plainly, nll_of_logits


class StaticEngine:
    """Reads the module's float32 weights in place, or bfloat16 copies of its matrices."""

    name = "static"
    is_ragged = False

    def __init__(self, decoder: Decoder, precision: Precision) -> None:
        self._decoder, self._precision = decoder, precision
        self._device = decoder.embedding.device
        self._copies: dict[int, Tensor] = {}
        self._is_stale = True  # whether the copies are older than the weights
        self._keys = self._values = torch.empty(0)
        self._length = 0
        self._graph: _Graph | None = None

    def weights_changed(self) -> None:
        self._is_stale = True

    def begin(self, num_sequences: int, length: int) -> None:
        self._refresh()
        d = self._decoder
        shape = (len(d.layers), num_sequences, d.num_kv_heads, length, d.head_dim)
        if self._keys.shape != shape:
            dtype = torch.float32 if self._precision == "float32" else torch.bfloat16
            self._keys = torch.zeros(shape, dtype=dtype, device=self._device)
            self._values = torch.zeros_like(self._keys)
            self._graph = None
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
        hidden_BTW = self._forward(tokens_BT, positions_T, end, mask_TS)
        return self._logits((hidden_BTW[:, -1:] if last_only else hidden_BTW).flatten(0, 1))

    def reread(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        self.begin(len(tokens), len(tokens[0]))
        return self.read(tokens, [0] * len(tokens), last_only=True)

    def draw(self, logits_RV: Tensor, noise_RV: Tensor, rule: Sampling) -> Drawn:
        return draw_plainly(logits_RV, noise_RV, rule)

    @torch.no_grad()
    def score(self, tokens_BT: Tensor, num_context: int) -> Tensor:
        num_sequences, length = tokens_BT.shape
        self.begin(num_sequences, length)
        tokens_BT = tokens_BT.to(self._device)
        positions_T = torch.arange(length, device=self._device)
        hidden_BTW = self._forward(tokens_BT, positions_T, length, positions_T <= positions_T[:, None])
        hidden_RW = hidden_BTW[:, num_context - 1 : -1].flatten(0, 1)
        targets_R = tokens_BT[:, num_context:].flatten()
        chunks = [slice(begin, begin + ROWS_PER_CHUNK) for begin in range(0, len(targets_R), ROWS_PER_CHUNK)]
        parts = [nll_of_logits(self._logits(hidden_RW[c]), targets_R[c]) for c in chunks]
        return torch.cat(parts).view(num_sequences, -1).cpu()

    def _refresh(self) -> None:
        if self._precision == "float32" or not self._is_stale:
            return
        for matrix in self._decoder.linears:
            rounded = round_at_random(matrix.weight)
            kept = self._copies.setdefault(id(matrix), rounded)
            if kept is not rounded:
                kept.copy_(rounded)  # in place: a captured graph reads this memory
        self._is_stale = False

    def _forward(self, tokens_BT: Tensor, positions_T: Tensor, end: int, mask_TS: Tensor | None) -> Tensor:
        """Normed hidden states (B, T, width); attention sees the first `end` positions of the cache."""
        d = self._decoder
        x_BTW = embedding(tokens_BT, d.embedding)
        if d.positions is not None:
            x_BTW = x_BTW + d.positions[positions_T]
        for index, layer in enumerate(d.layers):
            x_BTW = x_BTW + self._attention(index, layer, self._norm(layer.norm_1, x_BTW), positions_T, end, mask_TS)
            normed_BTW = self._norm(layer.norm_2, x_BTW)
            up = [self._linear(matrix, normed_BTW) for matrix in layer.up]
            active = gelu(up[0], approximate="tanh") if len(up) == 1 else silu(up[0]) * up[1]
            x_BTW = x_BTW + self._linear(layer.down, active)
        return self._norm(d.final_norm, x_BTW)

    def _attention(
        self, index: int, layer: Layer, x_BTW: Tensor, positions_T: Tensor, end: int, mask_TS: Tensor | None
    ) -> Tensor:
        d, (num_sequences, length) = self._decoder, x_BTW.shape[:2]
        qkv = torch.cat([self._linear(matrix, x_BTW) for matrix in layer.qkv], -1)
        heads_BHTD = qkv.view(num_sequences, length, -1, d.head_dim).transpose(1, 2)
        first_value = d.num_heads + d.num_kv_heads
        q, k, v = heads_BHTD[:, : d.num_heads], heads_BHTD[:, d.num_heads : first_value], heads_BHTD[:, first_value:]
        if d.cosines is not None and d.sines is not None:
            cosines_TD, sines_TD = d.cosines[positions_T], d.sines[positions_T]
            q, k = _rotated(q, cosines_TD, sines_TD), _rotated(k, cosines_TD, sines_TD)
        keys, values = self._keys[index], self._values[index]
        keys.index_copy_(2, positions_T, k.to(keys.dtype))
        values.index_copy_(2, positions_T, v.to(values.dtype))
        mixed = scaled_dot_product_attention(
            q.to(keys.dtype), keys[:, :, :end], values[:, :, :end], mask_TS, enable_gqa=d.num_heads != d.num_kv_heads
        )
        return self._linear(layer.out, mixed.transpose(1, 2).reshape(num_sequences, length, -1))

    def _norm(self, norm: Norm, x: Tensor) -> Tensor:
        shape, eps = norm.weight.shape, self._decoder.eps
        if norm.bias is None:
            return rms_norm(x, shape, norm.weight, eps)
        return layer_norm(x, shape, norm.weight, norm.bias, eps)

    def _linear(self, matrix: Linear, x: Tensor) -> Tensor:
        weight = self._copies.get(id(matrix), matrix.weight)
        y = linear(x.to(weight.dtype), weight.T if matrix.is_in_out else weight).float()
        return y if matrix.bias is None else y + matrix.bias

    def _logits(self, hidden_RW: Tensor) -> Tensor:
        # GPT-2's logits are around -100, where bfloat16 has steps of a half: this product stays in float32.
        head = self._decoder.head
        weight = self._copies.get(id(head), head.weight).float()
        return linear(hidden_RW, weight, head.bias)

    def _graphed(self, tokens_BT: Tensor, position: int) -> Tensor:
        if self._graph is None:
            self._graph = _Graph(self, tokens_BT, position)
        return self._graph.replay(tokens_BT, position)

    def one_token(self, tokens_BT: Tensor, position_T: Tensor) -> Tensor:
        """Logits (B, V) after one token at a position that is data, so that one graph serves all positions."""
        length = self._keys.shape[3]
        mask_TS = torch.arange(length, device=self._device)[None] <= position_T[:, None]
        return self._logits(self._forward(tokens_BT, position_T, length, mask_TS)[:, -1])


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
        with torch.cuda.graph(self._graph):
            self._logits_BV = engine.one_token(self._tokens_BT, self._position_T)

    def replay(self, tokens_BT: Tensor, position: int) -> Tensor:
        self._tokens_BT.copy_(tokens_BT)
        self._position_T.fill_(position)
        self._graph.replay()
        return self._logits_BV.clone()


def _rotated(x_BHTD: Tensor, cosines_TD: Tensor, sines_TD: Tensor) -> Tensor:
    low, high = x_BHTD.chunk(2, -1)
    return x_BHTD * cosines_TD + torch.cat([-high, low], -1) * sines_TD
