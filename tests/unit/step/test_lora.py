"""Adapters learn as if they were in the forward pass, in the model's own matrices alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import Interrupted
from collapselab.loop import online_loop
from collapselab.runner import run
from collapselab.step.batches import Batch
from collapselab.step.lora import Adapters
from collapselab.step.parts import build
from collapselab.testing import tiny_model
from run_files import newest_weights, stop_after, timeless

IDS = torch.tensor([[(i * i) % 251 for i in range(40)]])


def test_gradients_are_those_of_adapters_in_the_forward_pass() -> None:
    model = tiny_model(1, layers=1).model
    adapters = Adapters(model, 3, seed=0)
    for name, p in adapters.parameters.items():
        if name.endswith("lora_b"):
            p.normal_(generator=torch.Generator().manual_seed(0), std=0.1)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    leaves = {name: p.clone().requires_grad_() for name, p in adapters.parameters.items()}
    names = {name.partition("|")[0] for name in leaves}
    inside = {n: first[n] + (leaves[f"{n}|lora_b"] @ leaves[f"{n}|lora_a"]).T for n in names}  # Conv1D is (in, out)
    logits_BTV = torch.func.functional_call(model, inside, kwargs={"input_ids": IDS}).logits
    torch.nn.functional.cross_entropy(logits_BTV[0, :-1], IDS[0, 1:]).backward()
    adapters.apply()
    made = model(input_ids=IDS).logits
    torch.nn.functional.cross_entropy(made[0, :-1], IDS[0, 1:]).backward()
    assert torch.allclose(made, logits_BTV, atol=1e-5)
    gradients = adapters.gradients()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.allclose(gradients[adapters.parameters[name]], leaf.grad, atol=1e-6), name
    assert all(p.grad is None for p in model.parameters())


def test_only_matrices_of_the_layers_change_and_by_the_rank(tiny_config: RunConfig) -> None:
    learner = build(override(tiny_config, {"optim.lora_rank": 2, "optim.lr": 1e-2})).learner
    before = learner.snapshot()
    for _ in range(3):
        stats = learner.update(learner.nll(Batch(IDS[:, :-1], IDS[:, 1:])).mean)
    assert stats.update_norm > 0 and stats.grad_norm > 0
    changes = {name: p - before[name] for name, p in learner.weights().items()}
    moved = {name for name, change in changes.items() if change.any()}
    assert moved == {
        f"transformer.h.0.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert all(int(torch.linalg.matrix_rank(changes[name], rtol=1e-3)) == 2 for name in moved)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_resumed_run_with_adapters_is_that_of_one_sitting(
    tiny_config: RunConfig, tmp_path: Path, numerics: str
) -> None:
    changes = {"optim.lora_rank": 4, "numerics": numerics, "checkpoint_every_s": 0.0}
    config = override(tiny_config, changes)
    whole, cut = run(config, tmp_path / "whole").path, tmp_path / "cut"
    with pytest.raises(Interrupted):
        run(config, cut, on_record=stop_after(1))
    run(config, cut, resume=True)
    assert timeless(cut) == timeless(whole)
    mine, theirs = newest_weights(cut), newest_weights(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_run_with_adapters_learns(tiny_config: RunConfig) -> None:
    config = override(tiny_config, {"optim.lora_rank": 8, "optim.lr": 1e-2, "stop.max_steps": 6})
    norms = [record.values["update_norm"] for record in online_loop(build(config))]
    assert all(isinstance(norm, float) and norm > 0 for norm in norms[:-1])
