"""What may keep a model from collapsing: three places in the loop where it can act, and the state it keeps.

A safeguard is a subclass that says what it does at each place; what it does not say changes nothing. Several act in the
order given, each on what the one before it made.
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
        """What is trained on at this step; it may ask the learner for more text, or for losses."""
        return text

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        """What is descended, a scalar with its graph; at first the plain loss (`losses.mean`)."""
        return objective

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        """What is undone or adapted after the update of this step; `state` is the run's course of collapse so far."""

    def tensors(self) -> dict[str, Tensor]:
        """The state that a checkpoint must hold."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts the state of a checkpoint back."""
        assert not tensors, f"{type(self).__name__} keeps no state, received {sorted(tensors)}"


def objective_of(step: int, learner: Learner, losses: TokenLosses, safeguards: Sequence[Safeguard]) -> Tensor:
    """What is descended: the plain loss, as the safeguards change it in turn."""
    objective = losses.mean
    for safeguard in safeguards:
        objective = safeguard.objective(step, learner, losses, objective)
    return objective
