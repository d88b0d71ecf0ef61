"""`unlikelihood`: repeated tokens are made less likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from collapselab.config.safeguards.on_objective import Unlikelihood as Settings
from collapselab.config.schema import Sampling, Training
from collapselab.errors import InputError
from collapselab.randomness import rng
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.batches import make_batch
from collapselab.step.learner import Learner, TokenLosses

N = 4
LEAST = 1e-20  # of 1 − p
PREFIX, CONTINUATION = 50, 100


def is_repeated(ids: Sequence[int], n: int = N) -> list[bool]:
    """Whether each token is part of an n-gram of which an earlier copy ends before it begins (Welleck 2020, eq. 9)."""
    first: dict[tuple[int, ...], int] = {}
    found = [False] * len(ids)
    for i in range(len(ids) - n + 1):
        gram = tuple(ids[i : i + n])
        if i - first.setdefault(gram, i) >= n:
            found[i : i + n] = [True] * n
    return found


def sequence_loss(losses: TokenLosses) -> Tensor:
    """The sum of −log(1 − p) over the targets in repeated 4-grams, by the number of all targets; a scalar."""
    rows = cast(list[list[int]], torch.cat([losses.inputs_BT, losses.targets_BT[:, -1:]], 1).tolist())
    is_repeated_BT = torch.tensor([is_repeated(row)[1:] for row in rows], device=losses.targets_BT.device)
    chosen_BT = is_repeated_BT & losses.is_target_BT
    p_BT = (-losses.nll_BT).exp()
    return -((1 - p_BT).clamp_min(LEAST).log() * chosen_BT).sum() / losses.is_target_BT.sum()


def token_loss(losses: TokenLosses) -> Tensor:
    """The mean over targets of Σ −log(1 − p(c)) over the distinct tokens c before the target, itself left out."""
    inputs_BT, T = losses.inputs_BT, losses.inputs_BT.shape[1]
    is_same_BTT = inputs_BT[:, :, None] == inputs_BT[:, None, :]
    is_first_BT = ~is_same_BTT.tril(-1).any(2)
    is_before_TT = torch.ones(T, T, dtype=torch.bool, device=inputs_BT.device).tril()
    chosen_BTT = is_before_TT & is_first_BT[:, None, :] & (inputs_BT[:, None, :] != losses.targets_BT[:, :, None])
    chosen_BTT &= losses.is_target_BT[:, :, None]
    p_BTT = losses.logits_BTV.softmax(-1).gather(2, inputs_BT[:, None, :].expand(-1, T, -1))
    return -((1 - p_BTT).clamp_min(LEAST).log() * chosen_BTT).sum() / losses.is_target_BT.sum()


class Unlikelihood(Safeguard):
    """L + α·unlikelihood, with 1 − p at least 1e-20.

    `sequence`: `sequence_loss` on the training text. `token`: `token_loss` on it. `greedy`: with probability 0.5 the
    update minimises α·`sequence_loss` of a greedy continuation (100 tokens) of real text (50 tokens) in place of L.
    Costs nothing; `greedy` every other step a sample and a forward and backward pass.

    Source: Welleck 2020. `greedy` is theirs, beside training on human text; the form on own training text is ours.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        if settings.form == "greedy" and shared.parts.context < PREFIX + CONTINUATION:
            raise InputError(
                f"safeguard unlikelihood(form=greedy) writes {CONTINUATION} tokens after {PREFIX}, "
                f"the context has {shared.parts.context}",
                "use another form, or a model with a longer context",
            )

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        alpha = self._settings.alpha
        match self._settings.form:
            case "sequence":
                return objective + alpha * sequence_loss(losses)
            case "token":
                return objective + alpha * token_loss(losses)
            case "greedy":
                (u,) = self._shared.uniform(step, 1)
                return alpha * sequence_loss(self._continued(step, learner)) if u < 0.5 else objective

    def _continued(self, step: int, learner: Learner) -> TokenLosses:
        (prefix,) = self._shared.real(step, 1, PREFIX)
        noise = [rng(learner.config.seed, "safeguard", step)]  # a greedy draw does not depend on it
        context = self._shared.parts.context
        rule = Sampling(greedy=True)
        (ids,) = learner.write([prefix], rule, noise, num_tokens=CONTINUATION, context=context).token_ids
        return learner.nll_again(make_batch([prefix + ids], PREFIX, Training(), noise, learner.config.device))
