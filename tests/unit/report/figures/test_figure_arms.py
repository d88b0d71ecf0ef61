"""The losses of arms: which runs stand beside each other."""

from __future__ import annotations

from collapselab.report.figures import arms
from collapselab.rundir.frames import Runs


def test_arms_stand_beside_each_other_at_equal_model_and_rate(odd: Runs) -> None:
    plan = arms.select(odd)
    assert plan is not None
    assert list(plan.curves) == [
        "own text, temperature 0.5",
        "own text, temperature 0.8",
        "real text, temperature 0.8",
    ]
    assert plan.table["model"].nunique() == plan.table["lr"].nunique() == 1
