"""Which directory a run may use, and what is refused without being touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config import presets
from collapselab.config.identity import identity
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, Interrupted
from collapselab.rundir.layout import RunDir, read_json, write_json
from collapselab.runner import run
from run_files import stop_after, timeless


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


def test_a_run_of_an_earlier_version_is_refused_and_kept(finished: Path, tiny_config: RunConfig) -> None:
    """Its settings cannot be repeated: some rules of collapse did not exist."""
    there = read_json(finished / "config.json")
    del there["config"]["collapse"]["melted_share"]
    write_json(finished / "config.json", there | {"run_id": identity(there["config"])})
    before = (finished / "steps.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"begun by an earlier version, without collapse\.melted_share") as caught:
        run(tiny_config, finished, resume=True)
    assert "env.json" in (caught.value.hint or "")
    assert (finished / "steps.jsonl").read_bytes() == before
    with pytest.raises(InputError, match=r"is of an earlier version, without collapse\.melted_share"):
        presets.load(str(finished))


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
    assert run(tiny_config, tmp_path / "run").summary["ended_by"] == "budget"


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


def test_a_file_is_no_run_directory(tiny_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be a run directory"):
        run(tiny_config, tmp_path / "file")


def test_a_directory_of_something_else_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match=r"holds no run: thesis\.tex"):
        run(tiny_config, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "important"


def test_a_directory_in_use_by_a_live_process_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    with RunDir(tmp_path / "busy").lock(), pytest.raises(InputError, match="is in use by process"):
        run(tiny_config, tmp_path / "busy")
