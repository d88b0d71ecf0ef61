"""Captions say the numbers that are drawn, the first as the first; and what was not measured is no data."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from collapselab.collapse.numbers import NUMBERS
from collapselab.report import plans
from collapselab.report.catalogue import FIGURES
from collapselab.report.curves import mean_curve, tails
from collapselab.report.figures import anatomy_figure, specification
from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import make_config, write_run


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three seeds of one arm, evaluated every 4 steps."""
    folder = tmp_path_factory.mktemp("sparse")
    for seed in range(3):
        write_run(folder / f"seed-{seed}", make_config(seed=seed, eval__every=4), 12 + seed)
    return load_runs(folder)


def ends_of(runs: Runs, name: str, run: str) -> tuple[float, float]:
    values = runs.steps[runs.steps["run"] == run].sort_values("step")[name].dropna().tolist()
    return values[0], values[-1]


def span(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def test_a_caption_of_losses_says_where_they_start_and_end(sparse: Runs) -> None:
    caption = FIGURES["figure-2"].caption(sparse)
    for words, name in (("Validation", "val_nll_nats[austen]"), ("training", "train_nll_nats")):
        ends = [ends_of(sparse, name, run) for run in sparse.runs["run"]]
        first, last = ([end[i] for end in ends] for i in (0, 1))
        assert f"{words} loss starts at {span(first)} and ends at {span(last)}" in caption
        assert span(first) != span(last), "a caption that took one for the other would be found out"
    last_steps = [int(step) for step in sparse.runs["last_step"]]
    assert len(set(last_steps)) == 1
    assert f"Runs end after {last_steps[0]} steps: 3 total collapse." in caption


def test_a_caption_of_one_run_says_from_what_to_what_each_curve_goes(sparse: Runs) -> None:
    row, caption = plans.one_run(sparse), FIGURES["anatomy"].caption(sparse)
    assert row is not None
    steps = sparse.steps[sparse.steps["run"] == row["run"]]
    names = {
        "Training loss": "train_nll_nats",
        "validation loss, austen": "val_nll_nats[austen]",
        "repeated 4-grams": "seq_rep_4",
        "entropy of the model's predictions": "entropy_nats",
    }
    for words, name in names.items():
        first, last = ends_of(sparse, name, row["run"])
        at = steps.loc[steps[name].notna(), "step"]
        unit = NUMBERS[name.replace("austen", "TEXT")].unit
        told = f"{words} from {first:.2f} at step {at.min()} to {last:.2f} at step {at.max()} ({unit})"
        assert told in caption
        assert f"{first:.2f}" != f"{last:.2f}"


def test_a_caption_of_a_barcode_says_the_shares_of_the_first_and_the_last_row(sparse: Runs) -> None:
    found = re.search(r"goes from (\d+)% in the first row to (\d+)% in the last", FIGURES["barcode"].caption(sparse))
    assert found is not None
    assert int(found[1]) < 20 < 80 < int(found[2])


# --- what was not measured is no data


def rows_of(vega_lite: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in vega_lite["datasets"].values() for row in rows]


def test_a_mean_of_losses_has_points_only_where_all_were_measured(sparse: Runs) -> None:
    chart = FIGURES["figure-2"].draw(sparse)
    assert chart is not None
    rows = rows_of(specification(chart))
    (mean,) = [row for row in rows if row["part"] == "mean 0 0"]
    measured = sparse.steps.pivot_table(index="step", columns="run", values="val_nll_nats[austen]")
    assert mean["step"][:3] == [0, 4, 8]
    for step, value, n in zip(mean["step"], mean["value"], mean["n"], strict=True):
        known = measured.loc[step].dropna()
        assert (len(known), value) == (n, pytest.approx(known.mean(), abs=1e-4))
    for row in rows:
        if row["part"] == "tail 0 0":
            assert set(row["step"]) <= set(measured[row["run"]].dropna().index)


def test_no_value_is_made_between_two_records() -> None:
    long = (np.arange(0.0, 1001.0, 25), np.arange(41.0))
    curve = mean_curve([long], [True])
    assert set(curve["value"]) <= set(long[1]), "a window of 10 steps holds one record, or none"
    assert len(curve) == 41
    assert set(tails({"a": long}, 100.0)["a"]["value"]) <= set(long[1])


def test_the_tooltips_of_a_long_run_are_of_measured_values() -> None:
    draw = np.random.default_rng(0)
    steps = pd.DataFrame({"step": range(1000), "train_nll_nats": draw.normal(3, 1, 1000)})
    vega_lite = specification(anatomy_figure(steps, {"model": "m"}))
    hover = [
        layer
        for layer in vega_lite["vconcat"][0]["layer"]
        if isinstance(layer.get("mark"), dict) and layer["mark"].get("opacity") == 0
    ]
    (filtered,) = [
        part["filter"] for layer in hover for part in layer["transform"] if isinstance(part.get("filter"), str)
    ]
    shown = [row for row in rows_of(vega_lite) if f"'{row['layer']}'" in filtered]
    measured = {step: float(f"{value:.5g}") for step, value in enumerate(steps["train_nll_nats"])}
    assert len(shown) > 100
    assert all(row["value"] == measured[row["step"]] for row in shown if row["layer"].startswith("loss"))
    assert [row for row in rows_of(vega_lite) if row["layer"] == "loss (mean)"], "the line that guides the eye is there"


def test_survival_begins_at_step_0_though_a_logarithmic_axis_has_none(sparse: Runs) -> None:
    chart = FIGURES["survival-by-learning-rate"].draw(sparse)
    assert chart is not None
    text = json.dumps(specification(chart))
    (curve,) = [row for row in rows_of(json.loads(text)) if row["kind"] == "curve"]
    assert (curve["step"][0], curve["survival"][0]) == (0, 1)
    assert curve["at"][0] > 0
    assert not math.isnan(curve["at"][0])


def test_words_above_a_panel_are_not_clipped_by_its_zoom(sparse: Runs) -> None:
    """Vega-Lite clips every mark of a view whose scale a selection sets, unless its mark says otherwise."""
    chart = FIGURES["anatomy"].draw(sparse)
    assert chart is not None
    above = [
        layer for layer in specification(chart)["vconcat"][0]["layer"] if "value" in layer["encoding"].get("y", {})
    ]
    assert [layer["mark"]["type"] for layer in above].count("text") == 2, "onset and total collapse"
    assert all(layer["mark"]["clip"] is False for layer in above)
    assert all({"filter": {"param": "zoom"}} in layer["transform"] for layer in above)
