"""`truncated-ce`, `focal`, `label-smoothing`: other losses of a token in place of −log p."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from collapselab.config.safeguards import on_objective as settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared, replaced
from collapselab.step.learner import Learner, TokenLosses


class TruncatedCe(Safeguard):
    """The mean of −log p over the targets with p ≤ γ; over `all`: their sum by the number of all targets.

    Zero, and without a gradient, if none is kept. Costs nothing.

    Source: ForTIFAI writes the mean over the kept ones; its code divides by the number of all. It found that models
    trained in stages bear 2.3 times *more synthetic data* in the mixture; that is no 2.3-fold delay of onset.
    """

    def __init__(self, settings: settings.TruncatedCe, shared: Shared) -> None:
        self._settings = settings
        self._kept_share: float | None = None

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        nll_N = losses.nll_N
        is_kept_N = (-nll_N.detach()).exp() <= self._settings.gamma
        self._kept_share = is_kept_N.double().mean().item()
        count = is_kept_N.sum().clamp_min(1) if self._settings.over == "kept" else len(nll_N)
        return replaced(objective, losses, (nll_N * is_kept_N).sum() / count)

    def values(self) -> dict[str, Value]:
        return {"kept_share": self._kept_share}


class Focal(Safeguard):
    """The mean of (1 − p)^γ·(−log p) over the targets; the factor is not detached. Costs nothing.

    Source: Lin 2017, for detection; ForTIFAI compares with it, and likewise does not detach.
    """

    def __init__(self, settings: settings.Focal, shared: Shared) -> None:
        self._gamma = settings.gamma

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        nll_N = losses.nll_N
        # At p = 1 the derivative of a power below 1 is infinite.
        rest_N = (-(-nll_N).expm1()).clamp_min(1e-6)
        return replaced(objective, losses, (rest_N**self._gamma * nll_N).mean())


class LabelSmoothing(Safeguard):
    """(1 − ε)·L + ε·mean over targets and vocabulary of −log p. Costs nothing.

    Source: Szegedy 2016; ForTIFAI compares with it.
    """

    def __init__(self, settings: settings.LabelSmoothing, shared: Shared) -> None:
        self._epsilon = settings.epsilon

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        targets_N = losses.targets_BT[losses.is_target_BT]
        smoothed = cross_entropy(losses.logits_NV, targets_N, label_smoothing=self._epsilon)
        return replaced(objective, losses, smoothed)
