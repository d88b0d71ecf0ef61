"""Verdicts in worlds where each claim is true, false, or cannot be known; and how often chance alone convinces."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from collapselab.config import RunConfig
from collapselab.frames import Runs
from collapselab.hypotheses import Hypothesis, judge
from collapselab.overrides import override
from collapselab.records import flatten

MODELS = ("builtin:nano", "builtin:micro", "builtin:mini")
RATES = (2e-5, 4e-5, 8e-5)
TEXTS = ("austen", "moby-dick")
KEYS = ("H1", "H2", "H3", "H4", "H4b", "H5", "H6")
BUDGET = 400


@dataclass(frozen=True)
class Made:
    """A run that was made up: its settings, when it collapses (infinity: never), and how its losses go."""

    settings: dict[str, Any]
    onset: float
    last_step: int
    slopes: tuple[float, float] = (0.02, 0.01)
    losses: tuple[float, float] = (3.0, 3.5)
    final_share: float = 0.02
    update: float | None = None


def made(model: str, lr: float, seed: int, onset: float, **others: Any) -> Made:
    """A run on its own text, to four steps past its onset or to the end of the budget."""
    settings = {"model": model, "optim.lr": lr, "seed": seed}
    onset = math.floor(onset) if onset + 4 <= BUDGET else math.inf
    return Made(settings, onset, int(min(onset + 4, BUDGET)), **others)


def control(run: Made, source: str, onset: float = math.inf, last_step: int = BUDGET) -> Made:
    """The same run on other text."""
    source_setting = {"train.real_text": "austen"} if source == "real" else {"train.other_model": "builtin:mini"}
    settings = run.settings | {"train.source": source} | source_setting
    return replace(run, settings=settings, onset=onset, last_step=last_step)


def frames(world: Sequence[Made]) -> Runs:
    """The frames that `load_runs` would give."""
    rows, steps = zip(*(frame(run, f"run-{i}") for i, run in enumerate(world)), strict=True)
    runs = pd.DataFrame(rows).astype({"onset_step": "Int64", "total_collapse_step": "Int64", "last_step": "Int64"})
    joined = pd.concat(steps, ignore_index=True).astype({"step": "Int64", "degenerate": "boolean"})
    return Runs(runs, joined, pd.DataFrame())


@functools.cache
def settings_of(changes: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """The settings as `load_runs` names them."""
    row = dict(flatten(override(RunConfig(data=TEXTS), dict(changes)).model_dump(mode="json")))
    return row | {"data": ",".join(row["data"]), "lr": row.pop("optim.lr")}


def frame(run: Made, name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    row = dict(settings_of(tuple(run.settings.items())))
    texts = row["data"].split(",")
    collapses = math.isfinite(run.onset)
    row |= {
        "run": name,
        "outcome": "collapsed" if collapses else "budget",
        "onset_step": run.onset if collapses else None,
        "total_collapse_step": run.onset + 4 if collapses else None,
        "last_step": run.last_step,
        "train_nll_first": 2.5,
        "train_nll_last": 2.5 * run.final_share * (1 + 0.1 * math.sin(run.settings["seed"])),
    }
    step = np.arange(run.last_step + 1)
    noise = np.random.default_rng(run.settings["seed"]).normal(0, 1e-3, (2, len(step)))
    loss = np.array(run.losses)[:, None] + np.outer(run.slopes, step) + np.where(step > 0, noise, 0)
    share = np.clip(0.5 + (step - run.onset) / 8, 0, 1)
    values = {"run": name, "step": step, "val_nll_nats": loss[0], "degenerate_share": share, "degenerate": share > 0}
    values |= {f"val_nll_nats[{text}]": loss[TEXTS.index(text)] for text in texts}
    if run.update is not None:
        values["relative_update_norm"] = run.update
    return row, pd.DataFrame(values)


def verdicts(world: Sequence[Made]) -> dict[str, Hypothesis]:
    return {hypothesis.key: hypothesis for hypothesis in judge(frames(world))}


def spread(*seeds: int) -> float:
    """About 1, by seed and arm."""
    return math.exp(0.2 * np.random.default_rng(seeds).normal())


def sweep(
    onset: Callable[[int, int], float],
    slopes: Callable[[int], tuple[float, float]] = lambda r: (0.02 * 2**r, 0.01 * 2**r),
    num_seeds: int = 5,
    **others: Any,
) -> list[Made]:
    """Models times learning rates times seeds; onset by the model's and the rate's number, losses by the rate's."""
    return [
        made(model, lr, seed, onset(m, r) * spread(seed, m, r), slopes=slopes(r), **others)
        for (m, model), (r, lr), seed in itertools.product(enumerate(MODELS), enumerate(RATES), range(num_seeds))
    ]


def with_controls(world: list[Made], onset: float = math.inf, last_step: int = BUDGET) -> list[Made]:
    middle = [run for run in world if run.settings["model"] == MODELS[1] and run.settings["optim.lr"] == RATES[1]]
    return [*world, *(control(run, source, onset, last_step) for run in middle for source in ("real", "other"))]


def true_world(num_seeds: int = 5) -> list[Made]:
    """Larger models and higher rates collapse sooner, relative updates go with the rate, controls never collapse."""
    world = sweep(lambda m, r: 240 / 2**r * 0.6**m, num_seeds=num_seeds)
    world = [replace(run, update=run.settings["optim.lr"] * 1e3) for run in world]
    return with_controls(world)


# --- worlds


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


def test_controls_that_were_not_watched_for_long_prove_nothing() -> None:
    h6 = verdicts(with_controls(sweep(lambda m, r: 100), last_step=50))["H6"]
    assert (h6.verdict, h6.effect) == ("undecided", None)
    assert "0 of 0 collapse on real text" in h6.note


def test_both_controls_must_stay_healthy() -> None:
    own = sweep(lambda m, r: 100)
    real = [run for run in with_controls(own) if run.settings.get("train.source") == "real"]
    other = [run for run in with_controls(own, 100, 104) if run.settings.get("train.source") == "other"]
    h6 = verdicts([*own, *real, *other])["H6"]
    assert (h6.verdict, h6.effect) == ("does not hold", 1.0)
    assert h6.note.startswith("0 of 5 collapse on real text; 5 of 5 collapse on another model's text")


def controlled(own: Sequence[float], real: Sequence[float], other: Sequence[float], lr: float = RATES[0]) -> list[Made]:
    """Runs of one arm by the onsets of own text and of both controls, seeds in order."""
    runs = [made(MODELS[0], lr, seed, onset) for seed, onset in enumerate(own)]
    return runs + [
        replace(control(made(MODELS[0], lr, seed, onset), kind), onset=onset, last_step=int(min(onset + 4, BUDGET)))
        for kind, onsets in (("real", real), ("other", other))
        for seed, onset in enumerate(onsets)
    ]


def test_controls_that_collapse_now_and_then_decide_nothing() -> None:
    never = [math.inf] * 10
    h6 = verdicts(controlled(range(20, 30), [*never[:8], 200, 300], never))["H6"]
    assert h6.p_adjusted is not None
    assert h6.p_adjusted < 0.05, "they last longer than own text"
    assert (h6.effect, h6.verdict) == (0.2, "undecided")


def test_rare_collapse_that_comes_sooner_than_on_own_text_is_no_support() -> None:
    never = [math.inf] * 91
    h6 = verdicts(controlled([*never, *never[:8], 390], [*never[:90], *range(10, 20)], [*never[:90], *range(10, 20)]))[
        "H6"
    ]
    assert h6.p_value is not None
    assert h6.p_value < 0.05
    assert (h6.effect, h6.verdict) == (0.1, "undecided")


def test_the_weaker_control_decides() -> None:
    never = [math.inf] * 5
    strong, weak = (verdicts(controlled(range(20, 25), never, never[:n]))["H6"] for n in (5, 2))
    assert strong.p_value == pytest.approx(2 / 252)
    assert weak.p_value == pytest.approx(1 / 21), "two of seven, and no other arrangement is as far out"


def test_controls_are_compared_within_their_arm() -> None:
    """Controls go like own text in both arms, but most of them are in the arm where all last longer."""
    fast, slow = (list(range(20, 30)), list(range(200, 210)))
    world = controlled(fast, fast[:2], fast[:2]) + controlled(slow[:2], slow, slow, lr=RATES[1])
    h6 = verdicts(world)["H6"]
    assert h6.p_value is not None
    assert h6.p_value > 0.3


def test_controls_are_compared_with_probed_runs_where_there_are_any() -> None:
    world = with_controls(sweep(lambda m, r: 100))
    streamed = verdicts(world)["H6"]
    assert "judged by their training samples" in streamed.note
    middle = [run for run in world if run.settings["model"] == MODELS[1] and run.settings["optim.lr"] == RATES[1]]
    probed = [replace(run, settings=run.settings | {"collapse.source": "probe"}) for run in middle[:5]]
    h6 = verdicts([*world, *probed])["H6"]
    assert "judged by" not in h6.note
    assert h6.num_runs == streamed.num_runs == 15


def test_a_wide_sweep_is_judged_quickly() -> None:
    runs = frames(
        [made(m, lr, s, math.inf) for m in MODELS[:2] for lr in (1e-6, 2e-6, 3e-6, 4e-6, 5e-6) for s in range(10)]
    )
    more = [runs.steps.assign(step=runs.steps["step"] + k * (BUDGET + 1)) for k in range(3)]
    runs = replace(runs, steps=pd.concat(more, ignore_index=True))
    assert len(runs.steps) > 100_000
    judge(runs)  # imports
    start = time.perf_counter()
    judge(runs)
    assert time.perf_counter() - start < 3


# --- how often chance alone convinces


def chance(key: str, world: Callable[[np.random.Generator], list[Made]], num_worlds: int = 25) -> tuple[float, float]:
    """The shares of worlds with p < .05, and of those in which the claim would hold."""
    generator = np.random.default_rng(7)
    found = [verdicts(world(generator))[key] for _ in range(num_worlds)]
    is_small = [h.p_value is not None and h.p_value < 0.05 for h in found]
    return float(np.mean(is_small)), float(np.mean([h.verdict == "holds" for h in found]))


def test_chance_alone_rarely_makes_a_rate_hasten_onset() -> None:
    def world(draw: np.random.Generator) -> list[Made]:
        return [made(MODELS[0], lr, seed, 20 * math.exp(0.4 * draw.normal())) for lr in RATES for seed in range(4)]

    share_small, share_held = chance("H2", world)
    assert share_small <= 0.14  # .05 and two standard deviations of 25 worlds
    assert share_held <= share_small


def test_chance_alone_rarely_makes_controls_healthy() -> None:
    def world(draw: np.random.Generator) -> list[Made]:
        own = [made(MODELS[0], RATES[0], seed, 20 * math.exp(0.4 * draw.normal())) for seed in range(5)]
        onsets = [math.floor(20 * math.exp(0.4 * draw.normal())) for _ in range(10)]
        controls = zip(itertools.product(own, ("real", "other")), onsets, strict=True)
        return [*own, *(control(run, kind, onset, onset + 4) for (run, kind), onset in controls)]

    share_small, share_held = chance("H6", world)
    assert share_small <= 0.14
    assert share_held == 0
