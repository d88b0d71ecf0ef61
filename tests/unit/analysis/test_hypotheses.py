"""Verdicts in worlds where each claim is true, false, or cannot be known; corrections and the table of claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from collapselab.analysis.evidence import Finding, Material
from collapselab.analysis.hypotheses import CLAIMS, Claim, judge
from collapselab.analysis.intervals import Interval
from collapselab.rundir.frames import Runs
from made_worlds import (
    DOUBLINGS,
    KEYS,
    MODELS,
    RATES,
    SAMPLER_KEYS,
    Made,
    frames,
    made,
    past_collapse,
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
    counts = {key: found[key].num_runs for key in ("H1", "H2", "H3b", "H6", "H6b")}
    assert counts == {"H1": 75, "H2": 75, "H3b": 5, "H6": 30, "H6b": 20}
    assert found["H1"].effect == pytest.approx(10 * 0.02 * 7 / 3 * 1.2, abs=2e-3)  # noise of the losses
    assert found["H2"].effect == pytest.approx(1 / 2, rel=0.15)  # the turn comes three steps before onset
    assert found["H4"].effect == pytest.approx(0.85, rel=0.05)
    assert found["H3"].effect == pytest.approx(0.02, rel=0.1)  # by seed
    assert (found["H6"].effect, found["H6"].low) == (0.0, 0.0)


def opposite(run: Made) -> tuple[float, float]:
    """Slopes of the losses on two texts: the faster one falls, the faster the other rises, from seed to seed."""
    size = 0.02 * (1 + 0.1 * run.settings["seed"])
    return -size, size


def test_where_all_is_false_nothing_holds() -> None:
    """Losses fall, high rates delay onset, larger models last longer, the texts disagree, controls collapse."""
    world = sweep(
        lambda m, r: 30 * 1.7**r * 1.15 ** DOUBLINGS[m], lambda r: (-0.02 * 2**r, 0.02 * 2**r), final_share=0.5
    )
    world = [replace(run, update=run.settings["optim.lr"] * 1e3, slopes=opposite(run)) for run in world]
    past = past_collapse(world[:5], final_share=0.5)
    found = verdicts([*with_controls(world, onset=60, last_step=64), *past])
    assert {key: h.verdict for key, h in found.items()} == dict.fromkeys(KEYS, "does not hold")
    assert found["H2"].low is not None
    assert found["H2"].low > 1
    assert (found["H6"].effect, found["H6"].high) == (1.0, 1.0)


def test_where_nothing_differs_nothing_is_decided() -> None:
    world = sweep(lambda m, r: 100 * spread(m, 7), lambda r: (0.0, 0.0))
    world = [replace(run, update=1e-3, final_share=0.1 * spread(run.settings["seed"])) for run in world]
    found = verdicts(with_controls(world, onset=100, last_step=104))
    undecided = {key for key, h in found.items() if h.verdict == "undecided"}
    assert undecided >= {"H3", "H3b", "H4", "H4b"}
    # That a loss does not rise by as much as .01, and that controls collapse, is known.
    assert {found[key].verdict for key in ("H1", "H6", "H6b")} == {"does not hold"}
    assert not any(h.verdict == "holds" for h in found.values())


def test_one_seed_decides_nothing() -> None:
    found = verdicts(true_world(num_seeds=1))
    assert found.pop("H5").note.startswith("needs arms of two seeds")
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
        ("H6b", lambda run: run.settings.get("train.other_model") != MODELS[1], "frozen copy"),
        ("H6", lambda run: run.settings.get("train.source") != "real", "real text"),
        ("H6", lambda run: run.settings.get("train.other_model") != "builtin:mini", "another model's text"),
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
    rows = rows.drop(columns="total_collapse_step").assign(ended_by=None, onset_step=pd.array([None, None], "Int64"))
    found = judge(Runs(rows, pd.DataFrame(columns=pd.Index(["run", "step"])), pd.DataFrame()))
    assert tuple(h.key for h in found) == (*KEYS, *SAMPLER_KEYS)
    assert {h.verdict for h in found} == {"undecided"}
    assert all(h.note.startswith("needs") for h in found)


def test_holm_is_over_all_hypotheses_that_have_a_p_value() -> None:
    found = verdicts(true_world())
    joined = {h.key: h for h in judge(frames(true_world()))}
    assert joined["S2a"].p_value is not None
    assert all((joined[key].p_adjusted or 0) > (h.p_value or 0) for key, h in found.items()), "one family"
    assert (joined["H1"].p_adjusted or 0) > (found["H1"].p_adjusted or 0)
    p_values = sorted((h.p_value or 0, h.key) for h in found.values())
    smallest, largest = found[p_values[0][1]], found[p_values[-1][1]]
    assert smallest.p_adjusted == pytest.approx(9 * (smallest.p_value or 0))
    assert largest.p_adjusted == pytest.approx(max(h.p_adjusted or 0 for h in found.values()))
    few = verdicts([run for run in true_world() if run.settings["model"] == MODELS[0]])
    smallest = min((h for h in few.values() if h.p_value is not None), key=lambda h: h.p_value or 0)
    assert smallest.p_adjusted == pytest.approx(5 * (smallest.p_value or 0)), "H4, H4b and H6, H6b have none"


def test_refutation_is_corrected_as_confirmation_is() -> None:
    """Loss falls to 11 %: alone that refutes, with four claims beside it the interval beyond the bound does not."""
    world = [
        made(MODELS[0], lr, seed, 100 * spread(seed, r), final_share=0.108 * (1 + 0.02 * r))
        for r, lr in enumerate(RATES)
        for seed in range(5)
    ]
    runs, claims = frames(world), {claim.key: claim for claim in CLAIMS}
    (alone,) = judge(runs, [claims["H3"]])
    together = next(h for h in judge(runs) if h.key == "H3")
    assert (alone.verdict, together.verdict) == ("does not hold", "undecided")
    assert together.low is not None
    assert together.low > 0.1
    assert alone.p_against is not None
    assert together.p_against is not None
    assert together.p_against > 0.05 > alone.p_against


def test_a_claim_is_a_function_and_a_line() -> None:
    """Claims of other kinds are judged by the same machinery."""

    def find(material: Material) -> Finding:
        return Finding(Interval(1.0, 0.5, 1.5, 0.95, 7), 0.01, 1.0, 1, len(material.runs), 5, "made up")

    claims = [Claim(key, "It is so", "a test", "an effect", find) for key in ("S1", "S2")]
    (first, second) = judge(frames(true_world()[:7]), claims)
    assert (first.key, first.verdict, first.p_adjusted, first.num_runs) == ("S1", "holds", 0.02, 7)
    assert second.note == "made up"


def test_runs_judged_by_probes_too_do_not_count_twice() -> None:
    world = sweep(lambda m, r: 240 / 2**r * 0.6**m)
    probed = [
        replace(run, settings=run.settings | {"collapse.source": "probe", "data": ("austen",)}, onset=run.onset + 9)
        for run in world
        if run.settings["optim.lr"] == RATES[2]
    ]
    alone, together = verdicts(world), verdicts([*world, *probed])
    for key in ("H1", "H2", "H3", "H4", "H5"):
        assert together[key].num_runs == alone[key].num_runs
        assert together[key].effect == pytest.approx(alone[key].effect)
        assert together[key].p_value == pytest.approx(alone[key].p_value)
