"""What of a run the page keeps, within its budget."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapselab import CollapseMonitor
from collapselab.report import explorer
from collapselab.report.explorer import MAX_SAMPLE_CHARS, explorer_runs, kept_steps
from collapselab.report.page import _charts
from collapselab.rundir.frames import load_runs
from report_pages import unpack
from report_runs import make_text, readable_run


def test_few_steps_are_all_kept() -> None:
    assert kept_steps([0, 1, 5], [1], 3) == [0, 1, 5]
    assert kept_steps([], [], 5) == []


def test_ends_and_events_are_kept_though_more_than_asked_for() -> None:
    assert kept_steps(range(100), [40, 48], 1) == [0, 40, 48, 99]
    assert kept_steps(range(100), [], 1) == [0, 99]


def test_kept_steps_are_even_and_dense_at_the_first_event() -> None:
    # Ends and event leave 8 places: 4 even ones, and 4 at distances that grow from the event.
    kept = kept_steps(range(1001), [500], 11)
    assert {0, 200, 400, 500, 600, 800, 1000} <= set(kept)
    near = sorted(abs(step - 500) for step in set(kept) - {0, 200, 400, 500, 600, 800, 1000})
    # by_distance[1000 ** (i / 4)] for i = 1..4 is at place 6, 32, 178 and 1000, two places a distance.
    assert near == [3, 16, 89]


def test_an_event_between_two_records_stands_for_the_later_one() -> None:
    assert 30 in kept_steps(range(0, 100, 10), [25], 3)


@given(
    st.sets(st.integers(0, 5000), min_size=1, max_size=300),
    st.lists(st.integers(0, 5000), max_size=3),
    st.integers(1, 80),
)
def test_kept_steps_are_some_of_the_steps(steps: set[int], events: list[int], at_most: int) -> None:
    ordered = sorted(steps)
    kept = kept_steps(ordered, events, at_most)
    assert kept == sorted(set(kept))
    assert set(kept) <= steps
    assert {ordered[0], ordered[-1]} <= set(kept)
    assert len(kept) <= max(at_most, 2 + len(events))


def test_a_run_is_packed_with_its_curves_values_and_samples(tmp_path: Path) -> None:
    runs = load_runs(readable_run(tmp_path / "a"))
    (run,) = explorer_runs(runs)
    content = unpack(run.packed)
    assert (run.num_steps, run.num_curve_points, run.num_steps_shown, run.num_sampled_steps) == (12, 12, 12, 12)
    assert content["curves"]["step"] == list(range(12))
    assert content["curves"]["val_nll_nats[austen]"][2] == 3.1
    assert content["curves"]["loop_share"] == [0.02] * 6 + [0.9] * 6
    stop = content["stops"][7]
    assert (stop["step"], stop["samples"]) == (7, [{"role": "train", "text": make_text(7, 6)}])
    values = dict(zip(content["names"], stop["values"], strict=True))
    assert (values["train_nll_nats"], values["kind"], values["degenerate"]) == (0.2, "loop", True)
    assert not {"step", "run", "val_nll_nats", "seconds_update"} & set(values)


def test_the_budget_holds_for_text_that_does_not_compress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "PAGE_CHARS", 60_000)
    digests = (hashlib.shake_256(str(step).encode()).digest(750) for step in range(200))
    texts = [base64.b64encode(digest).decode() for digest in digests]
    (run,) = explorer_runs(load_runs(readable_run(tmp_path / "a", num_steps=200, texts=texts)))
    assert 30_000 <= len(run.packed) <= 60_000
    assert 10 < run.num_steps_shown < 100


def test_long_curves_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MAX_CURVE_POINTS", 50)
    monkeypatch.setattr(explorer, "PAGE_CHARS", 4_000)
    (run,) = explorer_runs(load_runs(readable_run(tmp_path / "a", num_steps=300)))
    content = unpack(run.packed)
    points = content["curves"]["step"]
    assert run.num_curve_points == len(points)
    assert {stop["step"] for stop in content["stops"]} <= set(points), "the marker needs a point on the curve"
    assert 50 <= len(points) <= 50 + run.num_steps_shown < 300


def test_a_very_long_sample_is_cut_and_says_by_how_much(tmp_path: Path) -> None:
    texts = ["y" * (MAX_SAMPLE_CHARS + 7), "short"]
    (run,) = explorer_runs(load_runs(readable_run(tmp_path / "a", num_steps=2, texts=texts)))
    long, short = (stop["samples"][0] for stop in unpack(run.packed)["stops"])
    assert (len(long["text"]), long["cut"]) == (MAX_SAMPLE_CHARS, 7)
    assert "cut" not in short


def test_of_many_samples_of_a_step_the_first_of_each_role_are_kept(tmp_path: Path) -> None:
    path = readable_run(tmp_path / "a", num_steps=3)
    lines = [{"step": 1, "index": i + 1, "role": "probe", "token_ids": [1], "text": f"probe {i}"} for i in range(5)]
    with (path / "samples.jsonl").open("a") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines)
    (run,) = explorer_runs(load_runs(path))
    (stop,) = unpack(run.packed)["stops"]  # only this step was judged by probes
    assert [(s["role"], s.get("of")) for s in stop["samples"]] == [("train", None), ("probe", 5), ("probe", 5)]


def test_a_run_without_samples_still_has_its_curves_and_values(tmp_path: Path) -> None:
    path = readable_run(tmp_path / "a")
    (path / "samples.jsonl").unlink()
    (run,) = explorer_runs(load_runs(path))
    content = unpack(run.packed)
    assert run.num_sampled_steps == 0
    assert [stop["step"] for stop in content["stops"]] == list(range(12))
    assert all(stop["samples"] == [] for stop in content["stops"])


def test_a_watched_training_has_a_chart_of_its_reward_and_other_runs_none(tmp_path: Path) -> None:
    monitor = CollapseMonitor(tmp_path / "watched")
    for step in range(3):
        monitor.observe(step, [list(range(100))], values={"reward": step - 4.0})
    monitor.finish()
    readable_run(tmp_path / "other")
    (run,) = explorer_runs(load_runs(tmp_path / "watched"))
    assert unpack(run.packed)["curves"]["reward"] == [-4, -3, -2]
    charts = [
        [chart["name"] for chart in _charts(list(load_runs(tmp_path / name).steps))] for name in ("watched", "other")
    ]
    assert charts == [["repetition", "entropy", "reward"], ["loss", "repetition"]], "none that stays empty"
