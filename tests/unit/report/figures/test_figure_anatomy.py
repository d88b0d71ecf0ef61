"""The anatomy of a collapse: the curves of one run, and its caption."""

from __future__ import annotations

import numpy as np
import pandas as pd

from collapselab.collapse.numbers import NUMBERS
from collapselab.report.figures import FIGURES, anatomy
from collapselab.report.run_panels import MAX_DRAWN_STEPS
from collapselab.report.selection import OneRun, one_run
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs
from figure_specs import rows_of


def test_the_anatomy_has_three_panels_and_keeps_the_peaks_of_a_long_run() -> None:
    num_steps = 5000
    steps = pd.DataFrame({"step": range(num_steps), "train_nll_nats": 2.0, "entropy_nats": 1.0, "seq_rep_4": 0.1})
    steps.loc[4321, "entropy_nats"] = 9.0
    vega_lite = specification(anatomy.draw(OneRun({"model": "m", "onset_step": 4000}, steps, steps)))
    assert len(vega_lite["vconcat"]) == 3
    rows = rows_of(vega_lite)
    raw = [row for row in rows if row.get("layer") == "entropy (thin)"]
    assert max(row["value"] for row in raw) == 9.0
    assert len(raw) <= MAX_DRAWN_STEPS + 2
    assert {row["step"] for row in raw} >= {0, num_steps - 1}


def test_the_anatomy_of_a_watched_training_has_its_reward_and_no_empty_panel() -> None:
    steps = pd.DataFrame({"step": range(5), "seq_rep_4": 0.1, "match_entropy_nats": 2.0, "reward": -3.0})
    run = OneRun({"model": "m", "loop.kind": "monitor", "onset_step": 4}, steps, steps)
    vega_lite = specification(anatomy.draw(run))
    assert [row["layer"] for row in rows_of(vega_lite) if row.get("step") == 0] == ["repetition", "entropy", "reward"]
    assert len(vega_lite["vconcat"]) == 3
    assert "m in training: onset at step 4" in str(vega_lite["title"]), "nobody knows what it is trained on"
    alone = pd.DataFrame({"step": range(5)})
    assert len(specification(anatomy.draw(OneRun({"model": "m"}, alone, alone)))["vconcat"]) == 1


def ends_of(runs: Runs, name: str, run: str) -> tuple[float, float]:
    values = runs.steps[runs.steps["run"] == run].sort_values("step")[name].dropna().tolist()
    return values[0], values[-1]


def test_a_caption_of_one_run_says_from_what_to_what_each_curve_goes(sparse: Runs) -> None:
    found, caption = one_run(sparse), FIGURES["anatomy"].caption(sparse)
    assert found is not None
    row = found.row
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


def test_the_tooltips_of_a_long_run_are_of_measured_values() -> None:
    draw = np.random.default_rng(0)
    steps = pd.DataFrame({"step": range(1000), "train_nll_nats": draw.normal(3, 1, 1000)})
    vega_lite = specification(anatomy.draw(OneRun({"model": "m"}, steps, steps)))
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


def test_words_above_a_panel_are_not_clipped_by_its_zoom(sparse: Runs) -> None:
    """Vega-Lite clips every mark of a view whose scale a selection sets, unless its mark says otherwise."""
    chart = FIGURES["anatomy"].draw(sparse)
    assert chart is not None
    above = [
        layer for layer in specification(chart)["vconcat"][0]["layer"] if "value" in layer["encoding"].get("y", {})
    ]
    assert [layer["mark"]["type"] for layer in above].count("text") == 3, "early warning, onset and total collapse"
    assert all(layer["mark"]["clip"] is False for layer in above)
    assert all({"filter": {"param": "zoom"}} in layer["transform"] for layer in above)


def test_the_captions_of_one_run_name_it_and_its_events(sweep: Runs) -> None:
    found = one_run(sweep)
    assert found is not None
    row = found.row
    for key in ("anatomy", "barcode"):
        caption = FIGURES[key].caption(sweep)
        assert f"({row['run']})" in caption
        assert f"nset at step {row['onset_step']}, total collapse at step {row['last_step']}" in caption
