"""The arms of the sampler: regimes, slopes, the law's predictions, which runs are paired."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from collapselab.analysis.evidence import gather, with_paper_sampler
from collapselab.analysis.sampler import arm_names, arms, entropy_slopes, is_pure, measured
from collapselab.analysis.sampler_line import pairs
from collapselab.analysis.sampler_pull import predictions
from collapselab.analysis.sampler_sizes import COMPARISONS, equal_pulls, onsets_by_size, ratios_by_size
from collapselab.rundir.frames import Runs
from made_worlds import Made, frames, settings_of
from sampler_worlds import run


def rows(world: list[Made]) -> dict[float, Any]:
    """The arms' rows by temperature."""
    found = cast(Any, arms(frames(world)))
    return {row["temperature"]: row for _, row in found.iterrows()}


def test_an_arm_freezes_melts_or_drifts_with_half_of_its_runs() -> None:
    found = rows(
        [
            *(run(1e-4, 0.8, seed, 30 + 10 * seed if seed < 2 else math.inf) for seed in range(4)),
            *(run(1e-4, 1.2, seed, 50 if seed < 2 else math.inf, kind="melted", slope=0.02) for seed in range(4)),
            *(run(1e-4, 0.9, seed, 50 if seed < 1 else math.inf) for seed in range(4)),
            run(1e-4, 1.1, 0, 50, kind="melted", slope=0.02),
            *(run(1e-4, 1.1, seed, math.inf) for seed in (1, 2)),
        ]
    )
    assert {t: row["regime"] for t, row in found.items()} == {0.8: "freeze", 1.2: "melt", 0.9: "drift", 1.1: "drift"}
    freeze = found[0.8]
    assert (freeze["num_runs"], freeze["onset"], freeze["onset_share"]) == (4, 40, 0.5)
    assert found[1.2]["melted_share"] == 0.5 and found[1.2]["repetition_share"] == 0
    assert math.isnan(found[0.9]["onset"])


def test_slopes_agree_or_not() -> None:
    found = rows(
        [
            *(run(1e-4, 0.8, seed, 30, slope=-0.02) for seed in range(3)),
            *(run(1e-4, 0.9, seed, 30, slope=0.02) for seed in range(3)),
            *(run(1e-4, 1.2, seed, 30, kind="melted", slope=0.02) for seed in range(3)),
            *(run(1e-4, 1.0, seed, math.inf) for seed in range(3)),
            run(1e-4, 0.7, 0, 30),
        ]
    )
    assert found[0.8]["slope_agrees"] is True and found[1.2]["slope_agrees"] is True
    assert found[0.9]["slope_agrees"] is False
    assert found[1.0]["slope_agrees"] is pd.NA and found[0.7]["slope_agrees"] is pd.NA, "one seed has no interval"
    values = np.array([-0.02 * (1 + 0.02 * np.random.default_rng([s, 1000, 1]).normal()) for s in range(3)])
    half_width = 4.302653 * values.std(ddof=1) / math.sqrt(3)
    ends = (found[0.8]["entropy_slope_low"], found[0.8]["entropy_slope"], found[0.8]["entropy_slope_high"])
    assert ends == pytest.approx((values.mean() - half_width, values.mean(), values.mean() + half_width), rel=1e-6)


def test_a_slope_is_that_of_least_squares_up_to_onset_or_to_the_last_step() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, (2, 61))
    steps = pd.DataFrame({"run": np.repeat(["a", "b"], 61), "step": np.tile(np.arange(61), 2)})
    steps["entropy_nats"] = 3 - 0.01 * steps["step"] + noise.ravel()
    frame = pd.DataFrame({"run": ["a", "b", "c"], "duration": [20.0, 30.0, 4.0], "is_event": [True, False, True]})
    found: list[float] = list(entropy_slopes(frame, steps))
    x, y = np.arange(61, dtype=float), 3 - 0.01 * np.arange(61) + noise
    expected = [np.polyfit(x[:21], y[0, :21], 1)[0], np.polyfit(x, y[1], 1)[0], math.nan]
    assert found == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_sharpening_and_updates_are_those_of_the_first_ten_steps_and_the_rise_that_of_all() -> None:
    runs = frames([replace(run(1e-4, 0.8, 0, math.inf, 40), update=None)])
    steps = cast(Any, runs.steps)
    steps["sharpening_nats"] = np.where(steps["step"] < 10, steps["step"], 99.0)
    steps["relative_update_norm"] = np.where(steps["step"] < 10, 2.0 * steps["step"], 99.0)
    steps["val_nll_nats"] = np.where(steps["step"] % 20 == 0, 3 + steps["step"] / 20, np.nan)
    steps["entropy_nats"], steps["train_nll_nats"] = 5.0, np.where(steps["step"] < 10, 7.0, 99.0)
    (_, row), *_ = cast(Any, arms(runs)).iterrows()
    assert row["pull_nats"] == 5.0 - 7.0 + 4.5, "H(p) - H(q), where H(q) is the loss less KL"
    assert (row["sharpening_nats"], row["relative_update_norm"], row["val_rise_nats"]) == (4.5, 9.0, 2.0)


def test_a_name_says_what_is_not_the_default_whatever_a_frame_makes_of_it() -> None:
    changes = {"model": "builtin:pico", "sampling.top_k": None, "optim.lr": 3.2e-4, "optim.weight_decay": 0.0}
    looks = {"seed": 3, "data": ("austen",), "eval.every": 7, "stop.max_steps": 9, "threads": 2}
    rows = [settings_of(tuple((changes | looks).items())), settings_of((("model", "builtin:nano"),))]
    both: Any = pd.DataFrame(rows)
    first, second = arm_names(both.astype({"sampling.top_k": float}))
    assert first == (
        "model=builtin:pico sampling.temperature=0.8 sampling.top_k=none optim.lr=0.00032 optim.weight_decay=0"
    )
    assert second == "model=builtin:nano sampling.temperature=0.8 optim.lr=2e-05"
    assert first == arm_names(pd.DataFrame(rows[:1]))[0]


def test_nothing_is_pure_but_temperature_one_without_a_cut() -> None:
    cuts: list[dict[str, Any]] = [
        {}, {"sampling__top_k": 50}, {"sampling__top_p": 0.9}, {"sampling__min_p": 0.1}, {"sampling__greedy": True}
    ]  # fmt: skip
    world = [run(1e-4, t, 0, 30, **cut) for t in (1.0, 0.8) for cut in cuts]
    assert list(is_pure(frames(world).runs)) == [True] + [False] * 9


def test_no_run_has_no_arm() -> None:
    runs = frames([run(1e-4, 0.8, 0, 30)])
    nothing, something = (arms(Runs(runs.runs.iloc[:n], runs.steps.iloc[: 9 * n], runs.samples)) for n in (0, 1))
    assert (len(nothing), len(something)) == (0, 1)
    assert nothing.columns.equals(something.columns)


def test_the_law_is_fitted_on_arms_with_an_odd_first_digit_and_tested_on_the_others() -> None:
    frame = pd.DataFrame({"arm": [f"arm {i}" for i in range(8)], "model": ["builtin:pico"] * 6 + ["smollm2-135m"] * 2})
    frame["sharpening_nats"] = [0.1, 0.2, 0.05, 0.1, 0.0, 0.3, 0.1, 0.1]
    frame["relative_update_norm"] = 1e-3
    frame["onset"] = [40.0, 22.0, 80.0, np.nan, 90.0, 12.0, 10.0, 11.0]
    found = cast(Any, predictions(frame)).set_index("arm")
    names = [f"arm {i}" for i in range(8)]
    is_odd = {arm: hashlib.sha256(arm.encode()).hexdigest()[0] in "13579bdf" for arm in names}
    assert list(found.index) == [f"arm {i}" for i in range(8) if i != 3], "half of the runs need an onset"
    assert found["is_fitted"].to_dict() == {arm: is_odd[arm] for arm in found.index}
    fitted = [arm for arm in found.index if is_odd[arm]]
    assert 1 <= len([arm for arm in fitted if arm < "arm 6"]) < 6
    builtin = [
        row.onset * 1e-3 * row.sharpening_nats for arm, row in found.iterrows() if arm in fitted and arm < "arm 6"
    ]
    builtin = [math.log(value) for value in builtin if value > 0]
    expected = math.exp(sum(builtin) / len(builtin))
    assert found["constant"]["arm 0"] == pytest.approx(expected, rel=1e-12)
    assert found["predicted"]["arm 1"] == pytest.approx(expected / (1e-3 * 0.2), rel=1e-12)
    assert math.isinf(found["predicted"]["arm 4"]), "without sharpening the law says never"
    assert found["family"].nunique() == 2


def test_a_pure_run_outlasts_its_partner_or_not_or_was_not_observed_for_as_long() -> None:
    world = [
        run(1e-4, 0.8, 0, 30, sampling__top_k=500),  # cuts: the next one is the partner
        run(1e-4, 0.8, 0, 20), run(1e-4, 1.0, 0, math.inf, 220),  # outlasts
        run(1e-4, 0.8, 1, 20), run(1e-4, 1.0, 1, 200, 300),  # onset by ten times
        run(1e-4, 0.8, 2, 20), run(1e-4, 1.0, 2, 201, 300),  # after it
        run(1e-4, 0.8, 3, 20), run(1e-4, 1.0, 3, math.inf, 150),  # too short
        run(1e-4, 0.8, 4, math.inf), run(1e-4, 1.0, 4, math.inf, 220),  # a partner without onset
        run(1e-4, 1.0, 5, math.inf, 220),  # no partner
        run(1e-4, 0.8, 6, 20, sampling__top_k=500), run(1e-4, 1.0, 6, math.inf, 220),  # the paper's sampler
        run(1e-4, 0.8, 7, 20, sampling__top_k=50), run(1e-4, 1.0, 7, math.inf, 220),  # another cut
    ]  # fmt: skip
    found = pairs(measured(gather(frames(world)))).set_index("seed")
    assert {seed: value for seed, value in found["outlasts"].items() if value == value} == {0: 1, 1: 0, 2: 1, 6: 1}
    assert sorted(found.index) == [0, 1, 2, 3, 6]
    assert found["duration_partner"][0] == 20


def test_sets_have_equal_sharpening_equal_updates_and_each_model_once() -> None:
    frame = pd.DataFrame([settings_of((("model", f"m{i}"),)) for i in range(6)])
    frame["model"] = ["a", "b", "c", "d", "a", "e"]
    frame["arm"] = [f"arm {i}" for i in range(6)]
    frame["relative_update_norm"] = [1.0, 1.09, 1.05, 1.2, 1.01, 1.0]
    frame["sharpening_nats"] = [0.1, 0.105, 0.12, 0.1, 0.1, 0.095]
    frame.loc[5, "sampling.top_k"] = 50
    numbers = list(equal_pulls(frame))
    assert numbers[0] == numbers[1], "within a tenth in both"
    assert len({*numbers}) == 5, "c is sharper, d moves further, a is in the set already, e cuts differently"


def test_sizes_are_compared_at_equal_rate_at_equal_updates_and_at_equal_pull() -> None:
    """Onset is 1 / (update × sharpening); the larger model moves twice as far and is sharpened half as much."""
    world: list[Made] = []
    for seed in range(3):
        for number, (model, update, pull) in enumerate([("builtin:pico", 1.0, 0.1), ("builtin:nano", 2.0, 0.05)]):
            for rate, temperature in ((1.0, 0.8), (1 / update, 0.8), (1 / update, 0.8 - 0.1 * number)):
                pulled = pull * (2 if temperature == 0.8 - 0.1 and number else 1)
                onset = 5e-4 / (rate * update * 1e-4 * pulled) * (1 + 0.01 * seed)
                one = run(rate * 1e-4, temperature, seed, onset, 3000, model=model)
                lines = {**one.lines, "sharpening_nats": (pulled, 0.0)}
                world.append(replace(one, update=rate * update * 1e-4, lines=lines))
    runs = frames(list({str(one.settings): one for one in world}.values()))
    found = cast(Any, onsets_by_size(runs))
    assert {name: sorted(part["model"]) for name, part in found.groupby("comparison")} == {
        COMPARISONS[0]: ["builtin:nano", "builtin:pico"],
        COMPARISONS[1]: ["builtin:nano", "builtin:pico"],
        COMPARISONS[2]: ["builtin:nano", "builtin:pico"],
    }
    onsets = found.set_index(["comparison", "model"])["onset"]
    assert onsets[COMPARISONS[1]]["builtin:nano"] == pytest.approx(2 * onsets[COMPARISONS[1]]["builtin:pico"], rel=0.05)
    assert onsets[COMPARISONS[2]]["builtin:nano"] == onsets[COMPARISONS[2]]["builtin:pico"]
    ratios = cast(Any, ratios_by_size(runs)).set_index("comparison")["ratio"]
    doublings = math.log2(found["num_parameters"].max() / found["num_parameters"].min())
    assert ratios[COMPARISONS[0]] == pytest.approx(1, abs=0.01)
    assert ratios[COMPARISONS[1]] == pytest.approx(2 ** (1 / doublings), abs=0.01)
    assert ratios[COMPARISONS[2]] == pytest.approx(1, abs=0.01)


def test_the_papers_claims_are_on_its_own_sampler() -> None:
    own, other = run(1e-4, 0.8, 0, 30, sampling__top_k=500), run(1e-4, 0.8, 0, 30)
    both = with_paper_sampler(gather(frames([own, other])))
    assert list(both.runs["sampling.top_k"]) == [500] and len(both.trajectories) == 1
    alone = with_paper_sampler(gather(frames([other, run(2e-4, 0.8, 0, 30)])))
    assert len(alone.runs) == 2, "where all have one sampler it is that of the claims"
