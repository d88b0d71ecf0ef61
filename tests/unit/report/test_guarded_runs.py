"""Runs with safeguards do not enter what is said of runs without."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from collapselab.analysis.comparisons import equal_update_rates
from collapselab.analysis.controls import controls_do_not_collapse
from collapselab.analysis.evidence import gather
from collapselab.analysis.hypotheses import judge
from collapselab.analysis.sensitivity import judged_runs
from collapselab.report.figures import FIGURES
from collapselab.report.groups import run_table
from collapselab.report.page_parts import lead
from collapselab.report.samplers import sampler_runs
from collapselab.report.selection import judged_once, main_runs, one_run
from collapselab.report.table_files import to_csv
from collapselab.report.tables import TABLES
from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import judged_run, make_config

POOLED = (
    "figure-1", "figure-2", "figure-4", "survival-by-learning-rate", "survival-by-size", "figure-3", "sampler-map"
)  # fmt: skip
GUARD = {"safeguards": "entropy-bonus"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two models, two seeds, controls; and beside them more runs with a safeguard, which collapse sooner."""
    folder = tmp_path_factory.mktemp("guarded")
    for model in ("nano", "micro"):
        for seed in range(3):
            config = make_config(model=f"builtin:{model}", seed=seed, **GUARD, stop__max_steps=20)
            judged_run(folder / f"guarded-{model}-{seed}", config, 4)
            if seed < 2:
                judged_run(folder / f"own-{model}-{seed}", make_config(model=f"builtin:{model}", seed=seed), 14)
    for seed in range(2):
        real = {"train__source": "real", "train__real_text": "moby-dick", "model": "builtin:micro", "seed": seed}
        judged_run(folder / f"real-{seed}", make_config(**real), math.inf)
        judged_run(folder / f"guarded-real-{seed}", make_config(**real, **GUARD), 4)
    return load_runs(folder)


@pytest.fixture(scope="module")
def plain(mixed: Runs) -> Runs:
    rows = cast(Any, mixed.runs)
    kept = rows.loc[rows["safeguards"] == "none", "run"]
    frames: list[Any] = [mixed.runs, mixed.steps, mixed.samples]
    return Runs(*(frame[frame["run"].isin(kept)] for frame in frames))


def names(frame: Any) -> set[str]:
    return set(frame["run"])


def test_the_main_runs_have_no_safeguards(mixed: Runs, plain: Runs) -> None:
    assert names(main_runs(run_table(mixed))) == names(main_runs(run_table(plain)))
    assert names(judged_once(mixed)) == names(judged_once(plain))
    shown = one_run(mixed)
    assert shown is not None and not shown.row["run"].startswith("guarded")


def test_where_all_runs_have_safeguards_these_are_shown(mixed: Runs) -> None:
    rows = cast(Any, mixed.runs)
    some = Runs(rows[rows["run"].str.startswith("guarded")], mixed.steps, mixed.samples)
    assert names(main_runs(run_table(some))) == {f"guarded-{m}-{s}" for m in ("nano", "micro") for s in range(3)}


@pytest.mark.parametrize("key", POOLED)
def test_figures_of_many_runs_are_as_without(key: str, mixed: Runs, plain: Runs) -> None:
    assert FIGURES[key].caption(mixed) == FIGURES[key].caption(plain)


def test_samplers_are_compared_without(mixed: Runs, plain: Runs) -> None:
    assert names(sampler_runs(mixed)) == names(sampler_runs(plain))


def test_thresholds_are_moved_in_runs_without(mixed: Runs, plain: Runs) -> None:
    assert 0 < len(judged_runs(plain)) == len(judged_runs(mixed))


def test_the_horizon_of_mean_onsets_is_that_of_runs_without(mixed: Runs, plain: Runs) -> None:
    both, alone = (cast(Any, TABLES["onset"].build(runs)) for runs in (mixed, plain))
    assert list(both.columns) == list(alone.columns)
    is_guarded = both["arm"].str.contains("safeguards entropy-bonus")
    assert is_guarded.sum() == 3, "arms with safeguards are named"
    kept, only = (to_csv(frame.drop(columns="arm")) for frame in (both[~is_guarded], alone))
    assert kept == only


def test_verdicts_are_as_without(mixed: Runs, plain: Runs) -> None:
    assert judge(mixed) == judge(plain)
    assert controls_do_not_collapse(gather(mixed), ("real",)) == controls_do_not_collapse(gather(plain), ("real",))
    assert len(gather(mixed).runs) > len(gather(plain).runs)


def test_equal_updates_are_those_of_runs_without(mixed: Runs, plain: Runs) -> None:
    rows, steps = cast(Any, mixed.runs), cast(Any, mixed.steps)
    is_guarded = steps["run"].str.startswith("guarded-nano")
    steps = steps.assign(relative_update_norm=steps["relative_update_norm"].where(~is_guarded, 9.0))
    rate = float(rows["lr"].iloc[0])
    models = ["builtin:nano", "builtin:micro"]
    assert equal_update_rates(Runs(rows, steps, mixed.samples), models, [rate]) == equal_update_rates(
        plain, models, [rate]
    )


def test_the_page_says_apart_what_became_of_them(mixed: Runs) -> None:
    words = lead(mixed)
    assert "4 runs on own text collapse" in words and "6 runs on own text with safeguards" in words
