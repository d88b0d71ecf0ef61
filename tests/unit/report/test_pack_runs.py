"""Records packed for results/ tell the same as those they were made from."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from collapselab.analysis.hypotheses import judge
from collapselab.errors import InputError
from collapselab.rundir.frames import load_runs
from synthetic_runs import write_sweep

TOOL = Path(__file__).parents[3] / "tools" / "pack_runs.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("pack_runs", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_verdicts_are_those_of_the_whole_records(tool: ModuleType, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "runs")
    assert tool.pack(folder, tmp_path / "records.tar.xz") == len(list(folder.glob("*/config.json")))
    with tarfile.open(tmp_path / "records.tar.xz") as archive:
        archive.extractall(tmp_path / "again", filter="data")
    packed, whole = load_runs(tmp_path / "again"), load_runs(folder)
    pd.testing.assert_frame_equal(packed.runs, whole.runs)
    pd.testing.assert_frame_equal(packed.steps, whole.steps, rtol=1e-5)
    for found, expected in zip(judge(packed), judge(whole), strict=True):
        assert found.verdict == expected.verdict
        assert (found.effect or 0.0) == pytest.approx(expected.effect or 0.0, rel=1e-4)
    kept = packed.samples.groupby("run")["step"].agg(["min", "max"])
    assert kept.equals(whole.samples.groupby("run")["step"].agg(["min", "max"]))
    assert len(packed.samples) < len(whole.samples) / 3


def test_an_archive_is_not_replaced_by_nothing(tool: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "records.tar.xz"
    target.write_bytes(b"precious")
    with pytest.raises(InputError, match="contains no run directory"):
        tool.pack(tmp_path / "none", target)
    assert target.read_bytes() == b"precious"
