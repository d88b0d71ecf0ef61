"""What happens at which step: evaluation, the update and the checkpoint's lock, places of real text."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.protocols import parse_protocol
from collapselab.config.schema import RunConfig
from collapselab.engine.plain import PlainEngine
from collapselab.loop import online_loop
from collapselab.randomness import rng
from collapselab.records import Record
from collapselab.step.evaluate import evaluate, plan
from collapselab.step.parts import Parts, build
from collapselab.step.sources import make_prompts, training_text


def built(config: RunConfig, **changes: object) -> Parts:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return build(override(config, {"numerics": "exact", **named}))


def steps_with(records: list[Record], name: str) -> list[int]:
    return [r.step for r in records if r.values.get(name) is not None]


def reference_loss(setup: Parts, protocol: str, seed: int, step: int) -> float:
    """The loss by the plain engine on windows drawn from the evaluation stream."""
    (text,) = setup.encoded.values()
    planned = plan(parse_protocol(protocol), text, rng(seed, "evaluation", step))
    return evaluate(PlainEngine(setup.learner.loaded.model), planned, setup.learner.tokenizer.end_of_text_id).nll_nats


@pytest.mark.parametrize(("every", "steps"), [(1, [0, 1, 2, 3, 4]), (3, [0, 3, 4]), (4, [0, 4]), (9, [0, 4])])
def test_evaluation_is_at_its_steps_and_the_last(tiny_config: RunConfig, every: int, steps: list[int]) -> None:
    setup = built(tiny_config, eval__every=every, stop__max_steps=4)
    records = list(online_loop(setup))
    assert steps_with(records, "val_nll_nats") == steps
    assert records[-1].number("val_nll_nats") == pytest.approx(reference_loss(setup, "windows[20,5]", 0, 0), abs=1e-6)


def test_the_whole_text_is_scored_when_onset_is_known(tiny_config: RunConfig) -> None:
    """Greedy text of a random model is a loop: onset at step 1, known once 6 of 8 have held for 3, at step 8."""
    setup = built(
        tiny_config,
        sampling__greedy=True,
        eval__full_every=50,
        stop__max_steps=9,
        stop__on_collapse=False,
        optim__lr=1e-4,
    )
    records = list(online_loop(setup))
    assert steps_with(records, "full_nll_nats") == [0, 8, 9]
    assert records[-1].number("full_nll_nats") == pytest.approx(reference_loss(setup, "disjoint[64]", 0, 0), abs=1e-6)


def test_the_windows_are_those_of_the_evaluation_stream_whatever_the_seed(tiny_config: RunConfig) -> None:
    for seed in (1, 2):
        setup = built(tiny_config, seed=seed, stop__max_steps=0)
        (record,) = online_loop(setup)
        assert record.number("val_nll_nats") == pytest.approx(reference_loss(setup, "windows[20,5]", 0, 0), abs=1e-6)


def test_redrawn_windows_are_new_at_every_step_and_those_of_the_run_s_seed(tiny_config: RunConfig) -> None:
    setup = built(tiny_config, eval__redraw=True, eval__full_every=0, optim__lr=1e-12, optim__weight_decay=0.0)
    losses = [record.number("val_nll_nats") for record in online_loop(setup)]
    assert len(set(losses)) == len(losses) == 4, "the weights stay, so only other windows give other losses"
    expected = [reference_loss(setup, "windows[20,5]", tiny_config.seed, step + 1) for step in range(4)]
    assert losses == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("engine", ["plain", "native"])
def test_an_update_waits_for_the_checkpoint_that_reads_the_weights(
    tiny_config: RunConfig, engine: str, request: pytest.FixtureRequest
) -> None:
    if engine == "native":
        request.getfixturevalue("native")
    setup = built(tiny_config, engine=engine, train__steps_per_sequence=2)
    before = {name: p.detach().clone() for name, p in setup.learner.loaded.model.named_parameters()}
    loop, records = online_loop(setup), list[Record]()
    stepping = threading.Thread(target=lambda: records.append(next(loop)))
    with setup.learner.reading():
        stepping.start()
        stepping.join(timeout=1.0)  # about 50 ms are enough for a whole step
        assert stepping.is_alive(), "the step ended though the weights were in use"
        assert all(torch.equal(p, before[name]) for name, p in setup.learner.loaded.model.named_parameters())
    stepping.join(timeout=60)
    assert [record.step for record in records] == [0]
    with setup.learner.reading():
        pass  # the lock is free again
    assert any(not torch.equal(p, before[name]) for name, p in setup.learner.loaded.model.named_parameters())


def test_every_place_of_a_real_text_is_drawn(tiny_config: RunConfig, tmp_path: Path) -> None:
    """A window of 100 tokens has four places in 103: one of them is missed by 60 draws with probability 1 in 10⁷."""
    text = tmp_path / "short.txt"
    text.write_text("".join(chr(33 + i % 90) for i in range(103)), encoding="utf-8")
    setup = built(tiny_config, train__source="real", train__real_text=str(text))
    assert len(setup.real_ids) == 103
    assert {training_text(setup, step).samples[0][0] for step in range(60)} == set(setup.real_ids[:4])


def test_every_place_of_a_real_prompt_is_drawn(tiny_config: RunConfig, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("".join(chr(33 + i % 90) for i in range(101)), encoding="utf-8")
    setup = built(tiny_config, generate__prompt_tokens=99, generate__max_new_tokens=2, train__real_text=str(text))
    prompts = [make_prompts(setup, setup.learner, 1, "sample", step)[0] for step in range(60)]
    assert {prompt[0] for prompt in prompts} == set(setup.real_ids[:3])
