"""The run directory: what is written, what is refused, what survives."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from collapselab import checkpoint
from collapselab.config import Optimizer, RunConfig
from collapselab.errors import InputError, Interrupted, RunFailed
from collapselab.overrides import override
from collapselab.records import Record
from collapselab.rundir import RunDir, read_json, read_lines, write_json
from collapselab.runner import run
from collapselab.testing import tiny_model
from collapselab.training import make_optimizer, update


def timeless(path: Path) -> list[dict[str, object]]:
    lines = read_lines(path / "steps.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith("seconds_")} for line in lines]


def weights(path: Path) -> bytes:
    newest = sorted((path / "checkpoint").iterdir())[-1]
    return (newest / "model.safetensors").read_bytes() + (newest / "optimizer.safetensors").read_bytes()


def newest_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((path / "checkpoint").iterdir())[-1] / "model.safetensors")


def stop_after(step: int, number: int = signal.SIGTERM):
    """A listener that sends this process a signal once a step is recorded."""

    def listener(record: Record) -> None:
        if record.step == step:
            os.kill(os.getpid(), number)

    return listener


@pytest.fixture
def finished(tiny_config: RunConfig, tmp_path: Path) -> Path:
    return run(tiny_config, tmp_path / "finished").path


def test_a_finished_run_leaves_every_file(finished: Path, tiny_config: RunConfig) -> None:
    names = {p.name for p in finished.iterdir()}
    expected = {"config.json", "user.json", "env.json", "steps.jsonl", "samples.jsonl", "checkpoint", "summary.json"}
    assert expected | {"status.json", "log.txt"} <= names
    config = read_json(finished / "config.json")
    assert config["run_id"] == tiny_config.run_id
    assert RunConfig.model_validate(config["config"]) == tiny_config
    assert read_json(finished / "status.json")["status"] == "budget"
    environment = read_json(finished / "env.json")
    assert environment["packages"]["torch"]
    assert environment["threads"] == 1
    assert all("schema" in read_json(finished / f"{n}.json") for n in ("config", "user", "env", "summary", "status"))


def test_the_summary_agrees_with_the_records(finished: Path) -> None:
    steps, summary = read_lines(finished / "steps.jsonl"), read_json(finished / "summary.json")
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    assert summary["outcome"] == "budget"
    assert summary["last_step"] == 3
    assert summary["num_parameters"] == sum(value.numel() for value in newest_weights(finished).values())
    loss = next(entry for entry in summary["losses"] if entry["protocol"] == "windows[20,5]")
    assert loss["first"] == steps[0]["val_nll_nats"]
    assert loss["last"] == steps[-1]["val_nll_nats"]
    assert loss["best"] == min(line["val_nll_nats"] for line in steps)
    assert summary["train_nll_last"] == steps[-1]["train_nll_nats"]


def test_an_interrupted_run_goes_on_bit_for_bit(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    with pytest.raises(Interrupted, match="after step 1"):
        run(tiny_config, out, on_record=stop_after(1))
    assert read_json(out / "status.json")["status"] == "interrupted"
    assert Interrupted.exit_code == 75
    run(tiny_config, out, resume=True)
    assert timeless(out) == timeless(finished)
    assert (out / "samples.jsonl").read_bytes() == (finished / "samples.jsonl").read_bytes()
    assert weights(out) == weights(finished)


def test_a_run_that_died_goes_on_from_its_checkpoint(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    """Records past the checkpoint, and half a line, are cut off and made again."""
    out = tmp_path / "died"

    def die(record: Record) -> None:
        if record.step == 2:
            raise RuntimeError("power cut")

    every_step = override(tiny_config, {"checkpoint_every_s": 0.0})
    with pytest.raises(RuntimeError, match="power cut"):
        run(every_step, out, on_record=die)
    assert read_json(out / "status.json")["status"] == "failed"
    assert len(read_lines(out / "steps.jsonl")) == 3, "step 2 was recorded, its checkpoint was not written"
    with (out / "steps.jsonl").open("a") as handle:
        handle.write('{"step": 3, "train_n')
    run(every_step, out, resume=True)
    assert timeless(out) == timeless(finished)
    assert weights(out) == weights(finished)


def test_wall_time_ends_a_run_that_can_go_on(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "short"
    hurried = override(tiny_config, {"stop.max_seconds": 1e-6})
    for _ in range(3):
        with pytest.raises(Interrupted, match="wall time reached"):
            run(hurried, out, resume=True)
    run(tiny_config, out, resume=True)
    assert timeless(out) == timeless(finished)


def test_resuming_a_finished_run_returns_it_untouched(finished: Path, tiny_config: RunConfig) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.iterdir() if p.is_file() and p.name != "lock"}
    assert run(tiny_config, finished, resume=True).summary["outcome"] == "budget"
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_an_existing_run_is_not_overwritten(finished: Path, tiny_config: RunConfig) -> None:
    before = (finished / "steps.jsonl").read_bytes()
    with pytest.raises(InputError, match="already holds this run"):
        run(tiny_config, finished)
    assert (finished / "steps.jsonl").read_bytes() == before


def test_another_configuration_is_refused_and_named(finished: Path, tiny_config: RunConfig) -> None:
    before = (finished / "steps.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"optim\.lr is 0\.001 there, 0\.5 here"):
        run(override(tiny_config, {"optim.lr": 0.5}), finished, resume=True)
    assert (finished / "steps.jsonl").read_bytes() == before


def test_fresh_removes_the_run_and_nothing_else(finished: Path, tiny_config: RunConfig) -> None:
    (finished / "notes.txt").write_text("mine")
    run(override(tiny_config, {"seed": 5}), finished, fresh=True)
    assert read_json(finished / "config.json")["config"]["seed"] == 5
    assert (finished / "notes.txt").read_text() == "mine"


def test_a_model_folder_is_no_run_and_survives_fresh(tiny_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "precious").write_text("mine")
    with pytest.raises(InputError, match="holds no run"):
        run(tiny_config, tmp_path, fresh=True)
    assert (tmp_path / "checkpoint" / "precious").read_text() == "mine"
    assert (tmp_path / "config.json").read_text() == '{"model_type": "gpt2"}'


def test_resume_and_fresh_exclude_each_other(finished: Path, tiny_config: RunConfig) -> None:
    before = (finished / "steps.jsonl").read_bytes()
    with pytest.raises(InputError, match="exclude each other"):
        run(tiny_config, finished, resume=True, fresh=True)
    assert (finished / "steps.jsonl").read_bytes() == before


def test_a_mistake_does_not_occupy_the_directory(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown model"):
        run(override(tiny_config, {"model": "builtin:nanoo"}), tmp_path / "run")
    assert run(tiny_config, tmp_path / "run").summary["outcome"] == "budget"


def test_a_run_killed_right_after_its_configuration_was_written_goes_on(
    finished: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_bytes((finished / "config.json").read_bytes())
    (out / "user.tmp").write_text("{")
    run(tiny_config, out, resume=True)
    assert timeless(out) == timeless(finished)


def test_a_text_that_changed_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 40)
    config = override(tiny_config, {"data": (str(text),)})
    with pytest.raises(Interrupted):
        run(config, tmp_path / "run", on_record=stop_after(0))
    text.write_text("that is the question " * 40)
    with pytest.raises(InputError, match="has changed since the run"):
        run(config, tmp_path / "run", resume=True)


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


def test_a_file_is_no_run_directory(tiny_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be a run directory"):
        run(tiny_config, tmp_path / "file")


def test_samples_too_short_to_judge_are_not_called_healthy(tiny_config: RunConfig, tmp_path: Path) -> None:
    result = run(override(tiny_config, {"generate.max_new_tokens": 50}), tmp_path / "short")
    assert result.summary["degenerate_share"] is None
    assert all(line["degenerate"] is None for line in read_lines(result.path / "steps.jsonl"))


def test_a_directory_of_something_else_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match=r"holds no run: thesis\.tex"):
        run(tiny_config, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "important"


def test_a_directory_in_use_by_a_live_process_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    with RunDir(tmp_path / "busy").lock(), pytest.raises(InputError, match="is in use by process"):
        run(tiny_config, tmp_path / "busy")


def test_a_checkpoint_holds_the_weights_while_a_pass_in_bfloat16_hides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread reads while a forward pass has copies in the place of the parameters."""
    loaded = tiny_model(1, layers=1)
    optimizer = make_optimizer(loaded.model, Optimizer())
    update(loaded.model, optimizer, loaded.model(input_ids=torch.tensor([[1, 2, 3]])).logits.square().mean(), None)
    expected = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    may_write = threading.Event()
    monkeypatch.setattr(checkpoint, "disk_errors", lambda folder: may_write.wait(20) and nullcontext())
    hidden = {name: torch.zeros_like(p) for name, p in loaded.model.named_parameters()}

    def pass_in_the_middle() -> None:
        may_write.set()
        writer.wait()

    monkeypatch.setattr(loaded.model, "forward", pass_in_the_middle)
    with checkpoint.BackgroundWriter(tmp_path, loaded, optimizer, "id", threading.Lock()) as writer:
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
    assert result.summary["outcome"] == "budget"
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


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Files cannot grow past a size, as on a full disk (the error is another, its handling is the same)."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("num_bytes", [3_000, 20_000])
def test_a_full_disk_keeps_the_records_so_far(
    finished: Path, tiny_config: RunConfig, tmp_path: Path, num_bytes: int
) -> None:
    """Full while records are appended (3,000 bytes), or while a checkpoint is written (20,000)."""
    out = tmp_path / "full"
    with file_size_limit(num_bytes), pytest.raises(RunFailed, match="cannot write to") as caught:
        run(tiny_config, out)
    assert "--resume" in (caught.value.hint or "")
    kept = timeless(out)
    assert kept == timeless(finished)[: len(kept)]
    assert len(kept) >= 1
    run(tiny_config, out, resume=True)
    assert timeless(out) == timeless(finished)


def test_a_run_in_another_thread_needs_no_signals(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    worker = threading.Thread(target=run, args=(tiny_config, tmp_path / "thread"))
    worker.start()
    worker.join()
    assert timeless(tmp_path / "thread") == timeless(finished)


def test_custom_metrics_are_recorded(tiny_config: RunConfig, tmp_path: Path) -> None:
    path = run(tiny_config, tmp_path / "run", metrics={"largest_id": lambda ids: max(ids)}).path
    steps, samples = read_lines(path / "steps.jsonl"), read_lines(path / "samples.jsonl")
    assert [line["largest_id"] for line in steps] == [max(line["token_ids"]) for line in samples]
