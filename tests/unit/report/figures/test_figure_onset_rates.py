"""Onset against learning rate: which runs, and the slopes beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from collapselab.analysis.evidence import gather
from collapselab.analysis.sampler_pull import onset_by_rate
from collapselab.report.figures import FIGURES, onset_rates
from collapselab.report.groups import run_table
from collapselab.report.theme import shades
from collapselab.rundir.frames import Runs
from figure_specs import drawn, parts, rows_of


def test_points_are_the_runs_at_several_rates_and_arrows_those_without_onset(samplers: Runs) -> None:
    rows = [row for row in rows_of(drawn("onset-by-rate", samplers)) if "fate" in row]
    table = run_table(samplers)
    varied = (table["model"] == "builtin:nano") & table["sampling.top_k"].isna()
    table = table[varied & table["sampling.temperature"].isin([0.8, 1.0])]
    assert {(row["run"], row["lr"], row["step"]) for row in rows} == set(
        zip(table["run"], table["lr"], table["duration"], strict=True)
    )
    fates = {row["run"]: row["fate"] for row in rows}
    assert fates == {
        r: "onset" if e else "no onset by the last step" for r, e in zip(table["run"], table["is_event"], strict=True)
    }
    marks = {
        part["mark"].get("shape"): part["mark"]
        for part in parts(drawn("onset-by-rate", samplers))
        if "mark" in part and part["mark"]["type"] == "point"
    }
    assert marks["arrow"]["filled"] is False
    assert len(set(fates.values())) == 2


def test_the_slope_is_that_of_the_hypothesis_and_pure_sampling_has_too_few_onsets(samplers: Runs) -> None:
    rates = onset_rates.select(samplers)
    assert rates is not None
    freeze, pure = rates.panels
    assert (freeze.title, pure.title) == ("freeze", "pure sampling")
    assert freeze.slope == onset_by_rate(gather(samplers)).effect
    assert freeze.slope.estimate is not None
    assert pure.slope.estimate is None
    words = FIGURES["onset-by-rate"].caption(samplers)
    assert f"freeze: slope {freeze.slope.estimate:.3g}".replace("-", "−") in words
    assert "pure sampling: too few onsets for a slope" in words


def test_lines_have_the_slopes_that_they_are_named_after(samplers: Runs) -> None:
    rates = onset_rates.select(samplers)
    assert rates is not None
    lines = [
        rows
        for rows in drawn("onset-by-rate", samplers)["datasets"].values()
        if set(rows[0]) == {"lr", "step"} and len(rows) > 1
    ]
    slopes = [math.log(rows[-1]["step"] / rows[0]["step"]) / math.log(rows[-1]["lr"] / rows[0]["lr"]) for rows in lines]
    assert sorted(np.round(slopes, 6)) == pytest.approx([-2, -2, -1, -1]), "two panels"


def test_a_run_that_ended_at_step_0_has_a_place_on_the_axis(samplers: Runs) -> None:
    """Its arrow was drawn outside the panel: step 0 has no logarithm."""
    rates = onset_rates.select(samplers)
    assert rates is not None
    table = rates.panels[0].table.assign(duration=0.0)
    assert set(onset_rates._rows(table)["step"]) == {1.0}  # pyright: ignore[reportPrivateUsage]


def test_one_rate_has_no_slope(samplers: Runs) -> None:
    part = samplers.runs[samplers.runs["lr"] == 8e-5]
    assert onset_rates.select(Runs(part, samplers.steps, samplers.samples)) is None


def test_names_say_what_most_runs_do_not_have(samplers: Runs) -> None:
    """The legend had "name sgd", and "name adamw" for all others."""
    table = run_table(samplers)
    table = table.assign(**{"optim.name": ["sgd"] + ["adamw"] * (len(table) - 1), "generate.batch_size": 1})
    table.loc[table.index[-1], "generate.batch_size"] = 16
    labels = onset_rates._labels(table)  # pyright: ignore[reportPrivateUsage]
    assert labels[0].endswith(", SGD")
    assert labels[-1].endswith(", batch size 16")
    assert not any("name" in label or "AdamW" in label or "batch" in label for label in labels[:-1])


def test_ten_curves_have_ten_colours() -> None:
    """Two of eight curves were black."""
    assert len(set(shades(10, ordered=False))) == 10
