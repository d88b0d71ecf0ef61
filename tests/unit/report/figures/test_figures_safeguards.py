"""The figures and the table of safeguards, from worlds where it is known what each arm does."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import pandas as pd
import pytest
import vl_convert

from collapselab.report.direct_labels import CHAR_PX, LINE_PX
from collapselab.report.figures import FIGURES
from collapselab.report.figures.safeguard_costs import front
from collapselab.report.safeguard_arms import best_arms, judged
from collapselab.report.table_files import to_csv, to_markdown
from collapselab.report.tables import TABLES
from collapselab.rundir.frames import Runs
from figure_specs import drawn, rows_of
from made_worlds import frames
from safeguard_sweeps_made import doses, left_open, recovery
from safeguard_worlds import ARMS, RATE, run, world


@functools.cache
def compared() -> Runs:
    return frames(world())


WORLDS: dict[str, Callable[[], Runs]] = {
    "safeguard-survival": compared,
    "safeguard-costs": compared,
    "recovery": recovery,
    "left-open": lambda: frames(left_open()),
    "dose": lambda: frames(doses()),
}
MESSAGES = {
    "safeguard-survival": "3 safeguards without any onset; builtin:pico at learning rate 3.2e-4",
    "safeguard-costs": "entropy-bonus: no onset, at the least human loss; builtin:pico, learning rate 3.2e-4",
    "recovery": "Healed in every run, however late: old weights",
    "left-open": "What the paper leaves open: 1 of 7 changes hasten collapse, 2 delay it",
    "dose": "Own text lowers the loss on austen in 174 of 540 cells; builtin:pico",
}


@pytest.mark.parametrize("key", WORLDS)
def test_the_title_says_what_the_runs_show(key: str) -> None:
    runs = WORLDS[key]()
    vega_lite = drawn(key, runs)
    assert vega_lite["title"]["text"] == MESSAGES[key]
    assert vl_convert.vegalite_to_vega(vega_lite)["marks"]
    assert any(character.isdigit() for character in FIGURES[key].caption(runs))
    assert FIGURES[key].section == "safeguards"


def test_the_title_counts_every_safeguard_without_onset_and_no_rate() -> None:
    never = (math.inf, 1.0, 1e-3)
    kinds = ("entropy-bonus", "kl-anchor", "weight-anchor", "real-mix", "focal", "neon", "ema")
    made = world(2, {"none": ARMS["none"], **dict.fromkeys(kinds, never)})
    made += [run({"optim.lr": RATE * share}, seed, never) for share in (0.1, 2.0) for seed in range(2)]
    runs = frames(made)
    assert drawn("safeguard-survival", runs)["title"]["text"].startswith("7 safeguards without any onset")
    names = {row["arm"] for row in rows_of(drawn("safeguard-survival", runs)) if "arm" in row}
    assert "rate 8e-5" in names and "rate 6.4e-4" not in names, "a higher rate is no lower one"


def test_an_arm_that_is_not_finished_has_no_place_yet() -> None:
    runs = compared()
    rows = cast(Any, runs.runs)
    is_going = (rows["safeguards"] == "entropy-bonus") & (rows["seed"] == 3)
    runs = Runs(rows.assign(ended_by=rows["ended_by"].where(~is_going)), runs.steps, runs.samples)
    assert "entropy-bonus" in FIGURES["safeguard-costs"].caption(compared())
    assert "entropy-bonus" not in FIGURES["safeguard-costs"].caption(runs)


def test_doses_name_the_model_that_they_are_of() -> None:
    runs = WORLDS["dose"]()
    other = frames(
        [run({"model": "builtin:mini", "stop.on_collapse": False}, seed, (1.0, 1.0, 0.0)) for seed in (0, 1)]
    )
    both = [
        pd.concat([frame.assign(run="other-" + frame["run"]), known], ignore_index=True)
        for frame, known in cast(Any, ((other.runs, runs.runs), (other.steps, runs.steps)))
    ]
    assert FIGURES["dose"].caption(Runs(both[0], both[1], runs.samples)) == FIGURES["dose"].caption(runs)


def test_two_models_with_remedies_are_not_pooled() -> None:
    runs = recovery()
    rows, steps = cast(Any, runs.runs), cast(Any, runs.steps)
    few = rows[rows["seed"] < 2].assign(model="builtin:mini")
    others = steps[steps["run"].isin(few["run"])]
    both = [
        pd.concat([frame.assign(run="other-" + frame["run"]), known]) for frame, known in ((few, rows), (others, steps))
    ]
    assert FIGURES["recovery"].caption(Runs(both[0], both[1], runs.samples)) == FIGURES["recovery"].caption(runs)


def test_where_no_remedy_heals_the_title_says_so() -> None:
    runs = recovery(2)
    steps = cast(Any, runs.steps)
    ill = Runs(runs.runs, steps.assign(degenerate=steps["degenerate"] | (steps["step"] > 150)), runs.samples)
    assert drawn("recovery", ill)["title"]["text"] == "No remedy heals any run"
    relapsed = (steps["run"] == "run-1") & (steps["step"] > 150)  # the first remedy, begun at once, of seed 0
    some = Runs(runs.runs, steps.assign(degenerate=steps["degenerate"] | relapsed), runs.samples)
    title = drawn("recovery", some)["title"]["text"]
    assert title == "No remedy always heals; the best: old weights, 60 steps past onset (2 of 2 runs)"


def test_few_seeds_have_no_band() -> None:
    for number, has_band in ((4, False), (5, True)):
        vega_lite = drawn("dose", frames(doses(number)))
        assert ("bands" in vega_lite["title"]["subtitle"]) == has_band
        lows = [row["low"] for row in rows_of(vega_lite) if "low" in row]
        assert any(low is not None for low in lows) == has_band


def test_names_of_lasting_arms_do_not_cover_each_other() -> None:
    sets = drawn("safeguard-costs", compared())["datasets"].values()
    panels = [rows for rows in sets if {"name", "x", "y"} <= rows[0].keys()]
    assert len(panels) == 2 and all(len(names) > 2 for names in panels)
    for names in panels:
        for one, other in itertools.combinations(names, 2):
            left, right = sorted((one, other), key=lambda row: row["x"])
            is_beside = left["x"] + CHAR_PX * len(left["name"]) <= right["x"]
            assert is_beside or abs(one["y"] - other["y"]) >= LINE_PX, (one, other)


def test_the_front_is_what_no_other_point_beats() -> None:
    inf = float("inf")
    assert front([1, 2, 3, 0, 1], [1, 2, 2, inf, 0.5]) == [False, False, False, True, False]
    assert front([1, 2, 3, 3], [1, 2, 2, 3]) == [True, True, False, True]
    assert front([1, float("nan")], [1, 9]) == [True, False]


def test_the_best_are_those_without_onset_with_the_least_human_loss_then_the_longest() -> None:
    rows, _ = judged(compared())
    assert best_arms(rows) == ["entropy-bonus", "weight-anchor", "kl-anchor", "real-mix"]


def test_the_table_has_a_row_per_arm_and_unknown_is_empty() -> None:
    table = cast(Any, TABLES["safeguards"].build(compared()))
    assert len(table) == 14 and table["arm"].iloc[0] == "none"
    row = to_csv(table).splitlines()[1].split(",")
    assert row[:7] == ["none", "builtin:pico", "0.00032", "5", "5", "48.0", "reference"] and row[7] == ""
    assert "weight-anchor" in to_markdown(table)


def test_there_is_no_table_without_safeguards(sweep: Runs) -> None:
    assert TABLES["safeguards"].build(sweep) is None
