"""The places where a safeguard acts, by a small one that uses all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import Interrupted
from collapselab.loop import online_loop
from collapselab.randomness import rng
from collapselab.records import Record
from collapselab.runner import run
from collapselab.safeguards import Safeguard
from collapselab.step.learner import Learner, TokenLosses
from collapselab.step.parts import build
from collapselab.step.sources import TrainingText
from run_files import newest_weights, stop_after, timeless


class Everything(Safeguard):
    """The better of two texts; likely tokens left out; weights pulled to their running mean, which is its state."""

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        rule = RunConfig().sampling
        noise = [rng(5, "probe", step)]
        other = learner.write(text.prompts[:1], rule, noise, num_tokens=len(text.samples[0]), context=256)
        tokens_2T = torch.tensor([[*text.prompts[0], *ids] for ids in (text.samples[0], other.token_ids[0])])
        first, second = learner.score(tokens_2T, len(text.prompts[0])).mean(1).tolist()
        return text if first > second else replace(text, samples=other.token_ids)

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        assert losses.logits_BTV.shape[:2] == losses.nll_BT.shape
        kept_BT = losses.is_target_BT & (losses.nll_BT > 1.0)
        return (losses.nll_BT * kept_BT).sum() / kept_BT.sum()

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        assert state.step == step
        now = {name: p.clone() for name, p in learner.weights().items()}
        self.mean = {name: 0.9 * self.mean.get(name, p) + 0.1 * p for name, p in now.items()}
        learner.restore({name: 0.5 * (p + self.mean[name]) for name, p in now.items()}, learner.moments())

    def tensors(self) -> dict[str, Tensor]:
        return self.mean

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.mean = dict(tensors)


def values_of(config: RunConfig, *safeguards: Safeguard) -> list[dict[str, object]]:
    records = online_loop(build(config), safeguards=safeguards)
    return [{k: v for k, v in r.values.items() if not k.startswith(("seconds_", "extra_"))} for r in records]


def test_one_that_does_nothing_changes_nothing_and_records_the_objective(tiny_config: RunConfig) -> None:
    without, idle = values_of(tiny_config), values_of(tiny_config, Safeguard(), Safeguard())
    assert [record.pop("objective_nats") for record in idle] == [record["train_nll_nats"] for record in without]
    assert idle == without


def test_each_place_changes_what_it_says(tiny_config: RunConfig) -> None:
    without, with_all = values_of(tiny_config), values_of(tiny_config, Everything())
    first = with_all[0]
    assert first["val_nll_nats"] == without[0]["val_nll_nats"], "record 0 is the untouched model"
    assert isinstance(first["objective_nats"], float)
    assert isinstance(first["train_nll_nats"], float)
    assert first["objective_nats"] > first["train_nll_nats"], "without the likely tokens the mean is higher"
    assert with_all[2]["val_nll_nats"] != without[2]["val_nll_nats"]


def test_several_act_in_the_order_given(tiny_config: RunConfig) -> None:
    class Twice(Safeguard):
        def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
            return 2 * objective

    class PlusOne(Safeguard):
        def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
            return objective + 1

    (record,) = values_of(override(tiny_config, {"stop.max_steps": 0}), PlusOne(), Twice())
    assert record["objective_nats"] == pytest.approx(2 * (record["train_nll_nats"] + 1))


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_resumed_run_is_that_of_one_sitting(tiny_config: RunConfig, tmp_path: Path, numerics: str) -> None:
    config = override(tiny_config, {"numerics": numerics, "checkpoint_every_s": 0.0, "stop.max_steps": 4})
    whole = run(config, tmp_path / "whole", safeguards=[Everything()]).path
    cut = tmp_path / "cut"
    with pytest.raises(Interrupted):
        run(config, cut, safeguards=[Everything()], on_record=stop_after(1))
    assert (cut / "checkpoint" / "00000002" / "safeguards.safetensors").exists()
    run(config, cut, resume=True, safeguards=[Everything()])
    assert timeless(cut) == timeless(whole)
    assert (cut / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    mine, theirs = newest_weights(cut), newest_weights(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_state_that_nothing_takes_is_refused() -> None:
    with pytest.raises(AssertionError, match="keeps no state"):
        Safeguard().restore({"x": torch.zeros(1)})


def test_a_record_is_made_before_the_update_and_given_out_after_it(tiny_config: RunConfig) -> None:
    parts = build(tiny_config)
    before = {name: p.clone() for name, p in parts.learner.weights().items()}
    record: Record = next(online_loop(parts))
    assert record.step == 0
    assert any(not torch.equal(p, before[name]) for name, p in parts.learner.weights().items())
