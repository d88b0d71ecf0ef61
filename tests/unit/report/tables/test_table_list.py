"""The tables of a report: exact cells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collapselab import CollapseMonitor
from collapselab.analysis.hypotheses import judge
from collapselab.analysis.sensitivity import variations
from collapselab.analysis.survival import restricted_mean
from collapselab.report.groups import run_table
from collapselab.report.page_parts import summary
from collapselab.report.tables import TABLES
from collapselab.report.tables.samples import MAX_CHARS
from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import judged_run, make_config


def build(key: str, runs: Runs) -> pd.DataFrame:
    frame = TABLES[key].build(runs)
    assert frame is not None
    return frame


def test_table_1_has_the_samples_at_the_papers_steps(tmp_path: Path) -> None:
    config = make_config(stop__max_steps=60, stop__on_collapse=False)
    judged_run(tmp_path / "a", config, 20)
    runs = load_runs(tmp_path)
    frame = build("table-1", runs)
    assert frame["step"].tolist() == [0, 50, 60]
    assert frame["run"].unique().tolist() == ["builtin:micro, learning rate 2e-5, seed 0"]
    assert frame["degenerate"].tolist()[0] == "no"
    assert frame["degenerate"].tolist()[1] in ("loop", "frozen", "single-token", "low-entropy")
    samples = runs.samples.set_index("step")["text"]
    assert [text.removesuffix(" …") for text in frame["text"]] == [samples[step][:MAX_CHARS] for step in (0, 50, 60)]
    losses = runs.steps.set_index("step")["train_nll_nats"]
    assert frame["training loss (nats per token)"].tolist() == [losses[step] for step in (0, 50, 60)]


def test_table_1_of_thinned_samples_takes_the_step_before(tmp_path: Path) -> None:
    path = judged_run(tmp_path / "a", make_config(stop__max_steps=60, stop__on_collapse=False), 20)
    lines = (path / "samples.jsonl").read_text().splitlines(keepends=True)
    (path / "samples.jsonl").write_text("".join(lines[::7]))
    assert build("table-1", load_runs(tmp_path))["step"].tolist() == [0, 49, 56]


def test_a_watched_training_begins_at_any_step_and_its_text_is_not_known(tmp_path: Path) -> None:
    monitor = CollapseMonitor(tmp_path / "a")
    for step in range(1, 4):  # TRL's files have no step 0
        monitor.observe(step, [list(range(100))])
    monitor.finish()
    runs = load_runs(tmp_path)
    assert build("table-1", runs)["step"].tolist() == [1, 3]
    assert build("runs", runs)[["trained on", "seed"]].iloc[0].tolist() == [None, None]
    assert build("table-1", runs)["run"].tolist() == ["training", "training"], "nobody set a learning rate or a seed"
    assert {name for name in build("table-2", runs)["setting"] if not name.startswith("collapse.")} == {
        "model",
        "optim.lr",
    }
    assert summary(runs).startswith("training: ")


def test_table_2_lists_what_runs_differ_in_and_sets_other_arms_beside(tmp_path: Path) -> None:
    for seed in (0, 1):
        judged_run(tmp_path / f"own-{seed}", make_config(seed=seed, optim__lr=(seed + 1) * 1e-5), 3)
    judged_run(tmp_path / "real", make_config(train__source="real", train__real_text="moby-dick"), math.inf)
    frame = build("table-2", load_runs(tmp_path)).set_index("setting")
    assert frame.columns.tolist() == ["own text", "real text"]
    assert frame.loc["optim.lr"].tolist() == ["1e-5, 2e-5", "2e-5"]
    assert frame.loc["seed"].tolist() == ["0, 1", "0"]
    assert frame.loc["train.real_text"].tolist() == ["–", "moby-dick"]
    assert frame.loc["optim.betas"].tolist() == ["0.9, 0.95"] * 2
    assert frame.loc["generate.prompt"].tolist() == ["(empty)"] * 2


def test_table_2_of_many_arms_has_one_column(tmp_path: Path) -> None:
    for i in range(7):
        judged_run(tmp_path / str(i), make_config(sampling__temperature=0.5 + i / 10, stop__max_steps=1), math.inf)
    frame = build("table-2", load_runs(tmp_path)).set_index("setting")
    assert frame.columns.tolist() == ["all runs"]
    assert frame.loc["sampling.temperature", "all runs"] == "0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1"


def test_the_table_of_runs_has_their_ends_and_losses(sweep: Runs) -> None:
    frame = build("runs", sweep).set_index("run")
    assert len(frame) == len(sweep.runs)
    for row in sweep.runs.to_dict("records"):
        steps = sweep.steps[sweep.steps["run"] == row["run"]]
        shown = frame.loc[row["run"]]
        assert shown["last step"] == row["last_step"]
        assert (shown["onset (step)"] == row["onset_step"]) is not pd.isna(row["onset_step"])
        assert shown["validation loss, moby-dick, last"] == steps["val_nll_nats[moby-dick]"].iloc[-1]
        assert shown["training loss, first"] == steps["train_nll_nats"].iloc[0]
    assert "total collapse" in set(frame["ended by"])


def test_onset_by_arm_counts_and_averages(sweep: Runs) -> None:
    frame, table = build("onset", sweep), run_table(sweep)
    used_up = table[(table["ending"] == "steps used up") & ~table["is_event"]]
    horizon = used_up["duration"].min()
    assert frame["arm"].unique().tolist() == ["own text"]
    assert len(frame) == 4
    for row in frame.to_dict("records"):
        arm = table[(table["model_label"] == row["model"]) & (table["lr"] == row["learning rate"])]
        onsets = sorted(arm.loc[arm["is_event"], "duration"])
        assert (row["runs"], row["seeds"]) == (len(arm), 3)
        assert (row["onsets"], row["censored"]) == (len(onsets), len(arm) - len(onsets))
        middle = onsets[1] if len(onsets) > 1 else math.nan
        assert row["median onset (step)"] == pytest.approx(middle, nan_ok=True)
        expected = restricted_mean(arm["duration"].to_numpy(), arm["is_event"].to_numpy(), horizon)
        found = row[f"mean onset up to step {horizon:.0f}"]
        assert found == expected.estimate or (expected.estimate is None and math.isnan(found))
        if len(onsets) == 3 and max(onsets) <= horizon:
            assert found == pytest.approx(np.mean(onsets))


def test_onset_by_arm_counts_a_trajectory_once(tmp_path: Path) -> None:
    judged_run(tmp_path / "short", make_config(stop__max_steps=5), 10)
    judged_run(tmp_path / "long", make_config(stop__max_steps=30), 10)
    frame = build("onset", load_runs(tmp_path))
    assert frame["runs"].tolist() == [1]
    assert frame["onsets"].tolist() == [1]


def test_the_table_of_hypotheses_is_what_was_judged(sweep: Runs) -> None:
    frame, judged = build("hypotheses", sweep), judge(sweep)
    assert frame["hypothesis"].tolist() == [found.key for found in judged]
    assert frame["verdict"].tolist() == [found.verdict for found in judged]
    assert frame["estimate"].tolist() == pytest.approx(
        [math.nan if f.effect is None else f.effect for f in judged], nan_ok=True
    )
    assert frame["runs"].tolist() == [found.num_runs for found in judged]
    against = [math.nan if found.p_against is None else found.p_against for found in judged]
    assert frame["p against (Holm)"].tolist() == pytest.approx(against, nan_ok=True)
    assert frame["footnote"].tolist() == [found.footnote or None for found in judged]


def test_runs_without_steps_have_no_tables(tmp_path: Path) -> None:
    path = judged_run(tmp_path / "a", make_config(), 5, finished=False)
    for name in ("steps.jsonl", "samples.jsonl"):
        (path / name).unlink()
    runs = load_runs(path)
    assert {key for key, table in TABLES.items() if table.build(runs) is not None} == set()


def test_the_table_of_thresholds_counts_what_moves(sweep: Runs) -> None:
    frame = build("sensitivity", sweep)
    first = frame.iloc[0]
    assert (first["setting"], first["runs"], first["unchanged"], first["largest shift (steps)"]) == (
        "as recorded",
        len(sweep.runs),
        len(sweep.runs),
        0,
    )
    assert len(frame) == 1 + len(variations())
    assert (
        frame["earlier"] + frame["unchanged"] + frame["later"] + frame["new"] + frame["lost"] == frame["runs"]
    ).all()
    doubled = frame[(frame["setting"] == "patience") & (frame["change"] == "doubled")].iloc[0]
    assert doubled["lost"] > 0
    assert doubled["earlier"] == 0
    looser = frame[(frame["setting"] == "loop_share") & (frame["change"] == "−20 %")].iloc[0]
    assert looser["earlier"] > 0
    assert looser["later"] == looser["lost"] == 0
