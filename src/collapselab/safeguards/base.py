"""What a safeguard is: three places in the loop, a state, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.safeguards.common import SafeguardSettings
from collapselab.randomness import rng
from collapselab.records import Value
from collapselab.step.batches import Batch, make_batch
from collapselab.step.learner import Learner, TokenLosses
from collapselab.step.parts import Parts
from collapselab.step.sources import TrainingText, real_window, write

# Of the stream "safeguard", each safeguard of a run has indices of its own.
INDICES = 1_000_000


class Safeguard:
    """A safeguard that does nothing.

    All randomness comes from `rng(seed, stream, step)`, so that a resumed run is bit-equal.
    """

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        """The text to train on at this step; may ask the learner for more text, or for losses."""
        return text

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        """The objective to minimise, a scalar with its graph; initially the plain loss (`losses.mean`)."""
        return objective

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        """Undoes or adapts something after this step's update; `state` is the run's course of collapse so far."""

    def values(self) -> Mapping[str, Value]:
        """What it says of this step, for the record."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """The state that a checkpoint must hold. What `text` and `objective` change in place must be a copy."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the state from a checkpoint."""
        assert not tensors, f"{type(self).__name__} keeps no state, received {sorted(tensors)}"


class Shared:
    """What the safeguards of the configuration share: more text, real text, noise. `place` is that in the list."""

    def __init__(self, parts: Parts, place: int) -> None:
        self.parts, self._first = parts, place * INDICES

    def written(self, step: int, prompts: Sequence[Sequence[int]], model: Learner | None = None) -> list[list[int]]:
        """One further sequence after each prompt, as long as a sample and with noise of its own."""
        parts = self.parts
        length = parts.config.generate.max_new_tokens
        return write(
            parts, model or parts.learner, prompts, "safeguard", step, length, first_index=self._first
        ).token_ids

    def uniform(self, step: int, count: int) -> list[float]:
        """Numbers in [0, 1)."""
        return rng(self.parts.config.seed, "safeguard", step, self._first + INDICES // 2).random(count).tolist()

    def real(self, step: int, count: int, num_tokens: int) -> list[list[int]]:
        """Windows of the real training text; those of one step and safeguard are the same at every call."""
        first = self._first + INDICES // 4
        return [real_window(self.parts, num_tokens, "safeguard", step, first + i) for i in range(count)]

    def real_batch(self, step: int, count: int) -> Batch:
        """A batch of real text: as many tokens as a prompt and a sample, with a loss for as many as a sample has."""
        parts = self.parts
        num_prompt = self.num_prompt
        windows = self.real(step, count, num_prompt + parts.config.generate.max_new_tokens)
        return self.batch(step, windows, num_prompt)

    def batch(self, step: int, sequences: Sequence[Sequence[int]], num_prompt: int) -> Batch:
        """The training batch of some sequences."""
        config = self.parts.config
        first = self._first + INDICES // 4 * 3
        blocks = [rng(config.seed, "safeguard", step, first + i) for i in range(len(sequences))]
        return make_batch(sequences, num_prompt, config.train, blocks, config.device)

    @property
    def num_prompt(self) -> int:
        """Tokens of a prompt."""
        settings = self.parts.config.generate
        return settings.prompt_tokens or len(self.parts.learner.tokenizer.prompt(settings.prompt))


def replaced(objective: Tensor, losses: TokenLosses, loss: Tensor) -> Tensor:
    """The objective with another loss in place of the plain one, whatever was added to it before."""
    return loss if objective is losses.mean else objective - losses.mean + loss


__all__ = ["Safeguard", "SafeguardSettings", "Shared", "replaced"]
