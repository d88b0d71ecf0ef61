"""The safeguards of a run, together: in order, at each of the three places, with their cost."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import astuple

import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard
from collapselab.step.learner import Learner, TokenLosses
from collapselab.step.sources import TrainingText


class Guarded:
    """Acts with each safeguard in turn, on the result of the one before, and notes what a step says and costs.

    Without safeguards nothing is done and nothing is noted.
    """

    def __init__(self, learner: Learner, safeguards: Sequence[Safeguard]) -> None:
        self._learner, self._safeguards = learner, safeguards
        self._may_move = any(type(s).after_step is not Safeguard.after_step for s in safeguards)
        self._before: dict[str, Tensor] = {}
        self._changes_before = 0
        self._begin()

    def _begin(self) -> None:
        self._values: dict[str, Value] = {}
        self._cost, self._seconds = [0, 0, 0], 0.0

    @contextmanager
    def _counted(self) -> Generator[None]:
        before, begun = astuple(self._learner.work), time.perf_counter()
        yield
        self._seconds += time.perf_counter() - begun
        self._cost = [c + b - a for c, a, b in zip(self._cost, before, astuple(self._learner.work), strict=True)]

    def text(self, step: int, text: TrainingText) -> TrainingText:
        """The text to train on; further sequences in the batch count as further forward passes."""
        self._begin()
        num_written = len(text.samples)
        with self._counted():
            for safeguard in self._safeguards:
                text = safeguard.text(step, self._learner, text)
        self._cost[2] += len(text.samples) - num_written
        return text

    def own_loss(self, written: TrainingText, text: TrainingText) -> dict[str, Value]:
        """`own_nll_nats` where the training text is not what the model wrote."""
        return {} if text.samples == written.samples else {"own_nll_nats": written.nll_nats}

    def objective(self, step: int, losses: TokenLosses) -> Tensor:
        """The objective to minimise: the plain loss, as the safeguards change it in turn."""
        objective = losses.mean
        with self._counted():
            for safeguard in self._safeguards:
                objective = safeguard.objective(step, self._learner, losses, objective)
        if self._safeguards:
            self._values.setdefault("objective_nats", objective.item())
        return objective

    def before_update(self) -> None:
        """Keeps the weights if something may change them besides the update."""
        self._changes_before = self._learner.num_changes
        if self._may_move:
            self._before = self._learner.snapshot()

    def after_step(self, step: int, state: CollapseState) -> None:
        """What each safeguard does after the update."""
        with self._counted():
            for safeguard in self._safeguards:
                safeguard.after_step(step, self._learner, state)

    def path(self, update_norm: float) -> float:
        """The norm of the whole step: that of the updates, unless a safeguard has changed the weights besides."""
        if not self._before or self._learner.num_changes == self._changes_before:
            return update_norm
        changes = [p - self._before[name] for name, p in self._learner.weights().items()]
        return float(torch.nn.utils.get_total_norm(changes))

    def values(self) -> dict[str, Value]:
        """What the record of this step says of the safeguards."""
        if not self._safeguards:
            return {}
        names = ("extra_samples", "extra_tokens", "extra_forwards")
        said = {name: value for safeguard in self._safeguards for name, value in safeguard.values().items()}
        return self._values | dict(zip(names, self._cost, strict=True)) | {"seconds_safeguards": self._seconds} | said
