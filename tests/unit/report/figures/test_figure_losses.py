"""Figures 2 and 4, the losses: which runs, which values, which words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest

from collapselab.collapse.words import ENDED_BY
from collapselab.report.figures import FIGURES, losses
from collapselab.report.groups import run_table
from collapselab.report.selection import MAX_NAMED, main_runs
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs
from figure_specs import drawn, rows_of


def test_figures_2_and_4_are_of_the_first_and_the_second_text(sweep: Runs) -> None:
    for key, text, start in (("figure-2", "austen", 3.3), ("figure-4", "moby-dick", 3.8)):
        vega_lite = drawn(key, sweep)
        assert f"validation loss, {text}" in json.dumps(vega_lite)
        means = [row for row in rows_of(vega_lite) if row.get("part", "").startswith("mean 0")]
        assert [(row["part"], row["curve"]) for row in means] == [
            ("mean 0 0", "4e-5"),
            ("mean 0 0", "8e-5"),
            ("mean 0 1", "4e-5"),
            ("mean 0 1", "8e-5"),
        ]
        assert all(row["value"][0] == pytest.approx(start, abs=0.05) for row in means)
        assert all(set(row["n"]) == {3} for row in means)


def test_every_run_ends_in_a_mark_that_says_why(sweep: Runs) -> None:
    ends = [row for row in rows_of(drawn("figure-2", sweep)) if row.get("part", "").startswith("end 0")]
    found = {row["run"]: (row["step"][0], row["ending"]) for row in ends}
    table = sweep.runs.set_index("run")
    words = {"collapse": "total collapse", "budget": "steps used up"}
    assert found == {run: (table["last_step"][run], words[table["ended_by"][run]]) for run in table.index}
    assert {ending for _, ending in found.values()} == {"total collapse", "steps used up"}


def test_a_diverged_run_is_marked_where_its_losses_were_last_finite(odd: Runs) -> None:
    ends = [row for row in rows_of(drawn("figure-2", odd)) if row.get("part") == "end 0 0"]
    assert {row["run"]: row["step"] for row in ends}["diverged"] == [19]


def test_a_mean_is_of_the_same_runs_at_every_step_and_no_unfinished_run_ends_it(odd: Runs) -> None:
    rows = rows_of(drawn("figure-2", odd))
    (mean,) = [row for row in rows if row.get("part") == "mean 0 0"]
    ends = {row["run"]: row["step"][0] for row in rows if row.get("part") == "end 0 0"}
    assert mean["step"][-1] == min(end for run, end in ends.items() if run != "unfinished")
    assert mean["step"][-1] > ends["unfinished"]
    assert set(mean["n"]) == {len(ends) - 1}


def test_every_run_has_a_thin_line_from_its_first_step_to_its_mark(sweep: Runs) -> None:
    rows = rows_of(drawn("figure-2", sweep))
    singles = {(row["part"][-3:], row["run"]): row for row in rows if row.get("part", "").startswith("run")}
    ends = {(row["part"][-3:], row["run"]): row for row in rows if row.get("part", "").startswith("end")}
    assert singles.keys() == ends.keys()
    assert all(singles[key]["step"][0] == 0 for key in ends)
    assert all(singles[key]["step"][-1] == ends[key]["step"][0] for key in ends)


def test_three_seeds_have_no_band_and_the_picture_says_what_is_drawn(sweep: Runs) -> None:
    text = json.dumps(drawn("figure-2", sweep))
    assert "thick: mean until the first run ends; thin: single runs" in text
    assert "t-intervals" not in text
    means = [row for row in rows_of(drawn("figure-2", sweep)) if row.get("part", "").startswith("mean")]
    assert all(set(row["low"]) == {None} for row in means)


def test_the_title_says_what_the_losses_do_and_on_which_text(sweep: Runs) -> None:
    found = losses.select(sweep, 0)
    assert found is not None
    assert losses.message(found) == "On austen, validation loss rises; training loss on own text falls"
    turned = replace(found, series=(found.series[1], found.series[0]))
    assert losses.message(turned) == "On austen, validation loss falls; training loss on own text rises"


def test_learning_rates_of_one_model_are_left_out_where_models_share_two(sweep: Runs) -> None:
    more = sweep.runs.copy()
    more.loc[more["run"].str.startswith("nano-lr-4e-05"), "lr"] = 5e-5
    plan = losses.select(Runs(more, sweep.steps, sweep.samples), 0)
    assert plan is not None
    assert list(plan.curves) == ["4e-5", "5e-5", "8e-5"], "one shared rate makes no grid"
    extra = sweep.runs.head(1).assign(run="extra", lr=1e-3, model="builtin:mini")
    steps = sweep.steps[sweep.steps["run"] == sweep.runs["run"].iloc[0]].assign(run="extra")
    plan = losses.select(Runs(pd.concat([sweep.runs, extra]), pd.concat([sweep.steps, steps]), sweep.samples), 0)
    assert plan is not None
    assert list(plan.curves) == ["4e-5", "8e-5"]
    assert plan.left_out == "learning rate 0.001 (of one model)"


def with_models(runs: Runs, names: Sequence[str]) -> Runs:
    """The runs of nano once more, as those of models of these names."""
    of_nano = runs.runs[runs.runs["model"] == "builtin:nano"]
    tables, steps = [runs.runs], [runs.steps]
    for name in names:
        tables.append(of_nano.assign(model=name, run=name + of_nano["run"]))
        mine = runs.steps[runs.steps["run"].isin(of_nano["run"])]
        steps.append(mine.assign(run=name + mine["run"]))
    return Runs(pd.concat(tables, ignore_index=True), pd.concat(steps, ignore_index=True), runs.samples)


def test_of_many_models_those_of_other_sizes_come_first_and_the_rest_is_named(sweep: Runs) -> None:
    names = [f"other-{i}" for i in range(11)]
    found = losses.select(with_models(sweep, names[:3]), 0)
    assert found is not None
    assert [panel.split()[0] for panel in found.panels] == ["nano", "other-0", "other-1", "micro"]
    assert found.left_out.split()[0] == "other-2"
    found = losses.select(with_models(sweep, names), 0)
    assert found is not None
    assert found.left_out.endswith(" and 3 more models")
    assert found.left_out.count("other-") == MAX_NAMED


def test_a_trajectory_seen_twice_is_drawn_once_and_ends_at_total_collapse(sweep: Runs) -> None:
    past = sweep.runs.assign(run="past/" + sweep.runs["run"], ended_by="budget", **{"stop.on_collapse": False})
    longer = sweep.steps.assign(run="past/" + sweep.steps["run"], step=sweep.steps["step"] + 5)
    twice = Runs(pd.concat([past, sweep.runs]), pd.concat([longer, sweep.steps]), sweep.samples)
    once, before = losses.select(twice, 0), losses.select(sweep, 0)
    assert once is not None
    assert before is not None
    assert len(run_table(twice)) == 2 * len(run_table(sweep))
    stopped = set(before.table.loc[before.table["ending"] == ENDED_BY["collapse"].label, "run"])
    assert stopped
    assert stopped <= set(once.table["run"])
    assert {name.removeprefix("past/") for name in once.table["run"]} == set(before.table["run"])
    assert len(once.table) == len(before.table)


def test_captions_have_the_figures_of_what_is_seen(sweep: Runs) -> None:
    table = main_runs(run_table(sweep))
    caption = FIGURES["figure-2"].caption(sweep)
    assert "12 runs of nano (0.56 M), micro (2.2 M) with 3 seeds" in caption
    assert "learning rate (4e-5, 8e-5)" in caption
    endings = table["ending"].value_counts()
    assert ", ".join(f"{n} {words}" for words, n in endings.items()) in caption
    onsets = int(table["is_event"].sum())
    caption = FIGURES["figure-3"].caption(sweep)
    assert 0 < onsets < 12
    assert f"{onsets} of 12 runs had an onset, {12 - onsets} had none (censored)" in caption
    arm = table[(table["model_label"] == "micro (2.2 M)") & (table["lr"] == 8e-5)]
    assert f"micro (2.2 M) {sorted(arm['duration'])[1]:.0f}" in caption


def ends_of(runs: Runs, name: str, run: str) -> tuple[float, float]:
    values = runs.steps[runs.steps["run"] == run].sort_values("step")[name].dropna().tolist()
    return values[0], values[-1]


def span(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def test_a_caption_of_losses_says_where_they_start_and_end(sparse: Runs) -> None:
    caption = FIGURES["figure-2"].caption(sparse)
    for words, name in (("Validation", "val_nll_nats[austen]"), ("training", "train_nll_nats")):
        ends = [ends_of(sparse, name, run) for run in sparse.runs["run"]]
        first, last = ([end[i] for end in ends] for i in (0, 1))
        assert f"{words} loss starts at {span(first)} and ends at {span(last)}" in caption
        assert span(first) != span(last), "a caption that took one for the other would be found out"
    last_steps = [int(step) for step in sparse.runs["last_step"]]
    assert f"Runs end after {min(last_steps)} to {max(last_steps)} steps: 3 total collapse." in caption


def test_a_mean_of_losses_has_points_only_where_all_were_measured(sparse: Runs) -> None:
    chart = FIGURES["figure-2"].draw(sparse)
    assert chart is not None
    rows = rows_of(specification(chart))
    (mean,) = [row for row in rows if row.get("part") == "mean 0 0"]
    measured = sparse.steps.pivot_table(index="step", columns="run", values="val_nll_nats[austen]")
    assert mean["step"][:3] == [0, 4, 8]
    for step, value, n in zip(mean["step"], mean["value"], mean["n"], strict=True):
        known = measured.loc[step].dropna()
        assert (len(known), value) == (n, pytest.approx(known.mean(), abs=1e-4))
    for row in rows:
        if row.get("part") == "run 0 0":
            assert set(row["step"]) <= set(measured[row["run"]].dropna().index)
