"""What an engine does: the interface that decoding and evaluation use, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from collapselab.config.schema import Sampling

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Drawn:
    """Tokens drawn, one per row, with -log p(token) and the entropy of p in nats (temperature 1, untruncated)."""

    tokens: list[int]
    nll_nats: list[float]
    entropy_nats: list[float]


class Engine(Protocol):
    """One model, ready to write.

    `is_ragged`: `read` takes token lists of different lengths and positions, and may step back; speculation needs both.
    """

    name: str
    is_ragged: bool

    def weights_changed(self) -> None:
        """Drops everything computed from the old weights; call it after every change of the model's weights.

        An engine cannot detect a change: torch's fused optimisers do not increment a tensor's version.
        """
        ...

    def begin(self, num_sequences: int, length: int) -> None:
        """Empties the cache and makes room for sequences of `length` tokens."""
        ...

    def read(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], *, last_only: bool = False) -> Tensor:
        """Float32 logits (R, V) after each new token of each sequence in turn, or only after each sequence's last.

        `starts[b]` is the position of the first of `tokens[b]`; the cache holds the tokens before it. A ragged engine
        forgets later tokens; for the others there must be none.
        """
        ...

    def reread(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Float32 logits (B, V) after sequences of one length, with nothing before them; the cache is lost."""
        ...

    def draw(self, logits_RV: Tensor, noise_RV: Tensor, rule: Sampling) -> Drawn:
        """One token per row, by the rule and the row's Exp(1) noise (`sampling.draw`)."""
        ...


class Scorer(Protocol):
    """One model, ready to be evaluated."""

    name: str

    def weights_changed(self) -> None:
        """As for `Engine`."""
        ...

    def score(self, tokens_BT: Tensor, num_context: int) -> Tensor:
        """-log p in nats (B, T - num_context), float32, of the tokens after the first `num_context`, on the CPU."""
        ...
