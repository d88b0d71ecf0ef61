"""H2, H4 and H4b: rates, sizes with models as units, and the path for a clock."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from collapselab.analysis.hypotheses import judge
from collapselab.analysis.onsets import path_lengths
from made_worlds import (
    DOUBLINGS,
    MODELS,
    RATES,
    Made,
    frames,
    made,
    spread,
    sweep,
    true_world,
    verdicts,
)


def test_budgets_and_evaluation_may_differ_between_arms() -> None:
    def with_others(run: Made) -> Made:
        rate, model = RATES.index(run.settings["optim.lr"]), MODELS.index(run.settings["model"])
        return replace(run, settings=run.settings | {"stop.max_steps": 1000 // (1 + rate), "eval.every": 1 + model})

    found = verdicts([with_others(run) for run in sweep(lambda m, r: 320 / 2**r * 0.85 ** DOUBLINGS[m])])
    assert (found["H2"].num_runs, found["H4"].num_runs) == (75, 75)


def test_models_of_unknown_size_are_left_out_until_runs_tell_it() -> None:
    names = {model: f"/m/{i}" for i, model in enumerate(MODELS)}
    world = [replace(run, settings=run.settings | {"model": names[run.settings["model"]]}) for run in true_world()]
    runs = frames(world)
    assert next(h for h in judge(runs) if h.key == "H4").note.startswith("needs")
    sizes = runs.runs["model"].map({f"/m/{i}": 1e6 * 2**doublings for i, doublings in enumerate(DOUBLINGS)})
    known = judge(replace(runs, runs=runs.runs.assign(num_parameters=sizes)))
    assert next(h for h in known if h.key == "H4").verdict == "holds"


def test_paths_may_tell_another_story_than_steps() -> None:
    """At one rate the larger model moves faster and collapses sooner, but after the same path."""
    world = [
        made(
            model,
            lr,
            seed,
            3 + 200 / 2**r * 0.8 ** DOUBLINGS[m] * spread(seed, m, r),
            update=1e-3 * 1.25 ** DOUBLINGS[m],
        )
        for (m, model), (r, lr), seed in itertools.product(enumerate(MODELS), enumerate(RATES), range(5))
    ]
    found = verdicts(world)
    assert (found["H4"].verdict, found["H4b"].verdict) == ("holds", "does not hold")
    assert found["H4"].effect == pytest.approx(0.8, rel=0.03)
    assert found["H4b"].effect == pytest.approx(1.0, rel=0.03)


def test_a_path_is_the_sum_of_the_updates_before_onset() -> None:
    rows = pd.DataFrame({"run": ["a", "b", "c", "d"], "duration": [3.0, 0.5, 3.0, 2.0]})
    steps = pd.DataFrame(
        [(run, step, norm) for run in "abd" for step, norm in enumerate((0.1, 0.2, 0.4, 0.8))] + [("c", 0, 0.1)],
        columns=["run", "step", "relative_update_norm"],
    )
    steps.loc[(steps["run"] == "d") & (steps["step"] == 1), "relative_update_norm"] = None
    found = path_lengths(rows, steps)
    assert found.tolist()[:2] == pytest.approx([0.7, 0.05])
    assert found.isna().tolist() == [False, False, True, True]


@pytest.mark.parametrize(("num_models", "verdict"), [(3, "undecided"), (4, "undecided"), (5, "holds")])
def test_few_models_decide_nothing_about_size(num_models: int, verdict: str) -> None:
    """However many seeds: the next model is what a claim on size is about."""
    world = [run for run in true_world(num_seeds=8) if run.settings["model"] in MODELS[:num_models]]
    h4 = verdicts(world)["H4"]
    assert h4.verdict == verdict
    assert h4.effect == pytest.approx(0.85, rel=0.05)
    assert h4.low is not None
    assert h4.footnote.startswith("hazard ratio (Firth) ")
    assert ("a verdict needs 5 models or more" in h4.note) == (verdict == "undecided")


def test_an_effect_known_to_be_too_small_does_not_hold() -> None:
    """The higher rate shortens the time by a fiftieth, surely: too little for the claim."""
    world = [
        made(MODELS[0], lr, seed, 200 * 0.98**r * math.exp(0.05 * np.random.default_rng([seed, r]).normal()))
        for (r, lr), seed in itertools.product(enumerate(RATES), range(30))
    ]
    h2 = verdicts(world)["H2"]
    assert h2.high is not None
    assert (1 / 1.1 < h2.high < 1, h2.verdict) == (True, "does not hold")


def test_a_rate_at_which_no_run_collapses_is_judged_by_the_order() -> None:
    world = [
        made(MODELS[0], lr, seed, 30 * spread(seed) if r else math.inf)
        for r, lr in enumerate(RATES[:2])
        for seed in range(5)
    ]
    h2 = verdicts(world)["H2"]
    assert (h2.effect, h2.verdict) == (None, "holds")
    assert h2.note.startswith("no interval of the time ratio")
