"""The costs of metrics: every group is timed, and the default share is the sum of what the defaults compute."""

from __future__ import annotations

import json

import pytest

from benchmarks.command import parse
from benchmarks.measure import spread
from benchmarks.metrics import GroupCost, MetricCosts, metric_costs
from benchmarks.workload import Workload
from collapselab.errors import InputError
from collapselab.metrics import NEEDS


def test_the_default_share_by_hand() -> None:
    groups = {"sample": GroupCost(spread([0.1, 0.2, 0.3]), 2.0), "contexts": GroupCost(spread([9.0]), 0.0)}
    assert MetricCosts("m", "exact", spread([4.0]), groups).default_share == pytest.approx(0.4 / 4.0)


def test_every_group_is_timed() -> None:
    workload = Workload("gpt2-0.5m-shape", threads=1, max_new_tokens=20, window_tokens=20, num_windows=4)
    costs = metric_costs(workload, "exact", n=2)
    assert costs.groups.keys() == NEEDS.keys()
    assert all(cost.seconds.least > 0 and len(cost.seconds.values) == 2 for cost in costs.groups.values())
    assert {name for name, cost in costs.groups.items() if not cost.per_step} == {"contexts", "first model"}
    assert costs.groups["writing"].per_step == 20
    assert len(costs.step_s.values) == 2


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"sample": GroupCost(spread([0.1]), 1.0)}
    monkeypatch.setattr(
        "benchmarks.metrics.metric_costs",
        lambda workload, name, n: MetricCosts(workload.model, name, spread([2.0]), groups),
    )
    parse(["metrics", "--model", "builtin:nano", "--variants", "exact,authors"])()
    shown = capsys.readouterr().out
    assert "builtin:nano, exact" in shown
    assert "all default metrics: 5.00 % of a step of 2 s" in shown
    parse(["metrics", "--variants", "fast", "--json"])()
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["numerics"], found["default_share"]) == ("fast", 0.05)
    with pytest.raises(InputError, match="needs exact or fast"):
        parse(["metrics", "--variants", "authors"])()
