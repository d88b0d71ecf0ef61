"""A run on disk: what is written, how it ends, how it goes on."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from collapselab.config.overrides import override
from collapselab.config.schema import Loop, RunConfig
from collapselab.errors import InputError, Interrupted, RunFailed
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.rundir.layout import read_json, read_lines, write_json
from collapselab.rundir.lease import is_lease
from collapselab.runner import LOOPS, run
from run_files import newest_weights, stop_after, timeless, weights


def test_a_finished_run_leaves_every_file(finished: Path, tiny_config: RunConfig) -> None:
    names = {p.name for p in finished.iterdir()}
    expected = {"config.json", "user.json", "env.json", "steps.jsonl", "samples.jsonl", "checkpoint", "summary.json"}
    assert expected | {"status.json", "log.txt"} <= names
    config = read_json(finished / "config.json")
    assert config["run_id"] == tiny_config.run_id
    assert RunConfig.model_validate(config["config"]) == tiny_config
    assert read_json(finished / "status.json")["status"] == "finished"
    environment = read_json(finished / "env.json")
    assert environment["packages"]["torch"]
    assert environment["threads"] == 1
    assert all("schema" in read_json(finished / f"{n}.json") for n in ("config", "user", "env", "summary", "status"))


def test_the_summary_agrees_with_the_records(finished: Path) -> None:
    steps, summary = read_lines(finished / "steps.jsonl"), read_json(finished / "summary.json")
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    assert summary["ended_by"] == "budget"
    assert summary["last_step"] == 3
    assert summary["num_parameters"] == sum(value.numel() for value in newest_weights(finished).values())
    loss = next(entry for entry in summary["losses"] if entry["protocol"] == "windows[20,5]")
    assert loss["first"] == steps[0]["val_nll_nats"]
    assert loss["last"] == steps[-1]["val_nll_nats"]
    assert loss["best"] == min(line["val_nll_nats"] for line in steps)
    assert summary["train_nll_last"] == steps[-1]["train_nll_nats"]


def test_a_run_of_an_earlier_version_goes_on(tiny_config: RunConfig, finished: Path, tmp_path: Path) -> None:
    """Its config.json lacks what came later; the run id is the same."""
    out = tmp_path / "earlier"
    with pytest.raises(Interrupted):
        run(tiny_config, out, on_record=stop_after(1))
    content = read_json(out / "config.json")
    del content["config"]["loop"]
    write_json(out / "config.json", content)
    run(tiny_config, out, resume=True)
    assert timeless(out) == timeless(finished)
    other = override(tiny_config, {"seed": 2})
    with pytest.raises(InputError, match=r"another configuration: seed is 1 there, 2 here\n"):
        run(other, out, resume=True)


def test_the_runner_takes_the_loop_of_the_kind(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(LOOPS) == set(get_args(Loop.model_fields["kind"].annotation))
    taken: list[str] = []

    def noted(*arguments: Any) -> Iterator[Record]:
        taken.append("online")
        return online_loop(*arguments)

    monkeypatch.setitem(LOOPS, "online", noted)
    run(tiny_config, tmp_path / "run")
    assert taken == ["online"]


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
    before = {
        p: p.stat().st_mtime_ns for p in finished.iterdir() if p.is_file() and p.name != "lock" and not is_lease(p.name)
    }
    assert run(tiny_config, finished, resume=True).summary["ended_by"] == "budget"
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_samples_too_short_to_judge_are_not_called_healthy(tiny_config: RunConfig, tmp_path: Path) -> None:
    result = run(override(tiny_config, {"generate.max_new_tokens": 50}), tmp_path / "short")
    assert result.summary["degenerate_share"] is None
    assert all(line["degenerate"] is None for line in read_lines(result.path / "steps.jsonl"))


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


@pytest.mark.parametrize("num_bytes", [12_000, 20_000])
def test_a_full_disk_keeps_the_records_so_far(
    finished: Path, tiny_config: RunConfig, tmp_path: Path, num_bytes: int
) -> None:
    """Full while records are appended (12,000 bytes), or while a checkpoint is written (20,000)."""
    out = tmp_path / "full"
    with file_size_limit(num_bytes), pytest.raises(RunFailed, match="cannot write to") as caught:
        run(tiny_config, out)
    assert "resume=True" in (caught.value.hint or "")
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
    samples = [line for line in samples if line["role"] == "train"]
    assert [line["largest_id"] for line in steps] == [max(line["token_ids"]) for line in samples]
