"""How far the weights have come: the path, and the distance from the start."""

from __future__ import annotations

import math

import pytest
import torch

from collapselab.step import start
from collapselab.step.start import Start


def test_displacement_by_hand() -> None:
    weights = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])]
    origin = Start(weights)
    assert origin.norm == 5
    assert origin.displacement() == 0
    weights[0] += torch.tensor([[0.0, 3.0]])
    weights[1] -= 4
    assert origin.displacement() == pytest.approx(1.0)
    assert origin.relative(2.5) == 0.5


def test_from_weights_of_zero_any_move_is_infinite() -> None:
    weights = [torch.zeros(3)]
    origin = Start(weights)
    assert (origin.displacement(), origin.relative(0.0)) == (0.0, 0.0)
    weights[0] += 1
    assert origin.displacement() == math.inf


def test_a_sample_of_the_weights_estimates_the_displacement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300,000 normal moves every 11th is kept: the standard error is 0.4 %, the bound six of them."""
    torch.manual_seed(0)
    weights = [torch.randn(500, 500), torch.randn(50_000)]
    exact = Start(weights)
    monkeypatch.setattr(start, "MOST_KEPT", 100_000)
    sampled = Start(weights)
    assert sum(kept.numel() for kept in sampled._kept) < 30_000
    for w in weights:
        w += 0.01 * torch.randn_like(w)
    assert sampled.displacement() == pytest.approx(exact.displacement(), rel=0.025)
