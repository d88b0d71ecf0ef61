"""Verdicts in worlds where each claim is true, false, or cannot be known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from collapselab.analysis.evidence import Finding, Material
from collapselab.analysis.hypotheses import CLAIMS, Claim, judge
from collapselab.analysis.intervals import Interval
from collapselab.analysis.losses import within_arms
from collapselab.analysis.onsets import path_lengths
from collapselab.rundir.frames import Runs
from made_worlds import (
    DOUBLINGS,
    KEYS,
    MODELS,
    RATES,
    TEXTS,
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
    assert smallest.p_adjusted == pytest.approx(9 * (smallest.p_value or 0))
    assert largest.p_adjusted == pytest.approx(max(h.p_adjusted or 0 for h in found.values()))
    few = verdicts([run for run in true_world() if run.settings["model"] == MODELS[0]])
    smallest = min((h for h in few.values() if h.p_value is not None), key=lambda h: h.p_value or 0)
    assert smallest.p_adjusted == pytest.approx(5 * (smallest.p_value or 0)), "H4, H4b and H6, H6b have none"


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


def test_the_loss_left_is_judged_at_total_collapse_and_past_it() -> None:
    stopped = [made(MODELS[0], RATES[0], seed, 100 * spread(seed), final_share=0.3) for seed in range(5)]
    found = verdicts([*stopped, *past_collapse(stopped)])
    assert (found["H3"].verdict, found["H3"].num_runs) == ("does not hold", 5)
    assert found["H3"].effect == pytest.approx(0.3, rel=0.1)
    assert (found["H3b"].verdict, found["H3b"].num_runs) == ("holds", 5)
    assert found["H3b"].effect == pytest.approx(0.02, rel=0.1)
    assert "20 to 20 steps past total collapse" in found["H3b"].note
    assert verdicts(stopped)["H3b"].note.startswith("needs")


def test_a_run_that_went_on_has_its_share_from_the_step_of_total_collapse() -> None:
    stopped = [made(MODELS[0], RATES[0], seed, 100 * spread(seed), final_share=0.3) for seed in range(3)]
    runs = frames([*stopped, *past_collapse(stopped)])
    collapse = runs.steps["run"].map(runs.runs.set_index("run")["total_collapse_step"])
    losses = np.where(runs.steps["step"] == collapse, 2.5 * 0.3, 99.0)
    (h3, h3b) = judge(replace(runs, steps=runs.steps.assign(train_nll_nats=losses)))[2:4]
    assert (h3.effect, h3b.effect) == (pytest.approx(0.3), pytest.approx(0.02, rel=0.1))
    assert (h3.num_runs, h3b.num_runs) == (3, 3), "a trajectory that was seen twice counts once"


def test_shares_have_an_interval_above_0() -> None:
    shares = (0.001, 0.2, 0.0001)
    h3 = verdicts([made(MODELS[0], RATES[0], seed, 100, final_share=share) for seed, share in enumerate(shares)])["H3"]
    assert h3.low is not None
    assert 0 < h3.low < 0.002 < (h3.effect or 0) < 0.004


def test_arms_that_do_not_rise_are_counted() -> None:
    world = sweep(lambda m, r: 100, lambda r: ((-0.01, 0.05, 0.05)[r], 0.0))
    h1 = verdicts(world)["H1"]
    assert h1.note.startswith("rises in 50 of 75 runs; by learning rate: 2e-05 -0.12 [-0.1")
    assert h1.verdict == "undecided", "though the mean rises, with p below .05"
    assert (h1.p_adjusted or 1) < 0.05


def test_a_missing_run_does_not_hide_a_rise() -> None:
    """Rates differ a hundredfold in their rise; one seed lacks the highest one: a mean of seed means would be noise."""
    world = [
        made(MODELS[0], lr, seed, 100, slopes=(0.05 * 10**r * (1 + 0.05 * seed), 0.0))
        for r, lr in enumerate(RATES)
        for seed in range(3)
    ]
    whole, lacking = verdicts(world)["H1"], verdicts(world[:-1])["H1"]
    assert whole.p_value is not None
    assert lacking.p_value is not None
    assert lacking.p_value < 0.01
    assert lacking.effect == pytest.approx(whole.effect, rel=0.05)


def test_a_rise_too_small_to_matter_does_not_hold() -> None:
    h1 = verdicts(sweep(lambda m, r: 100, lambda r: (5e-4, 0.0)))["H1"]
    assert h1.p_adjusted is not None
    assert h1.p_adjusted < 0.05, "though it is no chance"
    assert h1.verdict == "does not hold"


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


def test_a_path_is_the_sum_of_the_updates_before_the_turn() -> None:
    rows = pd.DataFrame({"run": ["a", "b", "c", "d"], "turn": [3.0, 0.5, 3.0, 2.0]})
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


def seen_alike(r: int, seed: int) -> tuple[float, float]:
    """Slopes on two texts that go together from seed to seed, the second one's half as large."""
    size = 0.02 * 2**r * (1 + 0.1 * seed)
    return size, size / 2


def two_texts(slopes: Callable[[int, int], tuple[float, float]] = seen_alike, num_seeds: int = 5) -> list[Made]:
    return [
        made(model, lr, seed, 100 / 2**r * spread(seed, m, r), slopes=slopes(r, seed))
        for (m, model), (r, lr), seed in itertools.product(enumerate(MODELS[:2]), enumerate(RATES), range(num_seeds))
    ]


def test_texts_may_come_from_runs_of_their_own() -> None:
    apart = [replace(run, settings=run.settings | {"data": text}) for run in two_texts() for text in TEXTS]
    found = verdicts(apart)
    assert found["H5"].verdict == "holds"
    assert (found["H2"].num_runs, found["H5"].num_runs) == (30, 30), "the same trajectory is not counted twice"


def test_texts_are_compared_within_arms_and_their_ratio_is_told() -> None:
    h5 = verdicts(two_texts())["H5"]
    assert (h5.verdict, h5.num_runs) == ("holds", 30)
    assert h5.note == "6 arms; a rise on moby-dick is × 0.5 of that on austen (arms: 0.5 to 0.5)"
    one = [replace(run, settings=run.settings | {"data": "austen"}) for run in two_texts()]
    assert "two texts" in verdicts(one)["H5"].note


def test_what_texts_share_with_the_rate_is_no_agreement() -> None:
    """Arms in one order by their rates; within them seeds go the opposite ways."""
    h5 = verdicts(two_texts(lambda r, seed: (0.02 * 2**r * (1 + 0.1 * seed), 0.01 * 2**r * (1 - 0.1 * seed))))["H5"]
    assert h5.effect is not None
    assert (h5.effect < -0.8, h5.verdict) == (True, "does not hold")


def test_the_order_of_rises_counts_not_that_of_losses() -> None:
    world = [replace(run, losses=(3.0 + i, 9.0 - i)) for i, run in enumerate(two_texts())]
    assert verdicts(world)["H5"].verdict == "holds"


@pytest.mark.parametrize("num_seeds", [3, 6])
def test_agreement_within_arms_is_that_of_pairs_and_its_p_value_that_of_all_orders(num_seeds: int) -> None:
    draw = np.random.default_rng(num_seeds)
    arm, seed = np.repeat([0, 1], num_seeds), np.tile(np.arange(num_seeds), 2)
    first, second = draw.normal(size=(2, 2 * num_seeds))
    found, p_value = within_arms(first, second, arm, seed)
    taus = [stats.kendalltau(first[arm == a], second[arm == a]) for a in (0, 1)]
    assert found.value == pytest.approx(np.mean([tau.statistic for tau in taus]))
    alone = within_arms(first[arm == 0], second[arm == 0], arm[arm == 0], seed[arm == 0])
    assert alone[1] == pytest.approx(taus[0].pvalue)
    if num_seeds == 3:
        both = [
            abs(sum(stats.kendalltau(range(3), order).statistic for order in orders))
            for orders in itertools.product(itertools.permutations(range(3)), repeat=2)
        ]
        assert p_value == pytest.approx(np.mean(np.array(both) >= 2 * abs(found.value or 0) - 1e-9))


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
