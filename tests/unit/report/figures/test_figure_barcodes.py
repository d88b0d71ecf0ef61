"""Barcodes side by side: which runs, in which order, and what is said of them."""

from __future__ import annotations

import math
from pathlib import Path

from collapselab.report.figures import FIGURES, barcode, barcodes
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs, load_runs
from figure_specs import drawn, rows_of
from sampler_runs import with_pulls
from synthetic_runs import judged_run, make_config


def test_a_run_of_each_regime_that_differs_in_the_sampler_only(samplers: Runs) -> None:
    regimes = barcodes.select(samplers)
    assert regimes is not None
    samplers_of = {name: run.row["sampling.temperature"] for name, run in regimes.items()}
    assert list(samplers_of.items()) == [("freeze", 0.8), ("drift", 1.0), ("melt", 1.2)], "nothing cut off, in order"
    assert len({(run.row["model"], run.row["lr"]) for run in regimes.values()}) == 1
    assert math.isnan(regimes["drift"].row["sampling.top_k"])
    assert regimes["melt"].row["fate"] == "melted"


def test_the_panels_are_the_barcodes_of_the_runs_and_have_their_own_steps(samplers: Runs) -> None:
    regimes = barcodes.select(samplers)
    assert regimes is not None
    vega_lite = drawn("barcodes", samplers)
    pairs = vega_lite["hconcat"]
    assert [pair["title"]["text"] for pair in pairs] == ["freeze", "drift", "melt"]
    assert [pair["title"]["subtitle"] for pair in pairs] == [
        ["temperature 0.8", "onset at step 8"],
        ["pure sampling (temperature 1)", "no onset in 30 steps"],
        ["temperature 1.2", "onset at step 9"],
    ]
    for run in regimes.values():
        alone = specification(barcode.draw(run))
        stretches = [row for row in rows_of(alone) if "kind" in row]
        assert stretches in vega_lite["datasets"].values()
        entropy = run.steps["entropy_nats"].astype(float)
        words = [row["words"] for row in rows_of(vega_lite) if "words" in row]
        assert {f"{entropy.iloc[0]:.1f}", f"{entropy.iloc[-1]:.1f}"} <= set(words)


def test_an_unfinished_run_does_not_drift_and_one_regime_is_no_comparison(tmp_path: Path) -> None:
    sharp, pure = ({"sampling__temperature": t, "sampling__top_k": None} for t in (0.8, 1.0))
    judged_run(tmp_path / "a", make_config(**sharp), 10)
    judged_run(tmp_path / "b", make_config(**pure), math.inf, finished=False)
    assert barcodes.select(with_pulls(load_runs(tmp_path))) is None
    judged_run(tmp_path / "c", make_config(seed=1, **pure), math.inf)
    regimes = barcodes.select(with_pulls(load_runs(tmp_path)))
    assert regimes is not None
    assert {name: run.row["run"] for name, run in regimes.items()} == {"freeze": "a", "drift": "c"}


def test_a_line_says_what_is_seen(samplers: Runs) -> None:
    regimes = barcodes.select(samplers)
    assert regimes is not None
    assert barcodes.in_a_line(regimes) == (
        "freeze: temperature 0.8, onset at step 8, entropy 4.00 to 2.65 nats; "
        "drift: pure sampling (temperature 1), no onset in 30 steps, entropy 4.00 to 3.85 nats; "
        "melt: temperature 1.2, onset at step 9, entropy 4.00 to 5.92 nats"
    )
    words = FIGURES["barcodes"].caption(samplers)
    assert "98 % in the last" in words
    assert "seed 0, 15 steps" in words


def test_runs_without_samples_are_not_drawn(samplers: Runs) -> None:
    assert barcodes.select(Runs(samplers.runs, samplers.steps, samplers.samples.iloc[:0])) is None
