"""A step of a model in parts, here one part: as that of a model without; tests/e2e has two processes."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.step.batches import StepStats, make_optimizer, update
from collapselab.step.shards import Shards
from engines import llama

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="this PyTorch has no gloo"
)


@pytest.fixture
def alone(tmp_path: Path) -> Generator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def made() -> nn.Module:
    """A model with a parameter that no loss depends on."""
    model = llama(context=64).model
    model.register_parameter("unused", nn.Parameter(torch.ones(3, 3)))
    return model


def objective(model: nn.Module, factor: float) -> Tensor:
    logits_BTV = model(input_ids=torch.arange(20)[None]).logits
    return factor * logits_BTV.logsumexp(-1).mean()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_are_those_of_a_model_in_one_piece(alone: None, name: str) -> None:
    config = override(RunConfig(), {"optim.name": name, "optim.lr": 0.01, "optim.clip": 0.5})
    whole, divided = made(), made()
    optimizer, shards = make_optimizer(whole, config.optim), Shards(divided, config)  # type: ignore[arg-type]
    for factor in (1.0, 100.0):  # the second is clipped
        expected = update(optimizer, objective(whole, factor), 0.5)
        found: StepStats = shards.step(objective(divided, factor), 0.5, 0.01)
        for field in ("grad_norm", "update_norm", "weight_norm"):
            assert getattr(found, field) == pytest.approx(getattr(expected, field), rel=1e-5), field
    for key, value in shards.weights().items():
        torch.testing.assert_close(value, dict(whole.named_parameters())[key].detach(), rtol=1e-5, atol=1e-6)
    assert (shards.weights()["unused"] == 1).all(), "no weight decay without a gradient"


def not_a_number(gradient: Tensor) -> Tensor:
    return gradient * math.nan


def test_one_gradient_that_is_not_a_number_spreads_by_the_norm_as_in_torch(alone: None) -> None:
    config = override(RunConfig(), {"optim.name": "sgd"})
    whole, divided = made(), made()
    for model in (whole, divided):
        model.get_parameter("unused").register_hook(not_a_number)
    losses = [objective(model, 1.0) + model.get_parameter("unused").sum() for model in (whole, divided)]
    update(make_optimizer(whole, config.optim), losses[0], 1.0)  # type: ignore[arg-type]
    Shards(divided, config).step(losses[1], 1.0, config.optim.lr)
    finite = [{name: bool(p.isfinite().all()) for name, p in model.named_parameters()} for model in (whole, divided)]
    assert finite[0] == finite[1] and not any(finite[0].values())
