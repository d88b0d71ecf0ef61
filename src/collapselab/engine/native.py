"""Decoding and scoring in the C kernels: static cache, float32 weights read in place, or a packed bfloat16 copy."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from collapselab.config.schema import Sampling
from collapselab.engine.families import Decoder, Layer, Linear, Norm
from collapselab.engine.interface import Draw, Precision
from collapselab.engine.library import CCache, CLayer, CLinear, CModel, CNorm
from collapselab.engine.plain import PlainEngine, draw_plainly

# Below this many weights a token takes about 50 µs, and a second thread hardly helps.
ONE_THREAD_WEIGHTS = 1_000_000

# Below this many weights a call from Python takes a good part of the time of a token, and 16 rows several times as long
FEW_WEIGHTS = 10_000_000

NUM_MEASURES = len(Draw._fields) - 1  # `Measures` of sampling.c

# Tokens read at a time: the float32 kernels are built for few rows; bfloat16 products should stay in the caches.
ROWS_FLOAT32, ROWS_PACKED = 16, 1024


class NativeEngine:
    """A model as the kernels see it: its float32 weights in place, or a packed bfloat16 copy.

    `plain` handles what the kernels are not built for: many tokens at once in float32.
    """

    name = "native"
    is_ragged = True

    def __init__(self, library: Any, decoder: Decoder, precision: Precision, plain: PlainEngine) -> None:
        self._library, self._decoder, self._plain = library, decoder, plain
        self._is_packed = precision == "bfloat16"
        self._packed = self._make_room_for_packed() if self._is_packed else {}
        self._layers = (CLayer * len(decoder.layers))(*(self._c_layer(layer) for layer in decoder.layers))
        self._model = self._c_model()
        self._num_weights = sum(linear.weight.numel() for linear in decoder.linears)
        self._is_stale = self._is_packed  # whether the packed copy is older than the weights
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._cache = CCache()
        self._sizes: dict[tuple[int, int], int] = {}
        self._keys = self._values = torch.empty(0)

    def weights_changed(self) -> None:
        self._is_stale = self._is_packed

    def begin(self, num_sequences: int, length: int) -> None:
        self._refresh()
        d, length = self._decoder, -(-length // 16) * 16
        size = len(d.layers) * num_sequences * d.num_kv_heads * length * d.head_dim
        if self._keys.numel() < size:
            self._keys, self._values = torch.zeros(size), torch.zeros(size)
        self._cache = CCache(self._keys.data_ptr(), self._values.data_ptr(), num_sequences, length)
        self._sizes = {}

    def read(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], *, last_only: bool = False) -> Tensor:
        flat = [t for row in tokens for t in row]
        sequences = [b for b, row in enumerate(tokens) for _ in row]
        positions = [s + i for s, row in zip(starts, tokens, strict=True) for i in range(len(row))]
        step = ROWS_PACKED if self._is_packed else ROWS_FLOAT32
        chunks = range(0, len(flat), step)
        parts = [self._hidden(flat[c : c + step], sequences[c : c + step], positions[c : c + step]) for c in chunks]
        hidden_RW = parts[0] if len(parts) == 1 else torch.cat(parts)
        if last_only and len(flat) > len(tokens):
            ends_B = torch.tensor([len(row) for row in tokens]).cumsum(0) - 1
            hidden_RW = hidden_RW[ends_B].contiguous()
        return self._logits(hidden_RW)

    def reread(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        if not self._is_packed:
            return self._plain.reread(tokens)
        self.begin(len(tokens), len(tokens[0]))
        return self.read(tokens, [0] * len(tokens), last_only=True)

    def draw(self, logits_RV: Tensor, noise_RV: Tensor, rule: Sampling) -> list[Draw]:
        if not _takes_one_pass(rule):
            return draw_plainly(logits_RV, noise_RV, rule)
        rows, vocab = logits_RV.shape
        assert noise_RV.shape == logits_RV.shape, (noise_RV.shape, logits_RV.shape)
        assert noise_RV.dtype == torch.float32 and noise_RV.is_contiguous() and logits_RV.is_contiguous()
        drawn, threads = _Drawn(rows), self._threads(rows)
        self._library.draw_tokens(
            logits_RV.data_ptr(),
            noise_RV.data_ptr(),
            rows,
            vocab,
            *_rule(rule, vocab),
            drawn.tokens,
            drawn.measures,
            self._room(4 * vocab * min(rows, threads)),
            threads,
        )
        return drawn.first(rows)

    def write(self, token: int, position: int, noise_RV: Tensor, rule: Sampling, stop_token: int | None) -> list[Draw]:
        if self._num_weights >= FEW_WEIGHTS or not _takes_one_pass(rule):
            return []
        rows, vocab = noise_RV.shape
        assert vocab == self._model.vocab and noise_RV.dtype == torch.float32 and noise_RV.is_contiguous()
        drawn, threads = _Drawn(rows), self._threads(1)
        hidden_W, logits_V, race_V = torch.empty(self._decoder.width), torch.empty(vocab), torch.empty(vocab)
        num_written = self._library.write_tokens(
            self._model,
            self._cache,
            token,
            position,
            rows,
            -1 if stop_token is None else stop_token,
            noise_RV.data_ptr(),
            *_rule(rule, vocab),
            hidden_W.data_ptr(),
            logits_V.data_ptr(),
            self._room_for(1, threads),
            race_V.data_ptr(),
            drawn.tokens,
            drawn.measures,
            threads,
        )
        return drawn.first(num_written)

    def score(self, tokens_BT: Tensor, num_context: int) -> Tensor:
        if not self._is_packed:
            return self._plain.score(tokens_BT, num_context)
        num_sequences, length = tokens_BT.shape
        self.begin(num_sequences, length)
        sequences = [b for b in range(num_sequences) for _ in range(length)]
        tokens = cast(list[int], tokens_BT.flatten().tolist())
        hidden_RW = self._hidden(tokens, sequences, list(range(length)) * num_sequences)
        scored_RW = hidden_RW.view(num_sequences, length, -1)[:, num_context - 1 : -1].flatten(0, 1).contiguous()
        return self._nll(scored_RW, tokens_BT[:, num_context:].flatten()).view(num_sequences, -1)

    def _refresh(self) -> None:
        if not self._is_stale:
            return
        for linear in self._decoder.linears:
            pointer = self._packed[id(linear)].data_ptr()
            self._library.pack_weights(self._c_linear(linear), pointer, torch.get_num_threads())
        self._is_stale = False

    def _make_room_for_packed(self) -> dict[int, Tensor]:
        linears = self._decoder.linears
        sizes = [-(-linear.num_in // 32) * 32 * -(-linear.num_out // 16) * 16 for linear in linears]
        memory = torch.empty(sum(sizes), dtype=torch.bfloat16)
        self._library.prefer_large_pages(memory.data_ptr(), memory.nbytes)
        ends = accumulate(sizes)
        return {id(m): memory[e - n : e] for m, n, e in zip(linears, sizes, ends, strict=True)}

    def _hidden(self, tokens: Sequence[int], sequences: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Normed hidden states (R, width) of R tokens; their context is in the cache or among them."""
        rows, threads = len(tokens), self._threads(len(tokens))
        hidden_RW = torch.empty(rows, self._decoder.width)
        of_rows = ctypes.c_int32 * rows
        outside = self._library.forward(
            self._model,
            self._cache,
            rows,
            of_rows(*tokens),
            of_rows(*sequences),
            of_rows(*positions),
            hidden_RW.data_ptr(),
            self._room_for(rows, threads),
            threads,
        )
        if outside:
            raise IndexError(
                f"a token, sequence or position is outside its table: tokens {min(tokens)} to {max(tokens)} of "
                f"{self._model.num_embeddings}, sequences {min(sequences)} to {max(sequences)} of "
                f"{self._cache.num_sequences}, positions {min(positions)} to {max(positions)} of "
                f"{min(self._model.num_positions, self._cache.length)}"
            )
        return hidden_RW

    def _logits(self, hidden_RW: Tensor) -> Tensor:
        rows, threads = len(hidden_RW), self._threads(len(hidden_RW))
        logits_RV = torch.empty(rows, self._decoder.head.num_out)
        room = self._room_for(rows, threads)
        self._library.head_logits(self._model, hidden_RW.data_ptr(), rows, logits_RV.data_ptr(), room, threads)
        return logits_RV

    def _nll(self, hidden_RW: Tensor, targets_R: Tensor) -> Tensor:
        """-log p of each target, (R,), without storing the logits in memory."""
        rows, threads = len(hidden_RW), torch.get_num_threads()
        nll_R, targets_R = torch.empty(rows), targets_R.to(torch.int32).contiguous()
        room = self._room(self._library.nll_bytes(self._model, rows, threads))
        outside = self._library.head_nll(
            self._model, hidden_RW.data_ptr(), targets_R.data_ptr(), rows, nll_R.data_ptr(), room, threads
        )
        if outside:
            least, greatest = targets_R.aminmax()
            raise IndexError(f"targets {least} to {greatest} exceed the {self._model.vocab} of the output layer")
        return nll_R

    def _threads(self, rows: int) -> int:
        return 1 if self._num_weights * rows < ONE_THREAD_WEIGHTS else torch.get_num_threads()

    def _room_for(self, rows: int, threads: int) -> int:
        """Memory for a call on `rows` tokens; the size is asked for once, since a small model's token takes 50 µs."""
        key = (rows, threads)
        if key not in self._sizes:
            self._sizes[key] = self._library.workspace_bytes(self._model, rows, self._cache.length, threads)
        return self._room(self._sizes[key])

    def _room(self, num_bytes: int) -> int:
        if self._memory.numel() < num_bytes + 64:
            self._memory = torch.empty(num_bytes + 64, dtype=torch.uint8)
        return (self._memory.data_ptr() + 63) // 64 * 64

    def _c_linear(self, linear: Linear) -> CLinear:
        packed = self._packed.get(id(linear))
        return CLinear(
            linear.weight.data_ptr(),
            _pointer(linear.bias),
            _pointer(packed),
            linear.num_in,
            linear.num_out,
            linear.is_in_out,
        )

    def _c_layer(self, layer: Layer) -> CLayer:
        linears = self._c_linear
        return CLayer(
            _c_norm(layer.norm_1),
            _c_norm(layer.norm_2),
            (CLinear * 3)(*map(linears, layer.qkv)),
            linears(layer.out),
            (CLinear * 2)(*map(linears, layer.up)),
            linears(layer.down),
        )

    def _c_model(self) -> CModel:
        d = self._decoder
        return CModel(
            len(d.layers),
            d.width,
            d.num_heads,
            d.num_kv_heads,
            d.head_dim,
            d.layers[0].down.num_in,
            d.head.num_out,
            len(d.layers[0].qkv),
            len(d.layers[0].up),
            len(d.embedding),
            len(d.positions if d.positions is not None else cast(Tensor, d.cosines)),
            d.eps,
            d.embedding.data_ptr(),
            _pointer(d.positions),
            _pointer(d.cosines),
            _pointer(d.sines),
            self._layers,
            _c_norm(d.final_norm),
            self._c_linear(d.head),
        )


class _Drawn:
    """Room for what the kernels draw."""

    def __init__(self, rows: int) -> None:
        self.tokens, self.measures = (ctypes.c_int32 * rows)(), (ctypes.c_float * (NUM_MEASURES * rows))()

    def first(self, rows: int) -> list[Draw]:
        n = NUM_MEASURES
        return [Draw(token, *self.measures[n * r : n * r + n]) for r, token in enumerate(self.tokens[:rows])]


def _takes_one_pass(rule: Sampling) -> bool:
    """Whether the kernels draw by this rule; top-p and top-nσ need more than one pass over the words."""
    return rule.top_p is None and rule.top_n_sigma is None


def _rule(rule: Sampling, vocab: int) -> tuple[float, int, float]:
    """The rule as the kernels take it: temperature (0 is greedy), top-k, min-p."""
    return 0.0 if rule.greedy else rule.temperature, rule.top_k or vocab, rule.min_p or 0.0


def _c_norm(norm: Norm) -> CNorm:
    return CNorm(norm.weight.data_ptr(), _pointer(norm.bias))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
