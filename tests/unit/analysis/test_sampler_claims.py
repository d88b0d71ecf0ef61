"""S1 to S6 in worlds where each is true, false, or cannot be known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from collapselab.analysis.evidence import equivalence
from collapselab.analysis.hypotheses import SAMPLER_CLAIMS, judge
from collapselab.analysis.intervals import Estimate
from made_worlds import SAMPLER_KEYS, frames, true_world
from sampler_worlds import RATES, run, verdicts, world

FALSE: dict[str, Any] = {
    "pure_onset": 2, "slope": -2, "pure_slope": -1, "scatter": 1.0, "size_ratio": 0.6, "batch_ratio": 0.4,
    "batch_rise": 1.2,
}  # fmt: skip


def test_where_all_is_true_all_holds() -> None:
    found = verdicts(world(scatter=0.02))
    assert tuple(found) == SAMPLER_KEYS
    assert {key: h.verdict for key, h in found.items()} == dict.fromkeys(SAMPLER_KEYS, "holds")
    assert found["S1"].effect == 1
    assert found["S2a"].effect == pytest.approx(-1, abs=0.05)
    assert found["S2b"].effect == pytest.approx(-2, abs=0.05)
    assert found["S4"].effect == pytest.approx(1, abs=0.02)
    assert found["S5a"].effect == pytest.approx(1, abs=0.02)
    assert found["S5b"].effect == pytest.approx(0.2, abs=0.01)
    assert all(h.p_adjusted is not None and h.p_adjusted < 0.05 for h in found.values())
    assert "6 pairs not observed for as long" in found["S1"].note


def test_where_all_is_false_nothing_holds() -> None:
    found = verdicts(world(**FALSE))
    assert {key: h.verdict for key, h in found.items()} == dict.fromkeys(SAMPLER_KEYS, "does not hold")
    assert found["S4"].effect == pytest.approx(0.6, abs=0.05)
    assert found["S5a"].effect == pytest.approx(0.4, abs=0.02)
    assert found["S5b"].effect == pytest.approx(1.2, abs=0.06)


def test_at_the_bounds_nothing_is_decided() -> None:
    made = world(pure_onset=14, size_ratio=0.87, batch_ratio=0.8, batch_rise=0.8, scatter=0.35)
    # Of the pure runs two in three have an onset within ten times; the others have theirs later.
    made = [
        run(one.settings["optim.lr"], 1.0, one.settings["seed"], 5 * 4e-3 / (0.3 * one.settings["optim.lr"]), 3000)
        if one.settings["sampling.temperature"] == 1
        and one.settings["optim.lr"] in RATES
        and one.settings["model"] == "builtin:pico"
        and one.settings["seed"] % 2
        and one.settings.get("generate.batch_size", 1) == 1
        else one
        for one in made
    ]
    found = verdicts(made)
    assert {found[key].verdict for key in ("S1", "S3", "S4", "S5a", "S5b")} == {"undecided"}
    assert all(found[key].effect is not None for key in ("S1", "S3", "S4", "S5a", "S5b"))


def test_without_the_runs_that_it_needs_a_claim_names_them() -> None:
    found = {h.key: h for h in judge(frames(true_world(2)), SAMPLER_CLAIMS)}
    assert {h.verdict for key, h in found.items() if key != "S2a"} == {"undecided"}
    assert all(h.note.startswith("needs") and h.effect is None for key, h in found.items() if key != "S2a")


def test_one_seed_decides_nothing() -> None:
    assert {h.verdict for h in verdicts(world(1)).values()} == {"undecided"}
    assert {h.verdict for h in verdicts(world(1, **FALSE)).values()} == {"undecided"}


def test_four_models_decide_on_size_and_three_do_not() -> None:
    made = [one for one in world(scatter=0.02) if one.settings["model"] != "builtin:nano"]
    found = verdicts(made)["S4"]
    assert found.verdict == "undecided" and found.note.startswith("a verdict needs 4 models")


def test_pure_onsets_at_one_rate_have_no_slope() -> None:
    made = [one for one in world() if one.settings["optim.lr"] != 2e-3]
    assert verdicts(made)["S2b"].note.startswith("needs two rates")


def test_smollm2_behaves_alike_only_if_its_entropy_falls_faster_when_sharpened() -> None:
    made = world()
    flat = [replace(one, lines={**one.lines, "entropy_nats": (4.0, 0.001)}) for one in made]
    found = verdicts(flat)["S6"]
    assert verdicts(made)["S6"].verdict == "holds"
    assert (
        found.verdict == "undecided" and found.effect == 1 and "0.001 at temperature 0.8 and 0.001 at 1" in found.note
    )


def test_the_rise_is_compared_at_one_path_length() -> None:
    """The large batch went half as far: its rise is compared with that of the small one at that length."""
    made = [
        one for seed in range(3)
        for one in (run(1e-4, 1.0, seed, math.inf, 200),
                    run(1e-4, 1.0, seed, math.inf, 100, generate__batch_size=16, rise=0.5))
    ]  # fmt: skip
    found = verdicts(made)["S5b"]
    assert found.effect == pytest.approx(0.5, abs=0.02)
    assert found.note == "rises of 0.0149 and 0.0299 nats per token at a path of 0.03"


def test_an_interval_between_bounds_is_a_p_value_below_a_twentieth() -> None:
    """The rule of docs/sampler.md, in p-values, for 200 random estimates."""
    draw = np.random.default_rng(5)
    for _ in range(200):
        estimate = Estimate(float(draw.normal(0, 1)), float(draw.gamma(2, 0.1)), int(draw.integers(1, 20)), 10)
        ends = estimate.interval()
        assert ends.low is not None and ends.high is not None
        p_for, p_against, direction = equivalence(estimate, -1.0, 0.5)
        assert p_for is not None and p_against is not None
        assert (p_for < 0.05) == (ends.low > -1 and ends.high < 0.5)
        assert (p_against < 0.05) == (ends.high < -1 or ends.low > 0.5)
        assert (direction == 1) == (estimate.value is not None and -1 <= estimate.value <= 0.5)
    assert equivalence(Estimate(1.0, None, 0, 3), 0.0, 2.0) == (None, None, 0)
