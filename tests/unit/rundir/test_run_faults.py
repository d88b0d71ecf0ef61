"""A run directory under faults: damaged, foreign or vanished files, signals, a second writer, a later version."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from collapselab import files
from collapselab.config.overrides import override
from collapselab.config.schema import Collapse, RunConfig
from collapselab.errors import InputError, Interrupted, RunFailed
from collapselab.records import Record
from collapselab.rundir import claim
from collapselab.rundir.layout import RunDir, read_json, write_json
from collapselab.runner import run
from run_files import stop_after, timeless, weights


def at_step(step: int, action: Callable[[], object]) -> Callable[[Record], None]:
    def listener(record: Record) -> None:
        if record.step == step:
            action()

    return listener


def assert_same(out: Path, whole: Path) -> None:
    assert timeless(out) == timeless(whole)
    assert (out / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert weights(out) == weights(whole)


@pytest.fixture
def cut(tiny_config: RunConfig, tmp_path: Path) -> Path:
    """A run that was interrupted after step 2, with two checkpoints."""
    with pytest.raises(Interrupted):
        run(override(tiny_config, {"checkpoint_every_s": 0.0}), tmp_path / "cut", on_record=stop_after(2))
    return tmp_path / "cut"


def test_a_refused_directory_is_left_as_it_was(tiny_config: RunConfig, tmp_path: Path) -> None:
    theirs, empty = tmp_path / "theirs", tmp_path / "empty"
    theirs.mkdir()
    empty.mkdir()
    (theirs / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match="holds no run"):
        run(tiny_config, theirs)
    for out in (empty, tmp_path / "a" / "b"):
        with pytest.raises(InputError, match="unknown model"):
            run(override(tiny_config, {"model": "builtin:nanoo"}), out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "theirs"]
    assert [p.name for p in theirs.iterdir()] == ["thesis.tex"]
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_lock_that_is_no_file_is_refused(
    tiny_config: RunConfig, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "lock")
    with pytest.raises(InputError, match=r"not a regular file \(.*lock\)"):
        run(tiny_config, tmp_path)


def test_without_its_lock_a_run_still_keeps_others_out(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def second() -> None:
        (out / "lock").unlink()
        for how in ({"resume": True}, {"fresh": True}):
            with pytest.raises(InputError, match="is in use by process"):
                run(tiny_config, out, **how)

    run(tiny_config, out, on_record=at_step(1, second))
    assert_same(out, finished)


def test_a_directory_that_is_renamed_ends_the_run_at_once(
    finished: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    out, moved, seen = tmp_path / "run", tmp_path / "moved", list[int]()

    def listener(record: Record) -> None:
        seen.append(record.step)
        if record.step == 1:
            out.rename(moved)

    every_step = override(tiny_config, {"checkpoint_every_s": 0.0})
    with pytest.raises(RunFailed, match="run is gone"):
        run(every_step, out, on_record=listener)
    assert seen == [0, 1]
    assert not out.exists(), "nothing is made in its place"
    run(every_step, moved, resume=True)
    assert_same(moved, finished)


@pytest.mark.parametrize("name", ["steps.jsonl", "samples.jsonl"])
def test_records_that_are_removed_end_the_run_at_once(tiny_config: RunConfig, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunFailed, match=f"{name} is gone"):
        run(tiny_config, tmp_path / "run", on_record=at_step(1, (tmp_path / "run" / name).unlink))


def test_a_closed_terminal_interrupts_a_run_that_goes_on_bit_for_bit(
    finished: Path, tiny_config: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match="after step 1"):
        run(tiny_config, tmp_path / "run", on_record=stop_after(1, signal.SIGHUP))
    run(tiny_config, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", finished)


def test_under_nohup_a_closed_terminal_is_nothing(tiny_config: RunConfig, tmp_path: Path) -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(tiny_config, tmp_path / "run", on_record=stop_after(1, signal.SIGHUP)).summary["num_steps"] == 4
    finally:
        signal.signal(signal.SIGHUP, former)


def test_fresh_that_was_killed_leaves_no_result_without_records(
    finished: Path, tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    with monkeypatch.context() as patch:
        patch.setattr(claim, "remove_checkpoints", lambda folder: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config, out, fresh=True)
    assert not (out / "summary.json").exists()
    assert not (out / "status.json").exists()
    (out / "steps.jsonl").unlink()
    run(tiny_config, out, resume=True)
    assert_same(out, finished)


def test_a_run_killed_while_its_checkpoints_are_removed_is_finished(
    finished: Path, tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = override(tiny_config, {"keep_checkpoints": False, "checkpoint_every_s": 0.0}), tmp_path / "out"

    def killed(path: Path) -> None:
        (path / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        listener = at_step(3, lambda: patch.setattr(files.shutil, "rmtree", killed))
        with pytest.raises(KeyboardInterrupt):
            run(config, out, on_record=listener)
    assert run(config, out, resume=True).summary["num_steps"] == 4
    assert timeless(out) == timeless(finished)
    assert not (out / "checkpoint").exists()
    assert read_json(out / "status.json")["status"] == "finished"


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))


def empty_object_first(path: Path) -> None:
    path.write_bytes(b"{}\n" + path.read_bytes())


@pytest.mark.parametrize("name", ["steps.jsonl", "samples.jsonl"])
@pytest.mark.parametrize("damage", [Path.unlink, halved, changed, empty_object_first])
def test_a_finished_run_with_damaged_records_is_told_and_made_again(
    finished: Path,
    tiny_config: RunConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    damage(out / name)
    found = (out / name).read_bytes() if (out / name).exists() else None
    run(tiny_config, out, resume=True)
    assert_same(out, finished)
    assert "damage found" in caplog.text
    assert name in caplog.text
    assert "damage found" in (out / "log.txt").read_text()
    if found is not None:
        assert (out / f"{name}.damaged").read_bytes() == found


@pytest.mark.parametrize("content", ["null", "[1, 2]", "{}", "[" * 100_000, '{"step": ' + "9" * 5000 + "}"])
def test_a_checkpoint_with_a_damaged_state_gives_way_to_the_one_before(
    finished: Path, tiny_config: RunConfig, cut: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (cut / "checkpoint" / "00000003" / "state.json").write_text(content)
    run(tiny_config, cut, resume=True)
    assert "checkpoint 00000003" in caplog.text
    assert "resumes from step 2" in caplog.text
    assert_same(cut, finished)


def test_a_checkpoint_of_another_step_gives_way_to_the_one_before(
    finished: Path, tiny_config: RunConfig, cut: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = cut / "checkpoint" / "00000003" / "state.json"
    write_json(state, read_json(state) | {"step": 2})
    run(tiny_config, cut, resume=True)
    assert "its state.json belongs to step 2" in caplog.text
    assert_same(cut, finished)


@pytest.mark.parametrize("name", ["config.json", "summary.json", "checkpoint/00000004/state.json"])
def test_a_later_version_is_refused_by_name(finished: Path, tiny_config: RunConfig, name: str) -> None:
    write_json(finished / name, read_json(finished / name) | {"schema": 7})
    if name.startswith("checkpoint"):
        (finished / "summary.json").unlink()
    with pytest.raises(InputError, match=rf"{name} has schema 7.* reads schemas 1 and 2"):
        run(tiny_config, finished, resume=True)


def test_a_setting_that_was_changed_in_config_json_is_refused(cut: Path, tiny_config: RunConfig) -> None:
    content = read_json(cut / "config.json")
    content["config"]["optim"]["lr"] = 0.5
    write_json(cut / "config.json", content)
    with pytest.raises(InputError, match=r"config\.json is damaged: its settings do not belong to its run id"):
        run(tiny_config, cut, resume=True)


def test_a_number_that_was_changed_in_summary_json_is_told(
    finished: Path, tiny_config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    good = read_json(finished / "summary.json")
    path = finished / "summary.json"
    path.write_text(path.read_text().replace('"last_step": 3', '"last_step": 2'))
    assert run(tiny_config, finished, resume=True).summary["last_step"] == 3
    assert "summary.json is not as it was written" in caplog.text
    assert read_json(path)["losses"] == good["losses"]


def test_an_unreadable_status_means_unknown(finished: Path, tiny_config: RunConfig) -> None:
    for content in ("", "{}", "null", "\0" * 64, '{"status": 3}'):
        (finished / "status.json").write_text(content)
        assert RunDir(finished).read_status() == {}
    assert run(tiny_config, finished, resume=True).summary["num_steps"] == 4
    assert read_json(finished / "status.json")["status"] == "finished"


def test_a_run_whose_model_has_changed_shape_is_refused(tiny_config: RunConfig, cut: Path, tmp_path: Path) -> None:
    from collapselab.testing import save_folder, tiny_model

    model = Path(tiny_config.model)
    kept = tmp_path / "kept"
    shutil.copytree(model, kept)
    try:
        save_folder(tiny_model(1, layers=2), model)
        with pytest.raises(InputError, match="does not fit the model"):
            run(tiny_config, cut, resume=True)
    finally:
        shutil.copytree(kept, model, dirs_exist_ok=True)


def test_all_files_have_the_mode_that_the_user_wants(tiny_config: RunConfig, tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        out = run(tiny_config, tmp_path / "run").path
    finally:
        os.umask(former)
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {0o640}


def test_what_the_user_asked_for_is_written_on_resume_if_it_is_missing(tiny_config: RunConfig, cut: Path) -> None:
    (cut / "user.json").unlink()
    run(tiny_config, cut, resume=True, asked_for={"name": "seed-1"})
    assert read_json(cut / "user.json")["asked_for"] == {"name": "seed-1"}


def test_a_directory_whose_name_is_no_text(finished: Path, tiny_config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"run-\xff")
    run(tiny_config, out, asked_for={"command": [str(out)]})
    assert read_json(out / "user.json")["asked_for"] == {"command": [str(out)]}
    assert_same(out, finished)


def test_a_checkpoint_notes_the_records_it_follows(cut: Path) -> None:
    for folder, num_steps in (("00000002", 2), ("00000003", 3)):
        records = read_json(cut / "checkpoint" / folder / "state.json")["records"]
        for name, num_lines in (("steps.jsonl", num_steps), ("samples.jsonl", num_steps + Collapse().start_samples)):
            lines = (cut / name).read_bytes().splitlines(keepends=True)[:num_lines]
            assert records[name] == {"lines": num_lines, "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
