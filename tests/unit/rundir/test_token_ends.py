"""Where the tokens of a sample end in its text: written, read back, missing in older runs, and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.records import Record, Sample
from collapselab.rundir.frames import load_runs
from collapselab.rundir.layout import RunDir
from fake_runs import write_run


def run_of(path: Path, *samples: Sample) -> RunDir:
    records = [Record(i, {"step": i, "train_nll_nats": 1.0}, (sample,)) for i, sample in enumerate(samples)]
    return RunDir(write_run(path, RunConfig(), records))


def test_they_are_read_as_they_were_written_and_older_runs_have_none(tmp_path: Path) -> None:
    samples = Sample((5, 6, 7), "a sea", token_ends=(1, 1, 5)), Sample((5,), "a")
    rundir = run_of(tmp_path / "a", *samples)
    assert [record.samples[0] for record in rundir.read_records()] == list(samples)
    assert "token_ends" not in rundir.samples.read_text().splitlines()[1]
    assert load_runs(tmp_path).samples["token_ends"].tolist()[0] == [1, 1, 5]


@pytest.mark.parametrize("ends", [(1, 5), (1, 1, 4), (2, 1, 5), (-1, 1, 5)])
def test_ends_that_do_not_fit_the_text_are_damage(tmp_path: Path, ends: tuple[int, ...]) -> None:
    rundir = run_of(tmp_path / "a", Sample((5, 6, 7), "a sea", token_ends=ends))
    with pytest.raises(InputError, match="line 1"):
        rundir.read_records()
    with pytest.raises(InputError, match="is no sample"):
        load_runs(rundir.path)
