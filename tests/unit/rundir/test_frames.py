"""Run directories as frames: one, many, unfinished, cut off in a line, and not a run at all."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from collapselab.config.overrides import settings
from collapselab.config.presets import demo
from collapselab.errors import InputError
from collapselab.rundir.frames import load_runs
from collapselab.rundir.layout import read_json, write_json
from fake_runs import write_run


def test_one_finished_run(tmp_path: Path) -> None:
    summary = {
        "ended_by": "collapse",
        "fate": "total-collapse",
        "onset_step": 1,
        "total_collapse_step": 2,
        "best": {"val_nll_nats": 3.5},
    }
    runs = load_runs(write_run(tmp_path / "a", demo(), summary=summary))
    (row,) = runs.runs.to_dict("records")
    assert (row["run"], row["run_id"], row["status"], row["ended_by"]) == ("a", demo().run_id, "finished", "collapse")
    assert (row["model"], row["data"], row["seed"], row["lr"]) == ("builtin:micro", "austen,moby-dick", 0, 1e-4)
    assert (row["onset_step"], row["total_collapse_step"], row["best.val_nll_nats"]) == (1, 2, 3.5)
    assert runs.steps["step"].tolist() == [0, 1, 2]
    assert runs.steps["train_nll_nats"].tolist() == [3.0, 2.0, 1.0]
    assert runs.steps["degenerate"].tolist() == [pd.NA, False, True]
    assert runs.samples["token_ids"].tolist() == [[0, 5], [1, 5], [2, 5]]
    assert runs.samples["text"].tolist() == ["NaN"] * 3, "a text that reads NaN is a text"


def test_the_run_row_holds_every_setting(tmp_path: Path) -> None:
    row = load_runs(write_run(tmp_path / "a", demo())).runs.iloc[0]
    names = {"lr" if name == "optim.lr" else name for name, _ in settings()}
    assert names <= set(row.index)
    assert row["optim.reset_each_step"] is False or not row["optim.reset_each_step"]
    assert row["stop.max_steps"] == 1000


def test_the_row_of_an_earlier_version_is_that_of_the_same_settings_today(tmp_path: Path) -> None:
    now, earlier = (write_run(tmp_path / name, demo()) for name in "ab")
    content = read_json(earlier / "config.json")
    del content["config"]["loop"], content["config"]["generate"]["begin_token"]
    write_json(earlier / "config.json", content)
    (_, of_now), (_, of_earlier) = load_runs(now.parent).runs.drop(columns="run").iterrows()
    pd.testing.assert_series_equal(of_now, of_earlier, check_names=False)
    assert of_now["loop.kind"] == "online"


def test_an_unfinished_run_has_no_outcome(tmp_path: Path) -> None:
    row = load_runs(write_run(tmp_path / "a", demo())).runs.iloc[0]
    assert row["status"] == "running"
    assert pd.isna(row["ended_by"])
    assert row["onset_step"] is pd.NA


def test_runs_below_a_folder_are_named_by_their_path(tmp_path: Path) -> None:
    write_run(tmp_path / "lr-1" / "seed-0", demo(), 2)
    write_run(tmp_path / "lr-2" / "seed-0", demo(), 4)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "gpt2"}')
    runs = load_runs(str(tmp_path))
    assert runs.runs["run"].tolist() == ["lr-1/seed-0", "lr-2/seed-0"]
    assert runs.steps.groupby("run").size().to_dict() == {"lr-1/seed-0": 2, "lr-2/seed-0": 4}


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", demo(), 2)
    with (path / "steps.jsonl").open("a") as handle:
        handle.write('{"step": 2, "train_')
    assert load_runs(path).steps["step"].tolist() == [0, 1]


def test_a_run_that_crashed_before_its_first_step_has_empty_frames(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", demo())
    for name in ("steps.jsonl", "samples.jsonl", "status.json"):
        (path / name).unlink()
    runs = load_runs(path)
    assert len(runs.runs) == 1
    assert runs.runs["status"].tolist() == [None]
    assert len(runs.steps) == len(runs.samples) == 0
    assert {"run", "step"} <= set(runs.steps.columns)


def test_infinite_losses_come_back_as_numbers(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", demo(), 0)
    (path / "steps.jsonl").write_text(
        '{"step": 0, "train_nll_nats": "Infinity"}\n{"step": 1, "train_nll_nats": null}\n'
    )
    first, second = load_runs(path).steps["train_nll_nats"]
    assert first == math.inf
    assert math.isnan(second)


@pytest.mark.parametrize(("folder", "rule"), [(".", "no run directory here"), ("absent", "no such folder")])
def test_what_is_no_run_directory_is_refused(tmp_path: Path, folder: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        load_runs(tmp_path / folder)
    assert caught.value.hint is not None
    assert "collapselab run" in caught.value.hint
