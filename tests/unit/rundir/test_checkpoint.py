"""Checkpoints: what they hold, which one is taken, and what happens to damaged ones."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, Interrupted
from collapselab.rundir import checkpoint
from collapselab.rundir.layout import read_json, write_json
from collapselab.runner import run
from collapselab.step.learner import Learner
from collapselab.testing import tiny_model
from run_files import stop_after, timeless, weights


def test_checkpoints_beyond_the_records_are_made_again(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    every_step = override(tiny_config, {"checkpoint_every_s": 0.0})
    with pytest.raises(Interrupted):
        run(every_step, out, on_record=stop_after(2))
    lines = (out / "steps.jsonl").read_text().splitlines(keepends=True)
    (out / "steps.jsonl").write_text("".join(lines[:1]))
    run(every_step, out, resume=True)
    assert timeless(out) == timeless(finished)
    assert weights(out) == weights(finished)


def test_a_checkpoint_holds_the_weights_while_a_pass_in_bfloat16_hides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread reads while a forward pass has copies in the place of the parameters."""
    loaded = tiny_model(1, layers=1)
    learner = Learner(loaded, RunConfig(engine="plain"))
    learner.update(loaded.model(input_ids=torch.tensor([[1, 2, 3]])).logits.square().mean())
    expected = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    may_write = threading.Event()
    monkeypatch.setattr(checkpoint, "disk_errors", lambda folder: may_write.wait(20) and nullcontext())
    hidden = {name: torch.zeros_like(p) for name, p in loaded.model.named_parameters()}

    def pass_in_the_middle() -> None:
        may_write.set()
        writer.wait()

    monkeypatch.setattr(loaded.model, "forward", pass_in_the_middle)
    with checkpoint.BackgroundWriter(tmp_path, learner, "id") as writer:
        writer.save(1, {})
        torch.func.functional_call(loaded.model, hidden, ())
    written = load_file(tmp_path / "00000001" / "model.safetensors")
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    assert {key.partition("|")[0] for key in load_file(tmp_path / "00000001" / "optimizer.safetensors")} == set(
        expected
    )


def test_a_finished_run_keeps_no_checkpoints_if_asked_and_stays_finished(
    finished: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    config = override(tiny_config, {"keep_checkpoints": False, "checkpoint_every_s": 0.0})
    with pytest.raises(Interrupted):
        run(config, out, on_record=stop_after(1))
    assert len(list((out / "checkpoint").iterdir())) == 2
    result = run(config, out, resume=True)
    assert result.summary["ended_by"] == "budget"
    assert not (out / "checkpoint").exists()
    assert timeless(out) == timeless(finished)
    assert run(config, out, resume=True).summary == result.summary


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    finished: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    every_step = override(tiny_config, {"checkpoint_every_s": 0.0})
    with pytest.raises(Interrupted):
        run(every_step, out, on_record=stop_after(2))
    newest = sorted((out / "checkpoint").iterdir())[-1] / "model.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[-1] ^= 1
    newest.write_bytes(raw)
    run(every_step, out, resume=True)
    assert timeless(out) == timeless(finished)
    assert weights(out) == weights(finished)


def test_checkpoints_that_are_all_damaged_are_told(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tiny_config, tmp_path / "out", on_record=stop_after(1))
    for state in (tmp_path / "out" / "checkpoint").glob("*/state.json"):
        state.write_text("{")
    with pytest.raises(InputError, match=r"all checkpoints in .* are damaged"):
        run(tiny_config, tmp_path / "out", resume=True)


def test_a_foreign_checkpoint_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tiny_config, tmp_path / "out", on_record=stop_after(1))
    for path in (tmp_path / "out" / "checkpoint").glob("*/state.json"):
        write_json(path, read_json(path) | {"run_id": "ffffffffffff"})
    with pytest.raises(InputError, match="belongs to run 'ffffffffffff'"):
        run(tiny_config, tmp_path / "out", resume=True)
