"""The monitor in any loop: warning, verdicts, kinds of trouble, actions, a run directory, a resume."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from collapselab import CollapseMonitor, InputError, load_runs
from collapselab.monitor.troubles import Event, overlap_across, overlap_within
from random_text import random_ids

LOOP = (7, 8, 9) * 70


def healthy(step: int, n: int = 4) -> list[tuple[int, ...]]:
    return [random_ids(1000 * step + i) for i in range(n)]


def looping(step: int, part: float, n: int = 4) -> list[tuple[int, ...]]:
    """Samples of which a part, at the end, is a loop."""
    kept = int(200 * (1 - part))
    return [random_ids(1000 * step + i, kept) + LOOP[: 200 - kept] for i in range(n)]


def collapse(monitor: CollapseMonitor, steps: range, begin: int) -> list[Event]:
    """A training whose samples loop more and more from a step on, with an entropy that falls before."""
    events: list[Event] = []
    for step in steps:
        fallen = max(0.0, min(1.0, (step - begin + 20) / 40))
        samples = healthy(step) if step < begin else looping(step, min(0.9, 0.1 + (step - begin) / 30))
        logprobs = [[-3.0 * (1 - fallen) - 0.01 * (step % 3)] * len(ids) for ids in samples]
        events += monitor.observe(step, samples, logprobs, 3.0 * (1 - fallen))
    return events


def test_a_collapse_is_warned_of_and_then_certain() -> None:
    events = collapse(CollapseMonitor(), range(80), begin=40)
    assert [(event.stage, event.name) for event in events] == [("warning", "early-warning"), ("verdict", "collapse")]
    warned, found = events
    assert 20 <= warned.step < 40 <= found.step, events
    assert "kind loop" in found.message


def test_a_healthy_training_has_no_event() -> None:
    monitor = CollapseMonitor()
    for step in range(60):
        assert monitor.observe(step, healthy(step), entropy_nats=3.0 + 0.05 * math.sin(step)) == []
    assert monitor.is_healthy


def test_a_loss_that_is_not_finite_is_a_divergence() -> None:
    monitor = CollapseMonitor()
    monitor.observe(0, healthy(0))
    (event,) = monitor.observe(1, healthy(1), values={"loss": math.nan})
    assert (event.name, event.step, event.stage) == ("divergence", 1, "verdict")
    assert not monitor.is_healthy


def test_completions_alike_across_prompts_are_a_template_though_the_entropy_is_stable() -> None:
    monitor, template = CollapseMonitor(), random_ids(1, 180)
    events: list[Event] = []
    for step in range(12):
        samples = healthy(step) if step < 6 else [template + random_ids(100 * step + i, 20) for i in range(4)]
        events += monitor.observe(step, samples, entropy_nats=2.0, groups=["p", "p", "q", "q"])
    assert "template" in [event.name for event in events]
    message = next(event.message for event in events if event.name == "template")
    assert "entropy 2.00 nats before, 2.00 now" in message


def test_overlap_is_of_other_groups_or_of_the_own() -> None:
    a, b, c = random_ids(1), random_ids(2), random_ids(3)
    assert overlap_across([a, a, b, c], ["p", "p", "q", "q"]) == 0.0
    assert overlap_within([a, a, b, c], ["p", "p", "q", "q"]) == pytest.approx(0.5, abs=0.01)
    assert overlap_across([a, b, a, c], ["p", "p", "q", "q"]) == pytest.approx(0.5, abs=0.01)
    assert overlap_across([a, b], ["p", "p"]) is None
    assert overlap_within([a, b], ["p", "q"]) is None


def test_completions_that_no_longer_end_are_told() -> None:
    monitor = CollapseMonitor()
    events: list[Event] = []
    for step in range(10):
        events += monitor.observe(step, healthy(step), ended=[step < 6] * 4)
    assert [(event.name, event.step) for event in events] == [("no-end", 8)]


def test_where_most_completions_had_no_end_from_the_first_it_is_no_news() -> None:
    monitor = CollapseMonitor()
    events: list[Event] = []
    for step in range(12):
        events += monitor.observe(step, healthy(step, 8), ended=[i < (3 if step < 6 else 0) for i in range(8)])
    assert events == [], "0.62, then 1: seen in a GRPO run whose completions had 128 tokens at most"


def test_a_sampler_with_other_weights_is_told() -> None:
    monitor = CollapseMonitor()
    events: list[Event] = []
    for step in range(8):
        samples = healthy(step)
        own = [[-2.0] * len(ids) for ids in samples]
        theirs = [[-2.0 if step < 4 else -2.5] * len(ids) for ids in samples]
        events += monitor.observe(step, samples, own, sampler_logprobs=theirs)
    assert [(event.name, event.step) for event in events] == [("mismatch", 6)]
    assert "0.50 nats" in events[0].message


def test_actions_are_carried_out_and_a_failing_one_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("no connection")

    monitor = CollapseMonitor(on_warning=seen.append, on_verdict=("log", "alert", "stop", broken, seen.append))
    with caplog.at_level(logging.WARNING, "collapselab"):
        collapse(monitor, range(39), begin=40)
        assert not monitor.should_stop
        collapse(monitor, range(39, 80), begin=40)
    assert monitor.should_stop
    assert [event.name for event in seen] == ["early-warning", "collapse"]
    assert "no connection" in caplog.text
    assert "verdict: collapse" in caplog.text


def test_the_run_directory_can_be_loaded_and_tells_what_happened(tmp_path: Path) -> None:
    monitor = CollapseMonitor(tmp_path / "run", name="my-model")
    events = collapse(monitor, range(0, 160, 2), begin=80)
    monitor.finish("collapse")
    runs = load_runs(tmp_path / "run")
    row = runs.runs.iloc[0]
    assert (row["model"], row["fate"], row["ended_by"], row["status"]) == (
        "my-model", "total-collapse", "collapse", "finished",
    )  # fmt: skip
    assert row["onset_step"] == events[-1].step
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["warned_step"] == events[0].step
    assert summary["warning_lead"] == (events[-1].step - events[0].step) / events[-1].step
    assert f"early warning at step {events[0].step}, " in events[-1].message
    assert len(runs.steps) == 80
    assert len(runs.samples) == 320


def test_a_resumed_monitor_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = collapse(CollapseMonitor(tmp_path / "whole"), range(80), begin=40)
    first = CollapseMonitor(tmp_path / "parts")
    before = collapse(first, range(45), begin=40)
    first.finish()  # as if killed: what it wrote is all that the second knows
    after = collapse(CollapseMonitor(tmp_path / "parts"), range(42, 80), begin=40)
    assert before + after == whole
    names = ("degenerate_share", "degenerate", "seq_rep_4", "warning")
    parts, one = (load_runs(tmp_path / name).steps[["step", *names]] for name in ("parts", "whole"))
    assert parts.equals(one)


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an action is one of"):
        CollapseMonitor(on_verdict="sotp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="at least 1 sample"):
        CollapseMonitor(max_samples=0)
    monitor = CollapseMonitor()
    monitor.observe(5, healthy(5))
    with pytest.raises(InputError, match="step 5 follows step 5"):
        monitor.observe(5, healthy(5))
    with pytest.raises(InputError, match="groups has 1 items for 4"):
        monitor.observe(6, healthy(6), groups=["p"])
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        CollapseMonitor(tmp_path).observe(0, healthy(0))


def test_one_completion_and_short_ones_are_taken_too() -> None:
    monitor = CollapseMonitor()
    assert monitor.observe(0, random_ids(0)) == []
    assert monitor.observe(1, [(1, 2, 3)]) == []
    assert monitor.state.degenerate_share == 0.0, "the short sample is not judged"
