"""`real-mix`: some real text in every update."""

from __future__ import annotations

from torch import Tensor

from collapselab.config.safeguards.on_objective import RealMix as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner, TokenLosses


class RealMix(Safeguard):
    """L ← (1 − ρ)·L + ρ·L_real: L_real is the plain loss on as many windows of real text as there are sequences.

    It acts on the objective, since a share of 0.1 of one sequence can be a weight but not a number of sequences.
    `fresh`: windows drawn at each step. `fixed`: those of step 0 at each step. Costs a forward and backward pass.

    Source: Gerstgrasser 2024 keep all real text beside the synthetic; 2502.18049 find 0.618 best for fresh real text at
    equal amounts; Shumailov 2024 keep 10 %, with 10 epochs against 5. All of them train models anew, in generations;
    ours mixes within each update of one model.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._real_nll_nats: float | None = None

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        drawn_at = 0 if self._settings.windows == "fixed" else step
        real = learner.nll_again(self._shared.real_batch(drawn_at, len(losses.targets_BT))).mean
        self._real_nll_nats = real.item()
        return (1 - self._settings.rho) * objective + self._settings.rho * real

    def values(self) -> dict[str, Value]:
        return {"real_nll_nats": self._real_nll_nats}
