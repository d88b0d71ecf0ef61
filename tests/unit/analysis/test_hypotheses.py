"""Verdicts in worlds where each claim is true, false, or cannot be known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from collapselab.analysis.hypotheses import judge
from collapselab.rundir.frames import Runs
from made_worlds import (
    KEYS,
    MODELS,
    RATES,
    TEXTS,
    Made,
    frames,
    made,
    spread,
    sweep,
    true_world,
    verdicts,
    with_controls,
)


def test_where_all_is_true_all_holds() -> None:
    found = verdicts(true_world())
    assert tuple(found) == KEYS
    assert {key: h.verdict for key, h in found.items()} == dict.fromkeys(KEYS, "holds")
    for h in found.values():
        assert h.effect is not None
        assert h.p_value is not None
        assert h.p_adjusted is not None
        assert h.p_value <= h.p_adjusted < 0.05
        assert h.num_seeds == 5
        if h.low is not None and h.high is not None:
            assert h.low <= h.effect <= h.high
    assert (found["H1"].num_runs, found["H2"].num_runs, found["H6"].num_runs) == (45, 45, 15)
    assert found["H1"].effect == pytest.approx(10 * 0.02 * 7 / 3, abs=2e-3)  # noise of the losses
    assert found["H3"].effect == pytest.approx(0.02, rel=0.1)  # by seed
    assert (found["H6"].effect, found["H6"].low) == (0.0, 0.0)


def test_where_all_is_false_nothing_holds() -> None:
    """Losses fall, high rates delay onset, larger models last longer, the texts disagree, controls collapse."""
    world = sweep(lambda m, r: 60 * 1.7**r * 1.5**m, lambda r: (-0.02 * 2**r, 0.02 * 2**r), final_share=0.5)
    world = [replace(run, update=run.settings["optim.lr"] * 1e3) for run in world]
    found = verdicts(with_controls(world, onset=60, last_step=64))
    assert {key: h.verdict for key, h in found.items()} == dict.fromkeys(KEYS, "does not hold")
    assert found["H2"].high is not None
    assert found["H2"].high < 1
    assert (found["H6"].effect, found["H6"].high) == (1.0, 1.0)


def test_where_nothing_differs_nothing_is_decided() -> None:
    world = sweep(lambda m, r: 100, lambda r: (0.0, 0.0))
    world = [
        replace(run, update=run.settings["optim.lr"] * 1e3, final_share=0.1 * spread(run.settings["seed"]))
        for run in world
    ]
    found = verdicts(with_controls(world, onset=100, last_step=104))
    assert {key: found[key].verdict for key in ("H2", "H3", "H4", "H4b", "H5")} == dict.fromkeys(
        ("H2", "H3", "H4", "H4b", "H5"), "undecided"
    )
    # That a loss does not rise by as much as .01, and that controls do collapse, is known.
    assert found["H1"].verdict == found["H6"].verdict == "does not hold"


def test_one_seed_decides_nothing() -> None:
    found = verdicts(true_world(num_seeds=1))
    for h in found.values():
        assert h.verdict == "undecided"
        assert h.effect is not None, "what was seen is told"
        assert (h.low, h.high, h.p_value, h.p_adjusted, h.num_seeds) == (None, None, None, None, 1)
        assert h.note.startswith("one seed")


@pytest.mark.parametrize(
    ("key", "keep", "words"),
    [
        ("H2", lambda run: run.settings["optim.lr"] == RATES[0], "learning rates"),
        ("H4", lambda run: run.settings["model"] == MODELS[1], "two models"),
        (
            "H4",
            lambda run: MODELS.index(run.settings["model"]) == RATES.index(run.settings["optim.lr"]),
            "equal learning",
        ),
        ("H4b", lambda run: run.settings["model"] == MODELS[1], "relative_update_norm"),
        ("H6", lambda run: run.settings.get("train.source") != "real", "real text"),
        ("H6", lambda run: run.settings.get("train.source") != "other", "another model's text"),
        ("H6", lambda run: "train.source" in run.settings, "own-text runs"),
    ],
)
def test_what_is_missing_is_named(key: str, keep: Callable[[Made], bool], words: str) -> None:
    h = verdicts([run for run in true_world() if keep(run)])[key]
    assert (h.verdict, h.effect, h.p_value, h.num_runs) == ("undecided", None, None, 0)
    assert h.note.startswith("needs")
    assert words in h.note


def test_runs_without_a_step_leave_all_undecided() -> None:
    rows = frames(true_world()[:2]).runs.drop(columns=["train_nll_first", "train_nll_last", "last_step"])
    rows = rows.drop(columns="total_collapse_step").assign(outcome=None, onset_step=pd.array([None, None], "Int64"))
    found = judge(Runs(rows, pd.DataFrame(columns=pd.Index(["run", "step"])), pd.DataFrame()))
    assert tuple(h.key for h in found) == KEYS
    assert {h.verdict for h in found} == {"undecided"}
    assert all(h.note.startswith("needs") for h in found)


# --- single claims


def test_holm_is_over_all_hypotheses_that_have_a_p_value() -> None:
    found = verdicts(true_world())
    p_values = sorted((h.p_value or 0, h.key) for h in found.values())
    smallest, largest = found[p_values[0][1]], found[p_values[-1][1]]
    assert smallest.p_adjusted == pytest.approx(7 * (smallest.p_value or 0))
    assert largest.p_adjusted == pytest.approx(max(h.p_adjusted or 0 for h in found.values()))
    few = verdicts([run for run in true_world() if run.settings["model"] == MODELS[0]])
    smallest = min((h for h in few.values() if h.p_value is not None), key=lambda h: h.p_value or 0)
    assert smallest.p_adjusted == pytest.approx(4 * (smallest.p_value or 0)), "H4, H4b and H6 have none"


def test_the_rise_is_measured_before_onset_and_at_evaluated_steps() -> None:
    # Slope .02 a step: by step 10, or by step 4 where onset is at step 5.
    late, soon = ([made(MODELS[0], 2e-5, seed, onset) for seed in range(3)] for onset in (200, 5))
    assert verdicts(late)["H1"].effect == pytest.approx(0.2, abs=3e-3)  # noise of the losses
    assert verdicts(soon)["H1"].effect == pytest.approx(0.08, abs=3e-3)
    runs = frames(late)
    steps = runs.steps.assign(val_nll_nats=runs.steps["val_nll_nats"].where(runs.steps["step"] % 4 == 0))
    (h1, *_) = judge(replace(runs, steps=steps))
    assert h1.effect == pytest.approx(0.16, abs=3e-3)
    steps = runs.steps.assign(val_nll_nats=runs.steps["val_nll_nats"].where(runs.steps["step"] % 50 == 0))
    (h1, *_) = judge(replace(runs, steps=steps))
    assert h1.note.startswith("needs")


def test_a_short_run_without_onset_is_measured_to_its_end() -> None:
    short = [Made({"seed": seed}, math.inf, 6) for seed in range(3)]
    assert verdicts(short)["H1"].effect == pytest.approx(0.12, abs=3e-3)


def test_an_interval_beyond_the_bound_refutes_without_correction() -> None:
    # Loss falls to 11 %, p = .03; with H2's p above it, Holm doubles that.
    world = [
        made(MODELS[0], lr, seed, 100 * spread(seed, r), final_share=0.108)
        for r, lr in enumerate(RATES)
        for seed in range(5)
    ]
    h3 = verdicts(world)["H3"]
    assert h3.p_adjusted is not None
    assert h3.p_adjusted > 0.05
    assert h3.low is not None
    assert h3.low > 0.1
    assert h3.verdict == "does not hold"


def test_runs_judged_by_probes_too_do_not_count_twice() -> None:
    world = sweep(lambda m, r: 240 / 2**r * 0.6**m)
    probed = [
        replace(run, settings=run.settings | {"collapse.source": "probe", "data": ("austen",)}, onset=run.onset + 9)
        for run in world
        if run.settings["optim.lr"] == RATES[2]
    ]
    alone, together = verdicts(world), verdicts([*world, *probed])
    for key in ("H1", "H2", "H4", "H5"):
        assert together[key].effect == pytest.approx(alone[key].effect)
        assert together[key].p_value == pytest.approx(alone[key].p_value)


def test_the_loss_left_is_judged_past_collapse_where_runs_went_on() -> None:
    stopped = [made(MODELS[0], RATES[0], seed, 100 * spread(seed), final_share=0.3) for seed in range(5)]
    went_on = [
        replace(
            run, settings=run.settings | {"stop.on_collapse": False}, last_step=run.last_step + 20, final_share=0.02
        )
        for run in stopped
    ]
    assert verdicts(stopped)["H3"].verdict == "does not hold"
    h3 = verdicts([*stopped, *went_on])["H3"]
    assert (h3.verdict, h3.num_runs) == ("holds", 5)
    assert h3.effect == pytest.approx(0.02, rel=0.1)
    assert "20 to 20 steps past total collapse; a share of 0.3" in h3.note
    assert h3.note.endswith("is left at it in 5 others")


def test_arms_that_do_not_rise_are_counted() -> None:
    world = sweep(lambda m, r: 100, lambda r: ((-0.01, 0.05, 0.05)[r], 0.0))
    assert verdicts(world)["H1"].note == "rises in 6 of 9 arms"


def test_a_rise_too_small_to_matter_does_not_hold() -> None:
    h1 = verdicts(sweep(lambda m, r: 100, lambda r: (5e-4, 0.0)))["H1"]
    assert h1.p_adjusted is not None
    assert h1.p_adjusted < 0.05, "though it is no chance"
    assert h1.verdict == "does not hold"


def test_budgets_and_evaluation_may_differ_between_arms() -> None:
    def with_others(run: Made) -> Made:
        rate, model = RATES.index(run.settings["optim.lr"]), MODELS.index(run.settings["model"])
        return replace(run, settings=run.settings | {"stop.max_steps": 1000 // (1 + rate), "eval.every": 1 + model})

    found = verdicts([with_others(run) for run in sweep(lambda m, r: 240 / 2**r * 0.6**m)])
    assert (found["H2"].num_runs, found["H4"].num_runs) == (45, 45)


def test_models_of_unknown_size_are_left_out_until_runs_tell_it() -> None:
    names = dict(zip(MODELS, ("/m/a", "/m/b", "/m/c"), strict=True))
    world = [replace(run, settings=run.settings | {"model": names[run.settings["model"]]}) for run in true_world()]
    runs = frames(world)
    assert next(h for h in judge(runs) if h.key == "H4").note.startswith("needs")
    sizes = runs.runs["model"].map(dict(zip(names.values(), (1e6, 4e6, 1.6e7), strict=True)))
    known = judge(replace(runs, runs=runs.runs.assign(num_parameters=sizes)))
    assert next(h for h in known if h.key == "H4").verdict == "holds"


def test_equal_updates_may_tell_another_story_than_equal_rates() -> None:
    """At one rate the larger model has twice the updates and half the onset; at equal updates they are alike."""
    world = [
        made(model, lr, seed, 200 / 2 ** (m + r) * spread(seed, m, r), update=1e-3 * 2 ** (m + r))
        for (m, model), (r, lr), seed in itertools.product(enumerate(MODELS[:2]), enumerate(RATES), range(5))
    ]
    found = verdicts(world)
    assert (found["H4"].verdict, found["H4b"].verdict) == ("holds", "undecided")
    assert found["H4b"].num_runs == 20, "two rates of each model have a partner"


def test_texts_may_come_from_runs_of_their_own() -> None:
    apart = [
        replace(run, settings=run.settings | {"data": text}) for run in sweep(lambda m, r: 240 / 2**r) for text in TEXTS
    ]
    found = verdicts(apart)
    assert found["H5"].verdict == "holds"
    assert found["H2"].num_runs == 45, "the same trajectory is not counted twice"


def test_texts_are_compared_at_a_step_that_all_runs_reached() -> None:
    world = sweep(lambda m, r: 240 / 2**r)
    shortest = min(run.last_step for run in world)
    assert verdicts(world)["H5"].note == f"9 arms, austen and moby-dick, at step {shortest}"
    one = [replace(run, settings=run.settings | {"data": "austen"}) for run in world]
    assert "two texts" in verdicts(one)["H5"].note


def test_the_order_of_rises_counts_not_that_of_losses() -> None:
    world = sweep(lambda m, r: 240 / 2**r)
    world = [replace(run, losses=(3.0 + i, 9.0 - i)) for i, run in enumerate(world)]
    assert verdicts(world)["H5"].verdict == "holds"


def test_arms_in_the_opposite_order_do_not_agree() -> None:
    rates = (1e-5, *RATES, 1.6e-4)
    world = [
        made(MODELS[0], lr, seed, 200 / 2**r * spread(seed, r), slopes=(0.01 * 2**r, -0.01 * 2**r))
        for (r, lr), seed in itertools.product(enumerate(rates), range(3))
    ]
    h5 = verdicts(world)["H5"]
    assert (h5.effect, h5.low, h5.p_value, h5.verdict) == (-1.0, None, pytest.approx(2 / 120), "does not hold")


def test_orders_that_have_nothing_in_common_do_not_agree() -> None:
    rates = [1e-5 * (1 + r) for r in range(16)]
    world = [
        made(MODELS[0], lr, seed, 100 * spread(seed, r), slopes=(0.01 * r, 0.01 * (7 * r % 16)))
        for (r, lr), seed in itertools.product(enumerate(rates), range(2))
    ]
    h5 = verdicts(world)["H5"]
    assert h5.p_adjusted is not None
    assert h5.p_adjusted > 0.05
    assert h5.high is not None
    assert (h5.high < 0.5, h5.verdict) == (True, "does not hold")


def test_an_effect_known_to_be_too_small_does_not_hold() -> None:
    """The larger model lasts a tenth longer, which is no more than noise, but surely does not collapse sooner."""
    world = [
        made(model, RATES[0], seed, 20 * 1.1**m * spread(seed, m))
        for (m, model), seed in itertools.product(enumerate(MODELS[::2]), range(40))
    ]
    h4 = verdicts(world)["H4"]
    assert h4.p_value is not None
    assert h4.p_value > 0.05
    assert h4.high is not None
    assert (1 < h4.high < 1.1, h4.verdict) == (True, "does not hold")
