"""What an engine does: the interface that decoding and evaluation use, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from collapselab.config.schema import Sampling

Precision = Literal["float32", "bfloat16"]


class Draw(NamedTuple):
    """A token drawn from the sampling distribution q, and how q differs from p, which is the model's.

    In nats, with p at temperature 1 and untruncated: -log p(token); the entropy of p; KL(q‖p), which is 0 where q is p;
    and log q(token) - log p(token), whose mean over tokens from q is KL(q‖p). Then the largest p, and how many of the
    largest it takes to reach 0.9 together (`sampling.nucleus_sizes`).
    """

    token: int
    nll_nats: float
    entropy_nats: float
    sharpening_nats: float
    sampler_gap_nats: float
    top_probability: float
    nucleus_size: float


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

    def draw(self, logits_RV: Tensor, noise_RV: Tensor, rule: Sampling) -> list[Draw]:
        """One token per row, by the rule and the row's Exp(1) noise (`sampling.draw`)."""
        ...

    def write(self, token: int, position: int, noise_RV: Tensor, rule: Sampling, stop_token: int | None) -> list[Draw]:
        """What `read` and `draw` would write after `token`, at `position` of the only sequence, token by token.

        One per row of noise, up to `stop_token`; none where an engine has no faster way.
        """
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
