"""The cost of the monitor: shares by hand, and a measurement at small scale."""

from __future__ import annotations

import json

import pytest

from benchmarks import monitor
from benchmarks.command import parse
from benchmarks.measure import spread
from benchmarks.monitor import MonitorCosts, monitor_costs
from benchmarks.workload import Workload


def test_the_shares_by_hand() -> None:
    costs = MonitorCosts("m", spread([1.0, 2.0, 3.0]), spread([0.01]), spread([4.0]), spread([1.0]))
    assert costs.observe_share == pytest.approx(0.005)
    assert costs.probe_share == pytest.approx(4 / 100 / 2)


def test_pairs_of_steps_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "MIN_STEP_S", 0.01)
    costs = monitor_costs(Workload("gpt2-0.5m-shape", threads=1, max_new_tokens=120), n=2)
    times = (costs.step_s, costs.observe_s, costs.probe_s, costs.ratio)
    assert [len(found.values) for found in times] == [2, 2, 2, 2]
    assert all(found.least > 0 for found in times)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = MonitorCosts("builtin:nano", spread([2.0]), spread([0.01]), spread([4.0]), spread([1.0]))
    monkeypatch.setattr(monitor, "monitor_costs", lambda *_: made)
    parse(["monitor", "--model", "builtin:nano"])()
    assert "judging its completions: 10 ms, 0.50 % of the step" in capsys.readouterr().out
    parse(["monitor", "--json"])()
    assert json.loads(capsys.readouterr().out)["observe_share"] == 0.005
