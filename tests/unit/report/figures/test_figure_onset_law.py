"""The law of onset: which arms were fitted, which held out, and the error that is said."""

from __future__ import annotations

import numpy as np
import pytest

from collapselab.analysis.sampler import arms
from collapselab.analysis.sampler_pull import predictions
from collapselab.report.figures import FIGURES, onset_law
from collapselab.rundir.frames import Runs
from figure_specs import drawn, parts, rows_of


def test_points_are_the_predictions_of_the_law_and_the_error_that_of_held_out_arms(samplers: Runs) -> None:
    vega_lite = drawn("onset-law", samplers)
    found = predictions(arms(samplers))
    rows = {row["arm"]: row for row in rows_of(vega_lite) if "part" in row}
    assert set(rows) == set(found["arm"])
    for arm in found.to_dict("records"):
        row = rows[arm["arm"]]
        assert row["part"] == ("fitted" if arm["is_fitted"] else "held out")
        assert (row["predicted"], row["onset"]) == pytest.approx((arm["predicted"], arm["onset"]), abs=0.01)
    held_out = found[~found["is_fitted"]]
    error = (held_out["predicted"] / held_out["onset"] - 1).abs().median()
    texts = [part["mark"]["text"] for part in parts(vega_lite) if "mark" in part and "text" in part["mark"]]
    assert texts == [[f"median error {100 * error:.0f} %", f"{len(held_out)} held-out arms"]]
    assert f"median error {100 * error:.0f} %" in FIGURES["onset-law"].caption(samplers)


def test_the_band_is_a_quarter_above_and_below(samplers: Runs) -> None:
    ends = [row for row in rows_of(drawn("onset-law", samplers)) if "least" in row]
    assert [row[name] / row["predicted"] for row in ends for name in ("least", "most")] == pytest.approx(
        [0.75, 1.25] * 2
    )


def test_an_arm_without_sharpening_counts_as_an_error_without_bound_and_is_not_drawn(samplers: Runs) -> None:
    steps = samplers.steps.copy()
    rows = samplers.runs
    pure = rows["sampling.temperature"].eq(0.8) & rows["sampling.top_k"].eq(50)
    steps.loc[steps["run"].isin(rows.loc[pure.fillna(False).astype(bool), "run"]), "sharpening_nats"] = 0.0
    changed = Runs(rows, steps, samplers.samples)
    table = onset_law.select(changed)
    assert table is not None
    assert np.isinf(table["predicted"]).sum() == 1
    drawn_arms = {row["arm"] for row in rows_of(drawn("onset-law", changed)) if "part" in row}
    assert len(drawn_arms) == len(table) - 1
    assert "1 arm without sharpening" in FIGURES["onset-law"].caption(changed)


def test_without_records_of_sharpening_there_is_no_law(samplers: Runs) -> None:
    steps = samplers.steps.drop(columns="sharpening_nats")
    assert onset_law.select(Runs(samplers.runs, steps, samplers.samples)) is None
