"""The losses of safeguards by hand, on distributions of three tokens."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from collapselab.config.safeguards import on_objective as settings
from collapselab.safeguards.base import Safeguard, replaced
from collapselab.safeguards.entropy_bonus import EntropyBonus
from collapselab.safeguards.kl_anchor import KlAnchor, kl_nats
from collapselab.safeguards.own_dpo import dpo_loss
from collapselab.safeguards.real_mix import RealMix
from collapselab.safeguards.token_losses import Focal, LabelSmoothing, TruncatedCe
from collapselab.safeguards.unlikelihood import is_repeated, sequence_loss, token_loss
from collapselab.step.batches import IGNORED
from collapselab.step.learner import TokenLosses

NOBODY: Any = None
LN2, LN5 = math.log(2), math.log(5)


def of_probabilities(rows: list[list[float]], targets: list[int], inputs: list[int] | None = None) -> TokenLosses:
    """One sequence whose targets have these predictions; a target may be ignored."""
    logits_BTV = torch.tensor([rows], dtype=torch.float64).log().requires_grad_()
    return TokenLosses(logits_BTV, torch.tensor([targets]), torch.tensor([inputs or [0] * len(targets)]))


@pytest.fixture
def three() -> TokenLosses:
    """p of the targets: 0.9, 0.5, 0.2; a fourth position is ignored."""
    rows = [[0.9, 0.05, 0.05], [0.25, 0.5, 0.25], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]]
    return of_probabilities(rows, [0, 1, 2, IGNORED])


def minimised(safeguard: Safeguard, losses: TokenLosses, objective: Tensor | None = None) -> float:
    start = losses.mean if objective is None else objective
    return safeguard.objective(0, NOBODY, losses, start).item()


def test_truncated_ce_keeps_tokens_up_to_gamma(three: TokenLosses) -> None:
    kept = TruncatedCe(settings.TruncatedCe(), NOBODY)
    assert minimised(kept, three) == pytest.approx((LN2 + LN5) / 2)
    assert kept.values() == {"kept_share": pytest.approx(2 / 3)}
    assert minimised(TruncatedCe(settings.TruncatedCe(over="all"), NOBODY), three) == pytest.approx((LN2 + LN5) / 3)
    assert minimised(TruncatedCe(settings.TruncatedCe(gamma=0.3), NOBODY), three) == pytest.approx(LN5)


def test_truncated_ce_without_a_token_is_zero_and_has_no_gradient(three: TokenLosses) -> None:
    objective = TruncatedCe(settings.TruncatedCe(gamma=0.1), NOBODY).objective(0, NOBODY, three, three.mean)
    objective.backward()
    assert objective.item() == 0.0
    assert three.logits_BTV.grad is not None and not three.logits_BTV.grad.any()


def test_focal(three: TokenLosses) -> None:
    expected = (0.1**2 * -math.log(0.9) + 0.5**2 * LN2 + 0.8**2 * LN5) / 3
    assert minimised(Focal(settings.Focal(), NOBODY), three) == pytest.approx(expected)


def test_label_smoothing(three: TokenLosses) -> None:
    rows = three.logits_BTV[0, :3].softmax(-1).tolist()
    uniform = sum(-math.log(p) for row in rows for p in row) / 9
    expected = 0.9 * three.mean.item() + 0.1 * uniform
    assert minimised(LabelSmoothing(settings.LabelSmoothing(), NOBODY), three) == pytest.approx(expected)


def test_losses_in_place_of_the_plain_one_keep_what_was_added_before(three: TokenLosses) -> None:
    assert minimised(Focal(settings.Focal(), NOBODY), three, three.mean + 7.0) == pytest.approx(
        minimised(Focal(settings.Focal(), NOBODY), three) + 7.0
    )
    loss = three.mean * 2
    assert replaced(three.mean, three, loss) is loss


def test_entropy_bonus_steers_toward_its_target(three: TokenLosses) -> None:
    rows = three.logits_BTV[0, :3].softmax(-1).tolist()
    entropy = sum(-p * math.log(p) for row in rows for p in row) / 3
    bonus = EntropyBonus(settings.EntropyBonus(eta=0.1, adaptive=True), NOBODY)
    assert minimised(bonus, three) == pytest.approx(three.mean.item() - 0.1 * entropy)
    bonus.after_step(0, NOBODY, NOBODY)  # the entropy is that at step 0, above 0.9 of it
    assert bonus.values()["entropy_weight"] == pytest.approx(0.095)
    sharp = of_probabilities([[0.998, 0.001, 0.001]], [0])
    minimised(bonus, sharp)
    bonus.after_step(1, NOBODY, NOBODY)
    assert bonus.values()["entropy_weight"] == pytest.approx(0.1)


def test_kl_and_its_direction() -> None:
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    assert kl_nats(p, q).item() == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), abs=1e-6)
    assert kl_nats(q, p).item() == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5), abs=1e-6)


@pytest.mark.parametrize("direction", ["now-start", "start-now"])
def test_kl_anchor_adds_its_share(three: TokenLosses, direction: Any) -> None:
    start_BTV = torch.zeros(1, 4, 3, dtype=torch.float64)  # θ_0 is uniform
    copy = SimpleNamespace(logits=lambda _: start_BTV)
    shared: Any = SimpleNamespace(parts=SimpleNamespace(learner=SimpleNamespace(copy=lambda: copy)))
    rows = three.logits_BTV[0, :3].softmax(-1).tolist()
    if direction == "now-start":
        kl = sum(p * math.log(3 * p) for row in rows for p in row) / 3
    else:
        kl = sum(math.log(1 / (3 * p)) / 3 for row in rows for p in row) / 3
    anchor = KlAnchor(settings.KlAnchor(beta=2.0, direction=direction), shared)
    assert minimised(anchor, three) == pytest.approx(three.mean.item() + 2 * kl)
    assert anchor.values() == {"kl_start_nats": pytest.approx(kl)}


def test_real_mix_weighs_real_text(three: TokenLosses) -> None:
    real = of_probabilities([[0.5, 0.25, 0.25]], [0])
    asked: list[int] = []
    shared: Any = SimpleNamespace(real_batch=lambda step, count: asked.append(step))
    learner: Any = SimpleNamespace(nll_again=lambda batch: real)
    for windows, drawn_at in (("fresh", 5), ("fixed", 0)):
        mix = RealMix(settings.RealMix.model_validate({"rho": 0.25, "windows": windows}), shared)
        got = mix.objective(5, learner, three, three.mean).item()
        assert got == pytest.approx(0.75 * three.mean.item() + 0.25 * LN2)
        assert asked.pop() == drawn_at


@given(st.lists(st.integers(0, 2), max_size=14))
def test_repeated_tokens_by_the_slow_definition(ids: list[int]) -> None:
    slow = [False] * len(ids)
    for i in range(len(ids) - 3):
        before = ids[:i]
        if any(before[j : j + 4] == ids[i : i + 4] for j in range(len(before) - 3)):
            slow[i : i + 4] = [True] * 4
    assert is_repeated(ids) == slow


def test_sequence_unlikelihood_is_of_repeated_tokens_alone() -> None:
    ids = [0, 1, 2, 1, 0, 1, 2, 1]  # the second 0 1 2 1 repeats the first
    rows = [[0.25, 0.5, 0.25]] * 7
    losses = of_probabilities(rows, ids[1:], ids[:-1])
    expected = -(math.log(0.75) + math.log(0.5) + math.log(0.75) + math.log(0.5)) / 7
    assert sequence_loss(losses).item() == pytest.approx(expected)


def test_a_token_as_good_as_certain_has_a_finite_unlikelihood() -> None:
    ids = [0] * 9
    losses = of_probabilities([[1.0, 1e-30, 1e-30]] * 8, ids[1:], ids[:-1])
    assert sequence_loss(losses).item() == pytest.approx(5 / 8 * -math.log(1e-20))


@given(st.lists(st.integers(0, 2), min_size=2, max_size=8))
def test_token_unlikelihood_by_the_slow_definition(ids: list[int]) -> None:
    row = [0.2, 0.3, 0.5]
    losses = of_probabilities([row] * (len(ids) - 1), ids[1:], ids[:-1])
    terms = [-sum(math.log(1 - row[c]) for c in set(ids[: t + 1]) - {ids[t + 1]}) for t in range(len(ids) - 1)]
    assert token_loss(losses).item() == pytest.approx(sum(terms) / len(terms))


def test_dpo_by_hand() -> None:
    now, start = torch.tensor([3.0, 10.0]), torch.tensor([5.0, 4.0])
    # log π/π_0: +2 for the chosen one, −6 for the rejected one
    assert dpo_loss(now, start, 0.1).item() == pytest.approx(math.log(1 + math.exp(-0.8)))
    assert dpo_loss(start, start, 0.1).item() == pytest.approx(LN2)
