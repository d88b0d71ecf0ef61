"""A loss or norm ends a run if it is not finite, and never otherwise; NaN weights never look healthy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from collapselab import loop
from collapselab.collapse.judging import are_finite, replay
from collapselab.collapse.summary import course_values
from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.step.parts import build

WILD = {"optim.lr": 1e6, "optim.name": "sgd", "optim.clip": None, "stop.max_steps": 30}
VOCABULARY = 256


def records_of(config: RunConfig, **changes: object) -> list[Record]:
    return list(online_loop(build(override(config, changes))))


def poisoned(config: RunConfig, monkeypatch: pytest.MonkeyPatch, at: int, **changes: object) -> list[Record]:
    """The records of a run whose weights become NaN in the update of a step, with the norms of such an update."""
    setup, real = build(override(config, changes)), loop._update
    calls = iter(range(1000))

    def update(*arguments):  # pyright: ignore
        updates = real(*arguments)
        if next(calls) != at:
            return updates
        with torch.no_grad():
            next(setup.learner.loaded.model.parameters()).fill_(math.nan)
        return [replace(u, update_norm=math.nan) for u in updates]

    monkeypatch.setattr(loop, "_update", update)
    return list(online_loop(setup))


def test_a_run_that_goes_wild_diverges(tiny_config: RunConfig) -> None:
    records = records_of(tiny_config, **WILD)
    assert [r.values["ended_by"] for r in records] == [None] * (len(records) - 1) + ["divergence"]
    diverged = [r.step for r in records if r.values["loss_fate"] == "diverged"]
    assert diverged == [r.step for r in records][-len(diverged) :], "once diverged, always diverged"
    assert 1 <= len(diverged) <= 2, "known by a norm one step before it ends the run, or by a loss at its last step"
    assert course_values(records, tiny_config.collapse, VOCABULARY)["fate"] == "diverged"


def test_a_norm_that_is_not_finite_ends_the_next_step(tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    records = poisoned(tiny_config, monkeypatch, 2, **{"stop.max_steps": 30})
    assert [r.values["ended_by"] for r in records] == [None, None, None, "divergence"]
    assert [r.values["loss_fate"] for r in records[1:]] == [records[1].values["loss_fate"], "diverged", "diverged"]
    assert course_values(records, tiny_config.collapse, VOCABULARY)["diverged_step"] == 2


def test_an_infinite_norm_with_finite_weights_is_divergence_too(
    tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop._update
    monkeypatch.setattr(loop, "_update", lambda *a: [replace(u, grad_norm=math.inf) for u in real(*a)])
    records = records_of(tiny_config)
    assert [r.values["ended_by"] for r in records] == [None, "divergence"]
    assert math.isfinite(records[-1].number("train_nll_nats") or math.nan)
    going_on = records_of(tiny_config, **{"stop.on_divergence": False, "eval.every": 1})
    assert [r.values["degenerate"] is None for r in going_on] == [False, True, True, True]
    assert [r.values["loss_fate"] for r in going_on] == ["diverged"] * 4


@pytest.mark.parametrize("greedy", [False, True], ids=["samples that pass", "samples that loop"])
def test_nan_weights_are_never_judged(tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch, greedy: bool) -> None:
    """If the run continues, their text is neither healthy nor collapsed; a greedy tiny model loops throughout."""
    changes = {"stop.on_divergence": False, "stop.max_steps": 20, "sampling.greedy": greedy}
    records = poisoned(tiny_config, monkeypatch, 1, **changes)
    assert records[-1].step == 20
    assert [r.step for r in records if r.values["degenerate"] is not None] == [0, 1]
    assert {r.values["loss_fate"] for r in records[1:]} == {"diverged"}
    assert not any(are_finite(r.values) for r in records[1:])
    found = course_values(records, tiny_config.collapse, VOCABULARY)
    assert (found["fate"], found["onset_step"], found["total_collapse_step"]) == ("diverged", None, None)


def test_a_second_text_and_the_whole_text_count() -> None:
    assert are_finite({"val_nll_nats": 1.0, "val_nll_se": math.nan, "grad_norm": None, "seq_rep_4": 0.1})
    names = ("train_nll_nats", "val_nll_nats[b]", "full_nll_nats[b]", "grad_norm", "update_norm")
    assert not any(are_finite({name: bad}) for name in names for bad in (math.nan, math.inf, -math.inf))


def test_a_lost_run_goes_on_and_says_so() -> None:
    """A shipped model at a high learning rate, which an earlier version called healthy and then ended as diverged."""
    changes = {"model": "builtin:nano", "data": ("austen",), "optim.lr": 3e-3, "generate.max_new_tokens": 100}
    changes |= {"eval.protocol": "windows[50,2]", "eval.full_every": 0, "stop.max_steps": 12}
    records = records_of(presets.demo(), **changes)
    states = [r.values["loss_fate"] for r in records]
    order = [None, "degraded", "severe", "lost"]
    assert list(dict.fromkeys(states)) == order
    losses = [r.number("val_nll_nats") or 0.0 for r in records]
    for name, bound in {"degraded": losses[0] + math.log(1.1), "severe": losses[0] + math.log(2)}.items():
        assert [order.index(state) >= order.index(name) for state in states] == [loss >= bound for loss in losses]
    assert [state == "lost" for state in states] == [loss > math.log(2048) for loss in losses]
    assert records[-1].step == 12, "none of them ends a run"


@pytest.mark.parametrize("changes", [{}, {"eval.every": 3, "eval.full_every": 0, "stop.max_steps": 7}, WILD])
def test_every_record_says_what_its_replay_says(tiny_config: RunConfig, changes: dict[str, object]) -> None:
    """Also where the last evaluation comes after the decision to stop."""
    records = records_of(tiny_config, **{"optim.lr": 0.02, **changes})
    vocab_size = build(tiny_config).learner.vocab_size
    for i, record in enumerate(records):
        state = replay(records[: i + 1], tiny_config.collapse, vocab_size)
        assert (state.loss_fate, state.degenerate_share) == (
            record.values["loss_fate"], record.values["degenerate_share"],
        )  # fmt: skip
