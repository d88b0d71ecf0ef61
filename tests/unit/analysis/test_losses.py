"""H1, H3 and H5: rises before onset, what is left of the loss, two texts within arms; each trajectory once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from collapselab.analysis.hypotheses import judge
from collapselab.analysis.losses import within_arms
from made_worlds import (
    MODELS,
    RATES,
    TEXTS,
    Made,
    frames,
    made,
    past_collapse,
    spread,
    sweep,
    verdicts,
)


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


def test_runs_judged_by_probes_say_nothing_of_the_loss_left() -> None:
    world = [made(MODELS[0], RATES[0], seed, 100, final_share=0.3) for seed in range(3)]
    probed = [made(MODELS[0], RATES[1], seed, 100, final_share=0.001) for seed in range(3)]
    probed = [replace(run, settings=run.settings | {"collapse.source": "probe"}) for run in probed]
    found = verdicts([*world, *probed, *past_collapse(probed)])
    assert (found["H3"].effect, found["H3"].num_runs) == (pytest.approx(0.3, rel=0.1), 3)
    assert found["H3b"].note.startswith("needs")


def test_shares_have_an_interval_above_0() -> None:
    shares = (0.001, 0.2, 0.0001)
    h3 = verdicts([made(MODELS[0], RATES[0], seed, 100, final_share=share) for seed, share in enumerate(shares)])["H3"]
    assert h3.low is not None
    assert 0 < h3.low < 0.002 < (h3.effect or 0) < 0.004


def test_arms_that_do_not_rise_are_counted() -> None:
    world = sweep(lambda m, r: 100, lambda r: ((-0.01, 0.05, 0.05)[r], 0.0))
    h1 = verdicts(world)["H1"]
    assert h1.note.startswith("rises in 50 of 75 runs; by learning rate: 2e-5 −0.12 [−0.1")
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
