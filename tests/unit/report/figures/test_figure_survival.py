"""Survival curves: shares of runs without onset, and censored runs."""

from __future__ import annotations

import json
import math

import pytest

from collapselab.report.figures import FIGURES
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs
from figure_specs import drawn, rows_of


def test_survival_steps_down_by_a_share_of_the_runs_at_each_onset(sweep: Runs) -> None:
    rows = [row for row in rows_of(drawn("survival-by-learning-rate", sweep)) if row["kind"] == "curve"]
    curve = next(row for row in rows if (row["panel"], row["curve"]) == ("micro (2.2 M)", "8e-5"))
    table = main_runs(run_table(sweep))
    arm = table[(table["model_label"] == "micro (2.2 M)") & (table["lr"] == 8e-5)]
    assert arm["is_event"].all()
    onsets = sorted(set(arm["duration"]))
    assert len(onsets) > 1
    assert curve["step"][1:] == onsets
    assert curve["survival"][1:] == pytest.approx([float((arm["duration"] > step).mean()) for step in onsets], abs=1e-4)
    assert curve["step"][0] == 0
    assert 0 < curve["at"][0] < min(curve["at"][1:]), "a logarithmic axis has no step 0"
    assert curve["at"][1:] == curve["step"][1:]


def test_runs_lost_from_sight_are_ticks_on_their_curve(sweep: Runs) -> None:
    rows = [row for row in rows_of(drawn("survival-by-size", sweep)) if row["kind"] == "censored" and row["step"]]
    table = main_runs(run_table(sweep))
    lost = table[~table["is_event"]]
    assert sorted(step for row in rows for step in row["step"]) == sorted(lost["duration"])
    assert all(0 <= share <= 1 for row in rows for share in row["survival"])


def test_survival_begins_at_step_0_though_a_logarithmic_axis_has_none(sparse: Runs) -> None:
    chart = FIGURES["survival-by-learning-rate"].draw(sparse)
    assert chart is not None
    text = json.dumps(specification(chart))
    (curve,) = [row for row in rows_of(json.loads(text)) if row["kind"] == "curve"]
    assert (curve["step"][0], curve["survival"][0]) == (0, 1)
    assert curve["at"][0] > 0
    assert not math.isnan(curve["at"][0])
