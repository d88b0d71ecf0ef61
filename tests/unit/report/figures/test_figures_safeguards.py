"""The figures and the table of safeguards, from worlds where it is known what each arm does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import pandas as pd
import pytest
import vl_convert

from collapselab.report.figures import FIGURES, safeguard_recovery
from collapselab.report.figures.safeguard_costs import front
from collapselab.report.safeguard_arms import best_arms, judged
from collapselab.report.table_files import to_csv, to_markdown
from collapselab.report.tables import TABLES
from collapselab.rundir.frames import Runs
from figure_specs import drawn, parts, rows_of
from made_worlds import frames
from safeguard_sweeps_made import doses, left_open, recovery
from safeguard_worlds import world


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


def test_few_seeds_have_no_band() -> None:
    for number, has_band in ((4, False), (5, True)):
        vega_lite = drawn("dose", frames(doses(number)))
        assert ("bands" in vega_lite["title"]["subtitle"]) == has_band
        lows = [row["low"] for row in rows_of(vega_lite) if "low" in row]
        assert any(low is not None for low in lows) == has_band


def test_names_of_lasting_arms_do_not_cover_each_other() -> None:
    marks = [part["mark"] for part in parts(drawn("safeguard-costs", compared())) if "mark" in part]
    assert any(mark.get("type") == "text" for mark in marks)
    names = [row for row in parts(drawn("safeguard-costs", compared())) if {"name", "x", "y"} <= row.keys()]
    assert len({(row["x"], row["y"]) for row in names}) == len(names) > 4


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


def test_where_no_run_heals_no_remedy_is_praised() -> None:
    rows = pd.DataFrame({"remedy": ["none", "restore", "negate"], "past": 0, "is_healed": False, "rise_end": 0.5})
    assert safeguard_recovery.message(rows) == "No remedy heals a run that goes on with its own text"
    assert "old weights" in safeguard_recovery.message(rows.assign(is_healed=[False, True, False]))
