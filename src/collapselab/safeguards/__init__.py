"""What may keep a model from collapsing: it can act at three places in the loop, and keep a state.

A safeguard is a subclass that overrides some of these places; the others change nothing. Several safeguards act in the
order given, each on the result of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.step.learner import Learner, TokenLosses
from collapselab.step.sources import TrainingText


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

    def tensors(self) -> dict[str, Tensor]:
        """The state that a checkpoint must hold."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the state from a checkpoint."""
        assert not tensors, f"{type(self).__name__} keeps no state, received {sorted(tensors)}"


def objective_of(step: int, learner: Learner, losses: TokenLosses, safeguards: Sequence[Safeguard]) -> Tensor:
    """The objective to minimise: the plain loss, as the safeguards change it in turn."""
    objective = losses.mean
    for safeguard in safeguards:
        objective = safeguard.objective(step, learner, losses, objective)
    return objective
