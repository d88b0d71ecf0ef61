"""Recovery, what the paper leaves open, and doses, in worlds where the truth is known."""

from __future__ import annotations

import functools
from typing import Any, cast

import pytest

from collapselab.analysis.safeguard_sweeps import doses, left_open, recoveries, recovery_shares
from collapselab.rundir.frames import Runs
from made_worlds import frames
from safeguard_sweeps_made import OPEN, PAST, REMEDIES
from safeguard_sweeps_made import doses as made_doses
from safeguard_sweeps_made import left_open as made_open
from safeguard_sweeps_made import recovery as made_recovery
from safeguard_worlds import run, world


@functools.cache
def recovered() -> Runs:
    return made_recovery()


def test_a_run_is_healed_without_a_degenerate_step_among_the_last_thirty() -> None:
    shares = cast(Any, recovery_shares(recoveries(recovered()))).set_index(["remedy", "past"])
    assert shares.loc[("none", 0), "num_healed"] == 0 and (shares["num_runs"] == 5).all()
    for remedy, until in REMEDIES.items():
        for past in PAST:
            assert shares.loc[(remedy, past), "share"] == float(past <= until), (remedy, past)
    assert shares.loc[("restore", 60), "low"] == pytest.approx(0.478, abs=1e-3)


def test_one_degenerate_step_among_the_last_thirty_is_not_healed() -> None:
    runs = recovered()
    steps = cast(Any, runs.steps)
    healed = cast(Any, recoveries(runs)).query("remedy == 'restore' and past == 0")["run"].iloc[0]
    relapsed = (steps["run"] == healed) & (steps["step"] == 151)
    again = recoveries(Runs(runs.runs, steps.assign(degenerate=steps["degenerate"] | relapsed), runs.samples))
    assert cast(Any, recovery_shares(again)).query("remedy == 'restore' and past == 0")["num_healed"].item() == 4
    before = (steps["run"] == healed) & (steps["step"] == 150)
    again = recoveries(Runs(runs.runs, steps.assign(degenerate=steps["degenerate"] | before), runs.samples))
    assert cast(Any, recovery_shares(again)).query("remedy == 'restore' and past == 0")["num_healed"].item() == 5


def test_a_run_that_did_not_come_to_the_end_is_left_out() -> None:
    runs = recovered()
    steps = cast(Any, runs.steps)
    cut = steps[(steps["run"] != "run-0") | (steps["step"] < 170)]
    assert len(recoveries(Runs(runs.runs, cut, runs.samples))) == len(recoveries(runs)) - 1


def test_each_change_has_its_time_ratio_to_the_arm_without_changes() -> None:
    found = {name: delay for name, delay, _ in left_open(frames(made_open()))}
    assert set(found) == {"", *OPEN}, "the rate alone and the temperature are other questions"
    for name, (_, factor) in OPEN.items():
        if name.startswith("generate.prompt"):
            assert found[name].is_at_least and found[name].interval.low is None
        else:
            assert found[name].interval.estimate == pytest.approx(factor, rel=0.1), name


def test_few_changes_are_another_comparison() -> None:
    few = [one for one in made_open() if not (one.settings.keys() & {"train.window", "optim.clip", "train.retokenise"})]
    assert left_open(frames(few)) == []


def test_the_dose_is_harmful_or_good_by_temperature() -> None:
    rows = cast(Any, doses(frames(made_doses())))
    plain, neon = (rows[rows["safeguards"] == name] for name in ("none", "neon"))
    late = plain[plain["step"] == 60].set_index(["temperature", "lr"])
    assert late.loc[(0.8, 4e-5), "low"] > 0 > late.loc[(1.2, 4e-5), "high"]
    assert late.loc[(0.8, 1.6e-4), "rise"] == pytest.approx(4 * late.loc[(0.8, 4e-5), "rise"], rel=0.05)
    late = neon[neon["step"] == 60].set_index("temperature")
    assert late.loc[1.2, "low"] > 0 > late.loc[0.8, "high"] and (late["n"] == 5).all()


def test_p_values_are_corrected_over_all_cells() -> None:
    rows = cast(Any, doses(frames(made_doses())))
    assert len(rows) == 9 * 60
    one = rows[(rows["safeguards"] == "none") & (rows["temperature"] == 0.8) & (rows["lr"] == 4e-5)]
    few = [m for m in made_doses() if m.settings["optim.lr"] == 4e-5]
    other = cast(Any, doses(frames(few)))
    other = other[(other["safeguards"] == "none") & (other["temperature"] == 0.8)]
    assert (one["p"].to_numpy() >= other["p"].to_numpy()).all() and one["p"].sum() > other["p"].sum()


def test_other_runs_have_none_of_these() -> None:
    runs = frames(world(2))
    assert recoveries(runs).empty and doses(runs).empty
    runs = frames([run({}, 0, (1.0, 1.0, 0.0))])
    assert recoveries(runs).empty and doses(runs).empty and left_open(runs) == []
