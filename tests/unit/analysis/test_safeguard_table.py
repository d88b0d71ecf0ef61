"""Verdicts on safeguards, in worlds where it is known what each arm does."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from collapselab.analysis.safeguard_runs import families
from collapselab.analysis.safeguards import at_equal_steps, delay, ladder, predict, table
from collapselab.rundir.frames import Runs
from made_worlds import frames
from safeguard_worlds import ARMS, ONSET, guarded, run, world

Row = dict[str, Any]


@functools.cache
def judged() -> dict[str, Row]:
    return by_arm(frames(world()))


def by_arm(runs: Runs) -> dict[str, Row]:
    rows: list[Row] = cast(Any, table(families(runs))).to_dict("records")
    return {str(row["arm"]): row for row in rows}


@pytest.mark.parametrize(
    ("arm", "verdict"),
    {
        "none": "reference",
        "real-mix": "delays beyond its steps",
        "trust-stop": "delays, not shown beyond its steps",
        "filter(rule=lowest-loss)": "hastens",
        "focal": "undecided",
        "entropy-bonus": "no onset, beyond its steps",
        "weight-anchor": "no onset",
        "pure-sampling": "no onset, beyond its steps",
        "bigger-batch(batch_size=16)": "hastens",
        "reset": "undecided",
        "lr-control(0.000224)": "delays, not shown beyond its steps",
        "lr-control(0.00016)": "delays, not shown beyond its steps",
        "lr-control(8e-05)": "delays, not shown beyond its steps",
    }.items(),
)
def test_each_arm_is_called_what_it_is(arm: str, verdict: str) -> None:
    assert judged()[arm]["verdict"] == verdict


def test_the_delay_and_what_is_left_of_it_at_equal_steps() -> None:
    row = judged()["trust-stop"]
    assert row["delay_low"] < 2 < row["delay_high"] and row["equal_steps_low"] < 1 < row["equal_steps_high"]
    assert row["path_ratio"] == pytest.approx(0.5) and not row["is_extrapolated"]
    assert judged()["real-mix"]["equal_steps"] == pytest.approx(3, rel=0.1)
    assert judged()["weight-anchor"]["is_extrapolated"], "a tenth of the steps is below the lowest rate's quarter"


def test_an_arm_without_onset_has_no_estimate_but_a_least_one() -> None:
    row = judged()["entropy-bonus"]
    last = 197  # three judged steps before the end may belong to an onset that is not settled
    assert row["delay"] == pytest.approx(last / judged()["none"]["onset"], rel=0.05)
    assert row["delay_low"] is None or math.isnan(row["delay_low"])
    assert row["delay_is_at_least"] and row["num_onsets"] == 0


def test_what_beats_pure_sampling_has_no_onset_and_the_smaller_rise() -> None:
    beats = {arm: row["beats_pure"] for arm, row in judged().items()}
    assert beats["entropy-bonus"] is True
    assert beats["kl-anchor"] is False, "its loss rises more"
    assert beats["lr-control(8e-05)"] is False, "it has an onset"
    assert beats["none"] is None and beats["pure-sampling"] is None


def test_losses_are_compared_within_seeds() -> None:
    row = judged()["real-mix"]
    assert row["loss"] == pytest.approx(40 * (1e-3 - 5e-3), rel=0.2) and row["loss_high"] < 0
    assert judged()["focal"]["loss_low"] < 0 < judged()["focal"]["loss_high"]
    assert judged()["filter(rule=lowest-loss)"]["rise_end"] > 0, "its runs end before step 40"


def test_tokens_count_those_of_a_larger_batch_and_those_that_are_rejected() -> None:
    row = judged()["bigger-batch(batch_size=16)"]
    assert row["tokens"] == pytest.approx(16 * row["delay"])
    assert (row["extra_samples"], row["extra_tokens"], row["extra_forwards"]) == (15, 3000, 15)
    runs = frames(world(2))
    rows, steps = cast(Any, runs.runs), cast(Any, runs.steps)
    drawn = rows.loc[rows["safeguards"] == "real-mix", "run"]
    steps = steps.assign(extra_tokens=np.where(steps["run"].isin(drawn), 600.0, np.nan))
    found = by_arm(Runs(rows, steps, runs.samples))["real-mix"]
    assert found["tokens"] == pytest.approx(4 * found["delay"]) and found["extra_tokens"] == 600


def test_what_is_kept_is_told_from_steps_30_to_39() -> None:
    assert judged()["none"]["entropy_kept"] == pytest.approx((4 - 0.01 * 34.5) / 4)


def test_one_onset_in_five_leaves_a_lower_bound() -> None:
    made = world(arms={"none": ARMS["none"], "kl-anchor": ARMS["kl-anchor"]})
    first = next(i for i, one in enumerate(made) if one.settings.get("safeguards") == "kl-anchor")
    made[first] = replace(made[first], onset=190.0)
    row = by_arm(frames(made))["kl-anchor"]
    assert row["num_onsets"] == 1 and row["delay_is_at_least"]
    assert row["delay"] == pytest.approx(197 / ONSET, rel=0.1) and row["verdict"] == "delays beyond its steps"


def test_a_lower_bound_below_1_hastens_nothing() -> None:
    made = world(arms={"none": ARMS["none"]})
    made += [run(guarded("focal"), seed, (0.7, 1.0, 0.0), 200 if seed == 0 else 30) for seed in range(5)]
    row = by_arm(frames(made))["focal"]
    assert row["num_onsets"] == 1 and row["delay_is_at_least"] and row["delay"] < 1
    assert row["verdict"] == "undecided"


def test_an_arm_that_is_not_finished_has_no_verdict_yet() -> None:
    runs = frames(world())
    rows = cast(Any, runs.runs)
    is_one = (rows["safeguards"] == "kl-anchor") & (rows["seed"] == 3)
    unfinished = rows.assign(ended_by=rows["ended_by"].where(~is_one))
    assert by_arm(Runs(unfinished, runs.steps, runs.samples))["kl-anchor"]["verdict"] == "unfinished"


def test_other_runs_in_the_folder_do_not_join_the_table() -> None:
    others = [run({"sampling.temperature": 0.7}, seed, (0.8, 1.0, 0.0)) for seed in range(3)]
    others += [run({"train.source": "real"}, seed, (math.inf, 1.0, 0.0)) for seed in range(3)]
    others += [run(guarded("rollback(past=10)") | {"stop.on_collapse": False}, 0, (1.0, 1.0, 0.0))]
    assert set(by_arm(frames([*world(), *others]))) == set(judged())
    assert families(frames(others)) == [] == families(frames(world(arms={"none": ARMS["none"]})))
    assert table([]).empty


def test_each_trajectory_counts_once() -> None:
    again = [replace(one, settings=one.settings | {"eval.every": 5}) for one in world()[:10]]
    assert by_arm(frames([*world(), *again]))["none"]["num_runs"] == 5


def test_under_the_null_few_arms_seem_to_delay() -> None:
    """Of 600 arms that are as `none`, with p < 0.05 and delay > 1: nominal are 2.5 %.

    Onsets are censored in a part of the worlds. With a true share of 2.5 %, more than 4.5 % of 600 come in fewer than
    one of 500 draws of a generator; this one is fixed.
    """
    draw = np.random.default_rng(13)
    hits = {"delay": 0, "equal steps": 0}
    for number in range(600):
        horizon = 60.0 if number % 3 == 0 else math.inf
        rows = pd.concat([null_arm(draw, share, horizon) for share in (1.0, 0.7, 0.5, 0.25)])
        arm = null_arm(draw, 1.0, horizon)
        arm = arm.assign(predicted=predict(arm, ladder(rows)))
        found = {"delay": delay(arm, rows[rows["lr"] == 1.0]), "equal steps": at_equal_steps(arm)}
        for name, one in found.items():
            p = one.estimate.p_value(0.0)
            hits[name] += p is not None and p < 0.05 and (one.estimate.value or 0.0) > 0
    assert all(count <= 0.045 * 600 for count in hits.values()), hits


def null_arm(draw: np.random.Generator, share: float, horizon: float) -> pd.DataFrame:
    """Five seeds of onsets around 47 over the share of the rate, and steps that go with the rate."""
    time = np.round(47 / share * np.exp(0.2 * draw.normal(size=5)))
    path = 1e-3 * share * np.exp(0.05 * draw.normal(size=5))
    columns = {"arm": "x", "lr": share, "seed": np.arange(5), "path_per_step": path}
    return pd.DataFrame(columns | {"time": np.minimum(time, horizon / share), "is_event": time <= horizon / share})


def test_the_largest_comparison_of_a_model_is_shown() -> None:
    others = [
        run(guarded(text) | {"optim.lr": 1e-4}, seed, (1.0, 1.0, 0.0)) for text in ("none", "focal") for seed in (0, 1)
    ]
    found = families(frames([*world(2), *others]))
    assert [len(family.rows) for family in found] == [2 * (len(judged()) + 1)], "the rate 1e-4 is a rung of the ladder"
