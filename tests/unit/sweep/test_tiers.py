"""What a reproduction runs: the paper's grid, controls and own text, and rates that make updates equally large."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pandas as pd
import pytest

from collapselab.analysis.comparisons import CONTROL, LOOKING, condition, equal_update_rates, equal_update_sets
from collapselab.config.safeguards import shown
from collapselab.errors import InputError
from collapselab.inputs.models import model_names
from collapselab.records import flatten
from collapselab.rundir.frames import Runs
from collapselab.sweep.grid import PlannedRun
from collapselab.sweep.tiers import EQUAL_UPDATES, TIERS, Tier, equal_updates, load_tier, plan

# Relative update of a model at a learning rate of 1; larger models move further.
PER_RATE = {
    **{"builtin:pico": 5.0, "builtin:nano": 6.0, "builtin:micro": 7.2, "builtin:mini": 9.1},
    **{"gpt2": 1.0, "gpt2-medium": 1.5},
}


def planned(tier: Tier) -> list[PlannedRun]:
    return [run for runs in plan(tier.sweeps).values() for run in runs]


def frames(runs: list[PlannedRun]) -> Runs:
    """Frames of these runs with relative updates proportional to the learning rate, after a larger first step."""
    rows, steps = [], []
    for i, run in enumerate(runs):
        row = dict(flatten(run.config.model_dump(mode="json")))
        row["safeguards"] = shown(run.config.safeguards)
        rows.append(row | {"run": f"r{i}", "data": ",".join(row["data"]), "lr": row.pop("optim.lr")})
        size = PER_RATE.get(run.config.model, 1.0) * run.config.optim.lr
        factors = [2.0, *[8 / 9] * 9, 50.0]  # of the first ten steps the mean is 1
        steps += [{"run": f"r{i}", "step": t, "relative_update_norm": size * f} for t, f in enumerate(factors)]
    return Runs(pd.DataFrame(rows), pd.DataFrame(steps), pd.DataFrame())


@pytest.mark.parametrize(("name", "quick"), list(product(TIERS, (False, True))))
def test_every_tier_can_be_carried_out(name: str, quick: bool) -> None:
    runs = planned(load_tier(name, None, quick=quick, device="cuda"))
    assert {run.config.device for run in runs} == {"cuda"}
    models = {model for run in runs for model in (run.config.model, run.config.train.other_model)}
    assert models <= {None, *(info.name for info in model_names())}
    assert {run.config.train.real_text for run in runs} <= {None, "austen", "moby-dick", "wikitext-2:train"}
    texts = {text for run in runs for text in run.config.data}
    assert texts == ({"austen", "moby-dick"} if name == "builtin" else {"wikitext-2", "ptb"})
    own = [run.config for run in runs if run.config.train.source == "own" and run.config.collapse.source == "stream"]
    assert len({config.optim.lr for config in own}) >= (2 if quick else 5)
    assert len({config.seed for config in own}) >= 2


def test_the_builtin_tier_has_the_grid_that_is_promised() -> None:
    own = plan(load_tier("builtin", None, quick=False).sweeps)["own-text"]
    arms = Counter((run.config.model, run.config.optim.lr) for run in own)
    assert len(arms) == 4 * 5 and set(arms.values()) == {5}
    few = planned(load_tier("builtin", 2, quick=False))
    assert {run.config.seed for run in few} == {0, 1}


@pytest.mark.parametrize("quick", [False, True])
def test_controls_stand_beside_own_text_and_are_not_evaluated_on_what_they_train_on(quick: bool) -> None:
    runs = plan(load_tier("builtin", None, quick=quick).sweeps)["controls"]
    strata = condition(frames(runs).runs, (*LOOKING, *CONTROL))
    for stratum in set(strata):
        configs = [run.config for run, label in zip(runs, strata, strict=True) if label == stratum]
        sources = Counter((c.train.source, c.train.other_model == c.model) for c in configs)
        assert set(sources) == {(source, False) for source in ("own", "real", "other", "shuffled")} | {("other", True)}
        assert len(set(sources.values())) == 1, "every stratum has each control beside own text"
    if not quick:
        frozen = sum(run.config.train.other_model == run.config.model for run in runs)
        assert frozen >= 36, "so that none collapsing shows at most a tenth"
    for config in (run.config for run in runs):
        assert config.collapse.source == "probe"
        assert config.train.real_text not in config.data


def test_a_run_of_two_sweeps_is_carried_out_once() -> None:
    tier = load_tier("gpt2", None, quick=False)
    parts = plan(tier.sweeps)
    assert not any(run.config.model == "gpt2" for run in parts["sizes"]), "the first sweep has them"
    assert {run.config.model for run in parts["sizes"]} == {"gpt2-medium", "gpt2-large", "gpt2-xl"}


@pytest.mark.parametrize("quick", [False, True])
def test_equal_updates_are_equally_large(quick: bool) -> None:
    tier = load_tier("builtin", None, quick=quick)
    matched = equal_updates(tier, frames(planned(tier)))
    runs = [run for part in plan({**tier.sweeps, EQUAL_UPDATES: matched}).values() for run in part]
    everything = frames(runs)
    sets = equal_update_sets(everything.runs, everything.steps)
    found = [set(models) for _, models in everything.runs.groupby(sets)["model"] if models.nunique() > 1]
    assert len([models for models in found if models == set(tier.sized)]) >= len(tier.sized_rates)


def test_a_rate_is_scaled_by_the_ratio_of_update_sizes() -> None:
    tier = load_tier("builtin", 2, quick=False)
    rates = equal_update_rates(frames(planned(tier)), tier.sized, (4e-5,))
    matched = {"builtin:mini": 3.16e-5, "builtin:nano": 4.8e-5, "builtin:pico": 5.76e-5}
    assert rates == {(model, 4e-5): rate for model, rate in matched.items()}


def test_a_model_without_runs_cannot_be_matched() -> None:
    tier = load_tier("builtin", 1, quick=True)
    runs = frames([run for run in planned(tier) if run.config.model != "builtin:nano"])
    with pytest.raises(InputError, match="no own-text run of builtin:nano"):
        equal_updates(tier, runs)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="unknown tier 'gpt-2'"):
        load_tier("gpt-2", None, quick=False)
    with pytest.raises(InputError, match="--seeds must be at least 1, received 0"):
        load_tier("builtin", 0, quick=False)
