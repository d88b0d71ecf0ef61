"""Runs of earlier versions are judged by the rules of this one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from collapselab.rundir.frames import load_runs
from collapselab.rundir.layout import RunDir, read_json, write_json
from collapselab.rundir.progress import glance
from collapselab.runner import run
from synthetic_runs import VOCABULARY, judged_run, make_config

TOOL = Path(__file__).parents[3] / "tools" / "judge_again.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("judge_again", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_what_this_version_wrote_does_not_move(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor without the samples, which packed runs lack."""
    judged_run(tmp_path / "a", make_config(), 10)
    (judged_run(tmp_path / "b", make_config(seed=1), 20) / "samples.jsonl").unlink()
    tool.main(tmp_path, None, write=False)
    assert capsys.readouterr().out == "2 runs: nothing changes\n"


def made_old(path: Path) -> dict[str, object]:
    """A run as an earlier version summarised it, diverged by perplexity; returns its summary by this version.

    Its kind is one that only the samples can tell.
    """
    now = read_json(RunDir(judged_run(path, make_config(), 10)).summary)
    old = {name: value for name, value in now.items() if name not in ("lost_step", "vocab_size")}
    write_json(RunDir(path).summary, {**old, "fate": "diverged", "diverged_step": 4, "kind_at_end": "template"})
    return {**now, "kind_at_end": "template"}


def test_an_old_summary_is_rewritten(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = made_old(tmp_path / "old")
    with pytest.raises(SystemExit, match="--vocabulary"):
        tool.main(tmp_path, None, write=True)
    tool.main(tmp_path, VOCABULARY, write=True)
    written = capsys.readouterr().out
    assert "old: fate: diverged → total-collapse; diverged_step: 4 → None; lost_step: None → 13\n" in written
    assert "1 runs: fate in 1, diverged_step in 1, lost_step in 1\n" in written
    assert read_json(tmp_path / "old" / "summary.json") == now


def test_every_reader_judges_an_old_summary_from_its_steps(tmp_path: Path) -> None:
    now = made_old(tmp_path / "old")
    row = load_runs(tmp_path).runs.iloc[0]
    seen = glance(tmp_path / "old").summary or {}
    result = run(make_config(), tmp_path / "old", resume=True)
    for found in (row, seen, result.summary):
        assert (found["fate"], found["onset_step"]) == ("total-collapse", now["onset_step"])
        assert found["diverged_step"] is None or pd.isna(found["diverged_step"])
