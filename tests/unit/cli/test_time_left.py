"""The time that is left of a run: against stored records, it comes true."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from collapselab.cli import live
from collapselab.config import presets
from collapselab.config.overrides import override, validate
from collapselab.config.schema import RunConfig
from collapselab.records import Record
from collapselab.rundir.layout import read_json, read_lines
from collapselab.sweep.estimate import expected_collapse_step, expected_last_step, time_left

DEMO = Path(__file__).parents[3] / "results" / "builtin" / "demo"
TO_THE_COLLAPSE: dict[str, object] = {"stop.after_collapse": 0}


def seconds(step: dict[str, Any]) -> float:
    return sum(value or 0.0 for name, value in step.items() if name.startswith("seconds_"))


def lines_shown(config: RunConfig, steps: Sequence[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is printed without a terminal, with a clock that goes as the records say."""
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(live, "LINES_EVERY_S", 0.0)
    stream = io.StringIO()
    with live.Progress(config, Console(file=stream, width=300)) as progress:
        for step in steps:
            clock[0] += seconds(step)
            progress.show(Record(step["step"], step))
    return stream.getvalue().splitlines()


def test_the_expected_end_of_the_demo_comes_true(monkeypatch: pytest.MonkeyPatch) -> None:
    # The demo goes on past total collapse; here it ends there.
    end = read_json(DEMO / "summary.json")["total_collapse_step"]
    steps = read_lines(DEMO / "steps.jsonl")[: end + 1]
    steps[-1]["ended_by"] = "collapse"
    config = override(validate(read_json(DEMO / "config.json")["config"]), TO_THE_COLLAPSE)
    lines = lines_shown(config, steps, monkeypatch)
    assert re.search(r"%  \d s$", lines[0]), "step 0, which evaluates whole texts, says nothing of the pace"
    for share in (0.2, 0.5, 0.8):
        step = round(share * len(steps))
        told = re.search(r"(\d+) s, ([\d.]+) steps/s, about (\d+) s left$", lines[step])
        assert told, lines[step]
        elapsed, rate, expected = map(float, told.groups())
        left = sum(map(seconds, steps[step + 1 :]))
        assert left / 2 <= expected <= left * 2
        assert elapsed == pytest.approx(sum(map(seconds, steps[: step + 1])), abs=0.5)
        assert rate == pytest.approx(step / sum(map(seconds, steps[1 : step + 1])), rel=0.05), "without step 0"
    assert re.search(r"\d+ s, [\d.]+ steps/s$", lines[-1]), "at the end nothing is left"


def test_a_collapse_is_expected_where_the_model_was_measured() -> None:
    demo = override(presets.demo(), TO_THE_COLLAPSE)
    assert expected_collapse_step(demo) == 95
    assert expected_collapse_step(override(demo, {"optim.lr": 1e-5, "model": "smollm2-135m", "seed": 3})) == 104
    assert expected_collapse_step(override(demo, {"optim.lr": 1e-5, "model": "builtin:mini"})) == 506
    for changes in (
        {"model": "gpt2"},
        {"optim.name": "sgd"},
        {"sampling.temperature": 1.0},
        {"generate.max_new_tokens": 100},
        {"train.source": "real", "train.real_text": "moby-dick"},
    ):
        assert expected_collapse_step(override(demo, changes)) is None, changes


def test_the_end_of_a_run_is_expected_from_all_that_is_known() -> None:
    demo = override(presets.demo(), TO_THE_COLLAPSE)
    assert time_left(demo, 16, 0.5) == (39.5, 492.0), "95 by its model and rate"
    assert time_left(override(demo, {"stop.after_collapse": 20}), 16, 0.5) == (49.5, 492.0)
    assert expected_last_step(demo, 96) == 120, "a quarter more, since it has outlived the others"
    # Most samples were degenerate from step 76 on, so onset was about step 70.
    assert expected_last_step(demo, 80, 76) == 95
    assert expected_last_step(demo, 96, 76) == round(1.66 * 70)
    assert expected_last_step(demo, 200, 76) == 250
    assert expected_last_step(override(demo, {"stop.after_collapse": 20}), 103, 76, 99) == 119
    assert expected_last_step(override(demo, {"stop.max_steps": 50}), 16) == 50
    assert expected_last_step(override(demo, {"stop.on_collapse": False}), 16) == 1000


def test_nothing_is_expected_of_a_model_that_was_not_measured_until_it_begins_to_collapse() -> None:
    config = override(presets.demo(), {"model": "gpt2", **TO_THE_COLLAPSE})
    assert time_left(config, 16, 0.5) == (None, 492.0)
    assert expected_last_step(config, 80, 76) == 116


def test_without_an_expectation_the_line_says_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    config = override(presets.demo(), {"model": "gpt2", "stop.max_steps": 100})
    steps: list[dict[str, Any]] = [{"step": i, "ended_by": None, "seconds_update": 1.0} for i in range(3)]
    assert lines_shown(config, steps, monkeypatch)[-1].endswith("3 s, 1 steps/s, at most 2 min left")
