"""Which runs are shown, under which names."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from collapselab.report import groups
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs, one_run, shown_run
from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import judged_run, make_config


def test_the_main_runs_differ_in_model_rate_and_seed_only(odd: Runs) -> None:
    main = main_runs(run_table(odd))
    assert set(main["run"]) == {"own-0", "own-1", "unfinished", "no-samples", "diverged", "thinned"}
    assert set(main["ending"]) == {"total collapse", "unfinished", "steps used up"}


def test_arms_are_named_by_what_tells_them_apart(odd: Runs) -> None:
    table = run_table(odd).set_index("run")
    assert table["arm_label"]["cold"] == "own text, temperature 0.5"
    assert table["arm"]["own-0"] == table["arm"]["own-1"] == table["arm"]["thinned"] != table["arm"]["cold"]
    assert table["model_label"]["own-0"] == "micro (2.2 M)"
    assert table["size"]["own-0"] == 2_222_208
    assert "crashed" not in table.index


def test_models_without_a_name_are_called_by_their_folder_where_that_is_enough(sweep: Runs) -> None:
    two = sweep.runs.head(2).drop(columns="num_parameters").assign(model=["/a/b/small", "/a/c/large"])
    assert run_table(Runs(two, sweep.steps, sweep.samples))["model_label"].tolist() == ["small", "large"]
    two = two.assign(model=["/a/b/small", "/a/c/small"])
    assert run_table(Runs(two, sweep.steps, sweep.samples))["model_label"].tolist() == ["/a/b/small", "/a/c/small"]


def shown_rows(**columns: Sequence[object]) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    defaults = {"run": list("abcdefgh")[:length], "ending": ["total collapse"] * length, "is_event": [True] * length}
    return pd.DataFrame(defaults | {"lr": [1e-4] * length, "last_step": list(range(length))} | columns)


def test_one_run_is_shown_by_rank() -> None:
    assert shown_run(shown_rows(last_step=[9, 5, 7]), {"a", "b", "c"}) == "c", "the median of those that collapsed"
    assert shown_run(shown_rows(last_step=[9, 5, 7]), {"a"}) == "a", "one with samples"
    assert shown_run(shown_rows(last_step=[9, 5, 7]), set()) == "c", "or any"
    assert shown_run(shown_rows(lr=[1e-4, 2e-5, 1e-4]), set()) == "b", "at the paper's learning rate"
    endings, events = ["unfinished", "steps used up", "steps used up"], [False, False, True]
    assert shown_run(shown_rows(ending=endings, is_event=events), set()) == "c", "one with an onset"
    endings = ["steps used up", "total collapse", "steps used up"]
    assert shown_run(shown_rows(ending=endings, last_step=[5, 9, 1]), set()) == "b", "rather one that collapsed totally"
    assert shown_run(shown_rows(run=[]), set()) is None


def test_an_unfinished_run_shows_the_onset_in_its_records(tmp_path: Path) -> None:
    path = judged_run(tmp_path / "a", make_config(), 6)
    onset = json.loads((path / "summary.json").read_text())["onset_step"]
    (path / "summary.json").unlink()
    found = one_run(load_runs(path))
    assert found is not None
    row = found.row
    assert (row["ending"], row["onset_step"]) == ("unfinished", onset)


def test_the_table_of_runs_is_made_once_and_forgotten_with_them(sweep: Runs) -> None:
    runs = Runs(sweep.runs, sweep.steps, sweep.samples)
    key = id(runs)
    assert run_table(runs) is run_table(runs)
    del runs
    gc.collect()
    assert key not in groups._tables
