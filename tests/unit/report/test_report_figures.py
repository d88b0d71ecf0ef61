"""The figures of a report: what each of them holds, from runs of every shape, and that a reader can work with it."""

from __future__ import annotations

import gc
import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.analysis.survival import median_onset
from collapselab.collapse.words import ENDED_BY
from collapselab.report import groups, plans
from collapselab.report.barcode import MAX_ROWS, barcode, repeat_lengths
from collapselab.report.catalogue import FIGURES, NOT_DRAWN
from collapselab.report.curves import MAX_POINTS, MIN_LOSS_NATS, mean_curve, run_series, tails
from collapselab.report.figures import anatomy_figure, save_figure, specification
from collapselab.report.groups import count, main_runs, run_table, shown_run
from collapselab.report.interaction import interactive, without_invisible
from collapselab.report.onset_figures import resampled_median
from collapselab.report.run_panels import MAX_DRAWN_STEPS
from collapselab.report.schema import loop
from collapselab.report.theme import log_ticks, short, styles
from collapselab.rundir.frames import Runs, load_runs
from collapselab.rundir.layout import read_json, write_json
from synthetic_runs import make_config, write_run, write_sweep

Spec = dict[str, Any]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two models, two learning rates, three seeds."""
    return load_runs(write_sweep(tmp_path_factory.mktemp("sweep")))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Controls, another temperature, an unfinished run, a diverged one, a thinned one, one that never began."""
    folder = tmp_path_factory.mktemp("odd")
    for seed in (0, 1):
        write_run(folder / f"own-{seed}", make_config(seed=seed), 12 + seed)
        real = make_config(seed=seed, train__source="real", train__real_text="moby-dick")
        write_run(folder / f"real-{seed}", real, math.inf)
    write_run(folder / "cold", make_config(sampling__temperature=0.5), 8)
    write_run(folder / "unfinished", make_config(seed=7, stop__max_steps=40), 12, finished=False)
    write_run(folder / "no-samples", make_config(seed=8), 12, with_samples=False)
    diverged = write_run(folder / "diverged", make_config(seed=9), math.inf)
    change_steps(diverged, {20: {"train_nll_nats": "NaN", "val_nll_nats[austen]": "Infinity"}})
    thinned = write_run(folder / "thinned", make_config(seed=10, eval__every=4), 12)
    lines = (thinned / "steps.jsonl").read_text().splitlines(keepends=True)
    kept = [*lines[:-1:3], lines[-1]]
    (thinned / "steps.jsonl").write_text("".join(kept))
    write_json(thinned / "summary.json", read_json(thinned / "summary.json") | {"num_steps": len(kept)})
    crashed = write_run(folder / "crashed", make_config(seed=11), 12, finished=False)
    for name in ("steps.jsonl", "samples.jsonl"):
        (crashed / name).unlink()
    return load_runs(folder)


def change_steps(path: Path, changes: dict[int, dict[str, object]]) -> None:
    lines = [json.loads(line) for line in (path / "steps.jsonl").read_text().splitlines()]
    changed = [line | changes.get(line["step"], {}) for line in lines]
    (path / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))


def rows_of(vega_lite: Spec) -> list[Spec]:
    return [row for rows in vega_lite["datasets"].values() for row in rows]


def parts(node: Any) -> Iterator[Spec]:
    """Every object of a specification."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from parts(part)


DRAWN: dict[tuple[str, int], str | None] = {}


def drawn_or_none(key: str, runs: Runs) -> Spec | None:
    """A figure's specification, drawn once a module: Altair takes a quarter of a second for each."""
    if (key, id(runs)) not in DRAWN:
        chart = FIGURES[key].draw(runs)
        if chart is not None:
            with alt.data_transformers.enable("default", max_rows=None):
                chart.to_dict(validate=True)
        DRAWN[key, id(runs)] = None if chart is None else json.dumps(specification(chart), allow_nan=False)
    text = DRAWN[key, id(runs)]
    return None if text is None else json.loads(text)


def drawn(key: str, runs: Runs) -> Spec:
    vega_lite = drawn_or_none(key, runs)
    assert vega_lite is not None
    return vega_lite


# --- every figure, from runs of every shape


@pytest.mark.parametrize("key", FIGURES)
def test_every_figure_is_valid_and_says_what_it_shows(key: str, sweep: Runs, odd: Runs) -> None:
    for runs in (sweep, odd):
        vega_lite, caption = drawn_or_none(key, runs), FIGURES[key].caption(runs)
        assert (vega_lite is None) == caption.startswith(NOT_DRAWN)
        if vega_lite is not None:
            assert vl_convert.vegalite_to_vega(vega_lite)["marks"]
            assert not [row for row in rows_of(vega_lite) if not row]
            assert any(c.isdigit() for c in caption)
            assert len(caption) > 80


def test_what_the_runs_cannot_show_is_not_drawn(sweep: Runs, odd: Runs) -> None:
    assert {key for key in FIGURES if drawn_or_none(key, sweep) is None} == {"arms"}
    without = {"figure-3", "survival-by-size"}
    assert {key for key in FIGURES if drawn_or_none(key, odd) is None} == without


def test_one_run_has_its_own_figures(sweep: Runs) -> None:
    one = Runs(
        *(frame[frame["run"] == sweep.runs["run"].iloc[0]] for frame in (sweep.runs, sweep.steps, sweep.samples))
    )
    shown = {key for key, figure in FIGURES.items() if figure.draw(one) is not None}
    assert shown == {"figure-1", "figure-2", "figure-4", "anatomy", "barcode"}


def test_a_run_that_never_began_has_no_figure(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", make_config(), 12, finished=False)
    for name in ("steps.jsonl", "samples.jsonl"):
        (path / name).unlink()
    runs = load_runs(path)
    assert [key for key, figure in FIGURES.items() if figure.draw(runs) is not None] == []
    assert all(figure.caption(runs).startswith(NOT_DRAWN) for figure in FIGURES.values())


def test_a_figure_becomes_three_files(sweep: Runs, tmp_path: Path) -> None:
    chart = FIGURES["figure-2"].draw(sweep)
    assert chart is not None
    svg, png, pdf = save_figure(chart, tmp_path, "figure-2", ("svg", "png", "pdf"))
    assert "validation loss, austen" in svg.read_text(encoding="utf-8")
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert pdf.read_bytes()[:5] == b"%PDF-"


# --- losses against step


def test_figures_2_and_4_are_of_the_first_and_the_second_text(sweep: Runs) -> None:
    for key, text, start in (("figure-2", "austen", 3.3), ("figure-4", "moby-dick", 3.8)):
        vega_lite = drawn(key, sweep)
        assert f"validation loss, {text}" in json.dumps(vega_lite)
        means = [row for row in rows_of(vega_lite) if row["part"].startswith("mean 0")]
        assert [(row["part"], row["curve"]) for row in means] == [
            ("mean 0 0", "4e-5"),
            ("mean 0 0", "8e-5"),
            ("mean 0 1", "4e-5"),
            ("mean 0 1", "8e-5"),
        ]
        assert all(row["value"][0] == pytest.approx(start, abs=0.05) for row in means)
        assert all(set(row["n"]) == {3} for row in means)


def test_every_run_ends_in_a_mark_that_says_why(sweep: Runs) -> None:
    ends = [row for row in rows_of(drawn("figure-2", sweep)) if row["part"].startswith("end 0")]
    found = {row["run"]: (row["step"][0], row["ending"]) for row in ends}
    table = sweep.runs.set_index("run")
    words = {"collapse": "total collapse", "budget": "steps used up"}
    assert found == {run: (table["last_step"][run], words[table["ended_by"][run]]) for run in table.index}
    assert {ending for _, ending in found.values()} == {"total collapse", "steps used up"}


def test_a_mean_is_the_mean_and_its_interval_students() -> None:
    series = [(np.arange(5.0), np.full(5, value)) for value in (1.0, 2.0, 6.0)]
    curve = mean_curve(series, [True] * 3)
    assert curve["step"].tolist() == [0, 1, 2, 3, 4]
    assert curve["value"].tolist() == pytest.approx([3.0] * 5)
    low, high = scipy.stats.t.interval(0.95, 2, 3.0, scipy.stats.sem([1.0, 2.0, 6.0]))
    assert curve["high"].iloc[0] == pytest.approx(high)
    assert low < 0
    assert curve["low"].iloc[0] == MIN_LOSS_NATS
    assert curve["n"].tolist() == [3] * 5


def test_a_mean_ends_with_the_first_finished_run_and_tails_go_on() -> None:
    series = {
        "a": (np.arange(3.0), np.zeros(3)),
        "b": (np.arange(9.0), np.arange(9.0)),
        "c": (np.arange(2.0), np.ones(2)),
    }
    curve = mean_curve(list(series.values()), [True, True, False])
    assert curve["step"].tolist() == [0, 1, 2]
    assert curve["n"].tolist() == [3, 3, 2]
    assert curve["value"].tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    after = tails(series, 2.0)
    assert set(after) == {"b"}
    assert after["b"]["step"].tolist() == list(range(2, 9))
    assert after["b"]["value"].tolist() == list(range(2, 9))


def test_one_run_has_a_curve_without_an_interval() -> None:
    curve = mean_curve([(np.array([0.0, 4.0]), np.array([1.0, 3.0]))], [False])
    assert (curve["step"].tolist(), curve["value"].tolist()) == ([0, 4], [1.0, 3.0]), "nothing is interpolated"
    assert curve[["low", "high"]].isna().all(axis=None)


def test_a_long_run_has_few_points_each_the_mean_around_it() -> None:
    values = np.arange(5001.0)
    curve = mean_curve([(np.arange(5001.0), values)], [True])
    assert len(curve) <= MAX_POINTS + 2
    width = math.ceil(5000 / MAX_POINTS)
    step = int(curve["step"].iloc[40])
    assert curve["value"].iloc[40] == pytest.approx(values[step - width // 2 : step + (width - 1) // 2 + 1].mean())
    assert curve["step"].iloc[-1] == 5000


def test_a_series_ends_before_its_first_value_that_is_not_finite() -> None:
    steps = pd.DataFrame({"run": "a", "step": range(5), "x": [1.0, math.nan, 3.0, math.inf, 5.0]})
    at, values = run_series(steps, "x")["a"]
    assert (at.tolist(), values.tolist()) == ([0, 2], [1, 3])
    assert run_series(steps, "y") == {}
    assert run_series(steps.assign(x=math.inf), "x") == {}


def test_a_diverged_run_is_marked_where_its_losses_were_last_finite(odd: Runs) -> None:
    ends = [row for row in rows_of(drawn("figure-2", odd)) if row["part"] == "end 0 0"]
    assert {row["run"]: row["step"] for row in ends}["diverged"] == [19]


def test_an_unfinished_run_does_not_end_the_mean_of_the_others(odd: Runs) -> None:
    rows = rows_of(drawn("figure-2", odd))
    (mean,) = [row for row in rows if row["part"] == "mean 0 0"]
    ends = {row["run"]: row["step"][0] for row in rows if row["part"] == "end 0 0"}
    assert mean["step"][-1] == min(end for run, end in ends.items() if run != "unfinished")
    assert mean["step"][-1] > ends["unfinished"]
    assert mean["n"][0] == len(ends) == mean["n"][-1] + 1


def test_arms_stand_beside_each_other_at_equal_model_and_rate(odd: Runs) -> None:
    plan = plans.by_arm(odd)
    assert plan is not None
    assert list(plan.layout.curves) == [
        "own text, sampling.temperature 0.5",
        "own text, sampling.temperature 0.8",
        "real text, sampling.temperature 0.8",
    ]
    assert plan.table["model"].nunique() == plan.table["lr"].nunique() == 1


# --- which runs are shown


def test_learning_rates_of_one_model_are_left_out_where_models_share_two(sweep: Runs) -> None:
    more = sweep.runs.copy()
    more.loc[more["run"].str.startswith("nano-lr-4e-05"), "lr"] = 5e-5
    plan = plans.by_learning_rate(Runs(more, sweep.steps, sweep.samples), 0)
    assert plan is not None
    assert list(plan.layout.curves) == ["4e-5", "5e-5", "8e-5"], "one shared rate makes no grid"
    extra = sweep.runs.head(1).assign(run="extra", lr=1e-3, model="builtin:mini")
    steps = sweep.steps[sweep.steps["run"] == sweep.runs["run"].iloc[0]].assign(run="extra")
    plan = plans.by_learning_rate(
        Runs(pd.concat([sweep.runs, extra]), pd.concat([sweep.steps, steps]), sweep.samples), 0
    )
    assert plan is not None
    assert list(plan.layout.curves) == ["4e-5", "8e-5"]


def test_the_main_runs_differ_in_model_rate_and_seed_only(odd: Runs) -> None:
    main = main_runs(run_table(odd))
    assert set(main["run"]) == {"own-0", "own-1", "unfinished", "no-samples", "diverged", "thinned"}
    assert set(main["ending"]) == {"total collapse", "unfinished", "steps used up"}


def test_a_trajectory_seen_twice_is_drawn_once_and_ends_at_total_collapse(sweep: Runs) -> None:
    past = sweep.runs.assign(run="past/" + sweep.runs["run"], ended_by="budget", **{"stop.on_collapse": False})
    longer = sweep.steps.assign(run="past/" + sweep.steps["run"], step=sweep.steps["step"] + 5)
    twice = Runs(pd.concat([past, sweep.runs]), pd.concat([longer, sweep.steps]), sweep.samples)
    once, before = plans.by_learning_rate(twice, 0), plans.by_learning_rate(sweep, 0)
    assert once is not None
    assert before is not None
    assert len(run_table(twice)) == 2 * len(run_table(sweep))
    stopped = set(before.table.loc[before.table["ending"] == ENDED_BY["collapse"].label, "run"])
    assert stopped
    assert stopped <= set(once.table["run"])
    assert {name.removeprefix("past/") for name in once.table["run"]} == set(before.table["run"])
    assert len(once.table) == len(before.table)


def test_what_there_is_no_room_for_is_said(sweep: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = {key: FIGURES[key].caption(sweep) for key in ("figure-2", "survival-by-size")}
    assert not any("not shown" in caption for caption in captions.values())
    monkeypatch.setattr(plans, "MAX_MODELS", 1)
    monkeypatch.setattr(plans, "MAX_SURVIVAL_PANELS", 1)
    assert FIGURES["figure-2"].caption(sweep).endswith("2 further arms are not shown.")
    assert FIGURES["survival-by-learning-rate"].caption(sweep).endswith("2 further arms are not shown.")
    assert FIGURES["survival-by-size"].caption(sweep).endswith("2 further arms are not shown.")


def test_arms_are_named_by_what_tells_them_apart(odd: Runs) -> None:
    table = run_table(odd).set_index("run")
    assert table["arm_label"]["cold"] == "own text, sampling.temperature 0.5"
    assert table["arm"]["own-0"] == table["arm"]["own-1"] == table["arm"]["thinned"] != table["arm"]["cold"]
    assert table["model_label"]["own-0"] == "micro (2.2 M)"
    assert table["size"]["own-0"] == 2_222_208
    assert "crashed" not in table.index


def test_models_without_a_name_are_called_by_their_folder_where_that_is_enough(sweep: Runs) -> None:
    two = sweep.runs.head(2).drop(columns="num_parameters").assign(model=["/a/b/small", "/a/c/large"])
    assert run_table(Runs(two, sweep.steps, sweep.samples))["model_label"].tolist() == ["small", "large"]
    two = two.assign(model=["/a/b/small", "/a/c/small"])
    assert run_table(Runs(two, sweep.steps, sweep.samples))["model_label"].tolist() == ["/a/b/small", "/a/c/small"]


def shown_rows(**columns: Sequence[object]) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    defaults = {"run": list("abcdefgh")[:length], "ending": ["total collapse"] * length, "is_event": [True] * length}
    return pd.DataFrame(defaults | {"lr": [1e-4] * length, "last_step": list(range(length))} | columns)


def test_one_run_is_shown_by_rank() -> None:
    assert shown_run(shown_rows(last_step=[9, 5, 7]), {"a", "b", "c"}) == "c", "the median of those that collapsed"
    assert shown_run(shown_rows(last_step=[9, 5, 7]), {"a"}) == "a", "one with samples"
    assert shown_run(shown_rows(last_step=[9, 5, 7]), set()) == "c", "or any"
    assert shown_run(shown_rows(lr=[1e-4, 2e-5, 1e-4]), set()) == "b", "at the paper's learning rate"
    endings, events = ["unfinished", "steps used up", "steps used up"], [False, False, True]
    assert shown_run(shown_rows(ending=endings, is_event=events), set()) == "c", "one with an onset"
    endings = ["steps used up", "total collapse", "steps used up"]
    assert shown_run(shown_rows(ending=endings, last_step=[5, 9, 1]), set()) == "b", "rather one that collapsed totally"
    assert shown_run(shown_rows(run=[]), set()) is None


def test_an_unfinished_run_shows_the_onset_in_its_records(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", make_config(), 6)
    onset = json.loads((path / "summary.json").read_text())["onset_step"]
    (path / "summary.json").unlink()
    row = plans.one_run(load_runs(path))
    assert row is not None
    assert (row["ending"], row["onset_step"]) == ("unfinished", onset)


def test_the_table_of_runs_is_made_once_and_forgotten_with_them(sweep: Runs) -> None:
    runs = Runs(sweep.runs, sweep.steps, sweep.samples)
    key = id(runs)
    assert run_table(runs) is run_table(runs)
    del runs
    gc.collect()
    assert key not in groups._tables


# --- onset against size, and survival


def test_figure_3_has_a_point_a_run_and_the_median_of_each_arm(sweep: Runs) -> None:
    rows = rows_of(drawn("figure-3", sweep))
    table = main_runs(run_table(sweep))
    panels = {(row["run"], row["step"], row["fate"]) for row in rows if "run" in row}
    fates = {True: "onset", False: "no onset up to there"}
    expected = zip(table["run"], table["duration"], table["is_event"].map(fates), strict=True)
    assert panels == set(expected)
    assert {fate for _, _, fate in panels} == set(fates.values())
    medians = {(row["model"], row["curve"]): row["step"] for row in rows if "runs" in row}
    for (model, rate), arm in table.groupby(["model_label", "lr"]):
        assert (
            medians[model, short(rate)] == median_onset(arm["duration"].to_numpy(), arm["is_event"].to_numpy()).estimate
        )


def test_medians_have_the_interval_of_resampled_runs_and_none_where_censoring_hides_it(sweep: Runs) -> None:
    """Of seven resampled runs fewer than four are the earliest in 99 % of cases, but the second in only 90 %."""
    table = main_runs(run_table(sweep)).head(7).assign(duration=[10.0, 20, 30, 40, 50, 60, 70], curve="x")
    last_two, first = [True] * 5 + [False] * 2, [False] + [True] * 6
    assert resampled_median(table.assign(is_event=True)) == (20, 60)
    assert resampled_median(table.assign(is_event=last_two)) == (20, None)
    assert resampled_median(table.assign(is_event=first)) == (None, None)
    assert resampled_median(table.assign(is_event=True).head(1)) == (None, None)


def test_models_are_compared_at_equal_updates_where_those_are_recorded(sweep: Runs) -> None:
    plan = plans.sizes_compared(sweep)
    assert plan is not None
    assert [panel.title for panel in plan.panels] == ["at equal learning rates", "at equal update sizes"]
    assert list(plan.panels[1].curves) == ["0.004", "0.008"]
    assert list(plan.models) == ["nano (0.56 M)", "micro (2.2 M)"]
    plan = plans.sizes_compared(Runs(sweep.runs, sweep.steps.drop(columns="relative_update_norm"), sweep.samples))
    assert plan is not None
    assert [panel.title for panel in plan.panels] == ["at equal learning rates"]


def test_survival_steps_down_by_a_share_of_the_runs_at_each_onset(sweep: Runs) -> None:
    rows = [row for row in rows_of(drawn("survival-by-learning-rate", sweep)) if row["kind"] == "curve"]
    curve = next(row for row in rows if (row["panel"], row["curve"]) == ("micro (2.2 M)", "8e-5"))
    table = main_runs(run_table(sweep))
    arm = table[(table["model_label"] == "micro (2.2 M)") & (table["lr"] == 8e-5)]
    assert arm["is_event"].all()
    onsets = sorted(set(arm["duration"]))
    assert len(onsets) > 1
    assert curve["step"][1:] == onsets
    assert curve["survival"][1:] == pytest.approx([float((arm["duration"] > step).mean()) for step in onsets], abs=1e-4)
    assert curve["step"][0] == 0
    assert 0 < curve["at"][0] < min(curve["at"][1:]), "a logarithmic axis has no step 0"
    assert curve["at"][1:] == curve["step"][1:]


def test_runs_lost_from_sight_are_ticks_on_their_curve(sweep: Runs) -> None:
    rows = [row for row in rows_of(drawn("survival-by-size", sweep)) if row["kind"] == "censored" and row["step"]]
    table = main_runs(run_table(sweep))
    lost = table[~table["is_event"]]
    assert sorted(step for row in rows for step in row["step"]) == sorted(lost["duration"])
    assert all(0 <= share <= 1 for row in rows for share in row["survival"])


# --- the loop, one run, the barcode


def test_the_loop_has_the_settings_of_the_runs(sweep: Runs, odd: Runs) -> None:
    facts = {box.heading: " | ".join(box.facts) for box in loop(main_runs(run_table(sweep)))}
    assert facts["1  Evaluate"] == "loss on human text: austen, moby-dick | protocol windows[100,100] | at every step"
    assert facts["2  Write"] == "100 tokens after the end-of-text token | temperature 0.8, top-k 500"
    assert "total collapse: the last 8 steps all are" in facts["3  Read and judge"]
    assert "learning rate 4e-5, 8e-5" in facts["4  Update"]
    text = json.dumps(drawn("figure-1", sweep))
    assert "nano (0.56 M), micro (2.2 M), after t updates" in text
    assert "12 runs, 3 seeds" in text
    facts = {box.heading: " | ".join(box.facts) for box in loop(run_table(odd))}
    assert "training loss on own text, real text" in facts["3  Read and judge"]
    assert "temperature 0.5, 0.8" in facts["2  Write"]


def test_the_anatomy_has_three_panels_and_keeps_the_peaks_of_a_long_run() -> None:
    num_steps = 5000
    steps = pd.DataFrame({"step": range(num_steps), "train_nll_nats": 2.0, "entropy_nats": 1.0, "seq_rep_4": 0.1})
    steps.loc[4321, "entropy_nats"] = 9.0
    vega_lite = specification(anatomy_figure(steps, {"model": "m", "onset_step": 4000}))
    assert len(vega_lite["vconcat"]) == 3
    rows = rows_of(vega_lite)
    raw = [row for row in rows if row.get("layer") == "entropy (thin)"]
    assert max(row["value"] for row in raw) == 9.0
    assert len(raw) <= MAX_DRAWN_STEPS + 2
    assert {row["step"] for row in raw} >= {0, num_steps - 1}


def slow_repeat_lengths(ids: Sequence[int], before: Sequence[int]) -> list[int]:
    """For each token the longest passage around it that begins at an earlier place of the same text, or before it."""
    longest = [0] * len(ids)
    for start, end in itertools.combinations(range(len(ids) + 1), 2):
        passage = list(ids[start:end])
        inside = any(list(ids[i : i + end - start]) == passage for i in range(start))
        outside = any(list(before[i : i + end - start]) == passage for i in range(len(before)))
        if inside or outside:
            for i in range(start, end):
                longest[i] = max(longest[i], end - start)
    return longest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=8))
def test_a_tokens_repetition_is_that_of_the_longest_passage_around_it(ids: list[int], before: list[int]) -> None:
    assert repeat_lengths(ids, before).tolist() == slow_repeat_lengths(ids, before)


def make_samples(texts: Sequence[Sequence[int]], role: str = "train") -> pd.DataFrame:
    rows = [{"run": "a", "step": i, "index": 0, "role": role, "token_ids": list(ids)} for i, ids in enumerate(texts)]
    return pd.DataFrame(rows)


def test_the_barcode_colours_repeats_by_length_and_copies_of_the_step_before() -> None:
    new = list(range(20))
    loop_of_5 = [50, 51, 52, 53, 54] * 8
    chart = barcode(make_samples([new + loop_of_5[:10], new, [*range(100, 110), *loop_of_5]]), {"model": "m"})
    assert chart is not None
    rows = sorted((row for row in rows_of(specification(chart)) if "start" in row), key=lambda row: row["step"])
    stretches = [list(zip(row["start"], row["stop"], row["kind"], strict=True)) for row in rows]
    assert stretches[0] == [(25, 30, 0)], "five tokens that repeat: the first shade"
    assert stretches[1] == [(0, 20, 4)], "new in itself, but all of it in the step before"
    assert stretches[2] == [(15, 50, 3)], "35 tokens that repeat"
    assert [(row["step"], row["end"]) for row in rows] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(("length", "shade"), [(3, None), (4, 0), (7, 0), (8, 1), (15, 1), (16, 2), (31, 2), (32, 3)])
def test_shades_begin_at_their_lengths(length: int, shade: int | None) -> None:
    once = list(range(length))
    chart = barcode(make_samples([[*once, 99, *once]]), {})
    assert chart is not None
    (row,) = [row for row in rows_of(specification(chart)) if "kind" in row]
    assert row["kind"] == ([] if shade is None else [shade])


def test_the_barcode_of_a_long_run_has_evenly_spaced_rows() -> None:
    draw = random.Random(0)
    texts = [[draw.randrange(50) for _ in range(30)] for _ in range(1001)]
    chart = barcode(make_samples(texts), {"model": "m", "onset_step": 700})
    assert chart is not None
    rows = [row for row in rows_of(specification(chart)) if "start" in row]
    assert len(rows) == MAX_ROWS
    assert (min(row["step"] for row in rows), max(row["step"] for row in rows)) == (0, 1000)
    assert all(5 <= row["end"] - row["step"] <= 6 for row in rows)


def test_the_barcode_shows_probes_where_they_judge_and_nothing_without_samples() -> None:
    samples = pd.concat([make_samples([[1] * 30]), make_samples([list(range(30))], "probe")])
    chart = barcode(samples, {"collapse.source": "probe"})
    assert chart is not None
    assert [row["start"] for row in rows_of(specification(chart)) if "start" in row] == [[]]
    assert barcode(make_samples([]), {}) is None if len(make_samples([]).columns) else True
    assert barcode(samples.iloc[:0], {}) is None


# --- captions: the figures in words


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


def test_the_captions_of_one_run_name_it_and_its_events(sweep: Runs) -> None:
    row = plans.one_run(sweep)
    assert row is not None
    for key in ("anatomy", "barcode"):
        caption = FIGURES[key].caption(sweep)
        assert f"({row['run']})" in caption
        assert f"nset at step {row['onset_step']}, total collapse at step {row['last_step']}" in caption


# --- what a reader can do


def test_panels_zoom_together_and_legends_switch_their_own_curves(sweep: Runs) -> None:
    vega_lite = drawn("figure-2", sweep)
    zoom, shown = vega_lite["params"]
    assert zoom["bind"] == "scales"
    assert len(zoom["views"]) == 4, "two texts by two models"
    assert (shown["bind"], shown["select"]["fields"]) == ("legend", ["legend_0"])
    names = {part["name"] for part in parts(vega_lite) if "mark" in part and "name" in part}
    assert set(zoom["views"]) | set(shown["views"]) <= names
    vega_lite = drawn("anatomy", sweep)
    fields = [param["select"]["fields"] for param in vega_lite["params"][1:]]
    assert fields == [["legend_0"], ["legend_1"], ["legend_2"]], "three legends, switched one by one"


def test_zoomed_marks_stay_inside_their_panel_but_words_above_it_are_kept(sweep: Runs) -> None:
    units = [part for part in parts(drawn("anatomy", sweep)) if isinstance(part.get("mark"), dict)]
    words = [unit for unit in units if unit["mark"]["type"] == "text"]
    assert len(words) == 2, "onset and total collapse"
    assert not any(unit["mark"].get("clip") for unit in words)
    assert all(unit["mark"].get("clip") for unit in units if unit["mark"]["type"] == "line")


def test_what_is_switched_off_fades_and_its_tooltips_with_it(sweep: Runs) -> None:
    units = [part for part in parts(drawn("figure-2", sweep)) if "mark" in part and "color" in part.get("encoding", {})]
    assert len(units) == 4 * 5
    for unit in units:
        is_invisible = unit["mark"].get("opacity") == 0
        channel = unit["encoding"]["size" if is_invisible else "opacity"]
        assert channel["condition"]["param"] == "shown_0"
        assert channel["value"] == (0 if is_invisible else pytest.approx(0.1 * channel["condition"]["value"]))
        assert unit["transform"][-1] == {"calculate": "datum['curve']", "as": "legend_0"}


def at_pointer(node: Any, pointer: str) -> Any:
    for part in pointer.strip("/").split("/"):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


@pytest.mark.parametrize("key", ["figure-2", "anatomy"])
def test_losses_can_be_drawn_on_logarithmic_axes(key: str, sweep: Runs) -> None:
    vega_lite = drawn(key, sweep)
    pointers = vega_lite["usermeta"]["log_scales"]
    assert pointers
    for pointer in pointers:
        assert at_pointer(vega_lite, pointer)["type"] == "linear"
        above, _, name = pointer.rpartition("/")
        at_pointer(vega_lite, above)[name] = {"type": "log"}
    scales = vl_convert.vegalite_to_vega(vega_lite)
    assert sum(part.get("type") == "log" for part in parts(scales)) >= 1


def test_files_have_neither_selections_nor_marks_for_tooltips(sweep: Runs, tmp_path: Path) -> None:
    spec = {
        "layer": [{"mark": {"type": "point", "opacity": 0}}, {"mark": {"type": "line"}}],
        "datasets": {"a": [{"x": 1}]},
    }
    assert without_invisible(spec) == {"layer": [{"mark": {"type": "line"}}], "datasets": {"a": [{"x": 1}]}}
    chart = FIGURES["figure-2"].draw(sweep)
    assert chart is not None
    (svg,) = save_figure(chart, tmp_path, "a", ("svg",))
    assert svg.read_text(encoding="utf-8").count('aria-roledescription="point"') == 2 * len(sweep.runs)
    assert "params" not in chart.to_dict()


def test_a_legend_of_two_fields_is_an_error_of_ours() -> None:
    def line(field: str) -> Spec:
        return {"mark": {"type": "line"}, "encoding": {"color": {"field": field, "type": "nominal"}}}

    with pytest.raises(AssertionError, match="told apart by one field"):
        interactive({"layer": [line("a"), line("b")]})


# --- palette, numbers, ticks


def luminance(color: str) -> float:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("number", range(1, 9))
def test_ordered_colours_darken_even_in_grey(number: int) -> None:
    look = styles([str(i) for i in range(number)], ordered=True)
    greys = [luminance(color) for color in look.color.to_dict()["range"]]
    assert all(a > b + 8 for a, b in itertools.pairwise(greys))


def test_unordered_curves_differ_in_more_than_colour() -> None:
    look = styles([str(i) for i in range(14)], ordered=False)
    looks = list(zip(look.color.to_dict()["range"], map(tuple, look.dash.to_dict()["range"]), strict=True))
    assert len(set(looks)) == 14
    assert len({dash for _, dash in looks[:7]}) == 7


def test_numbers_are_written_as_people_write_them() -> None:
    assert [short(v) for v in (2e-5, 1.6e-4, 1e-4, 0.001, 0.05, 0.8, 1, 500, 123456, 0)] == [
        "2e-5",
        "1.6e-4",
        "1e-4",
        "0.001",
        "0.05",
        "0.8",
        "1",
        "500",
        "123456",
        "0",
    ]
    assert [count(n) for n in (556_896, 2_222_208, 124_439_808, 1_557_611_200)] == ["0.56 M", "2.2 M", "124 M", "1.6 B"]


def test_logarithmic_axes_have_round_labels_and_enough_of_them() -> None:
    assert log_ticks(8, 450) == [10, 20, 50, 100, 200]
    assert log_ticks(12, 45) == [20, 30, 40]
    assert log_ticks(20, 24) == [20, 21, 22, 23, 24]


def test_hundreds_of_runs_make_small_figures(sweep: Runs) -> None:
    def copies(frame: pd.DataFrame, number: int) -> pd.DataFrame:
        return pd.concat([frame.assign(run=frame["run"] + f"-{i}") for i in range(number)], ignore_index=True)

    runs = copies(sweep.runs, 8)
    runs["seed"] = range(len(runs))
    many = Runs(runs, copies(sweep.steps, 8), copies(sweep.samples, 1))
    sizes = {key: len(json.dumps(drawn(key, many))) for key in ("figure-2", "figure-3", "survival-by-learning-rate")}
    assert max(sizes.values()) < 400_000
    chart = FIGURES["figure-2"].draw(many)
    assert isinstance(chart, alt.VConcatChart)
