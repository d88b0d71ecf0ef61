"""Why a run stops."""

from __future__ import annotations

import pytest

from collapselab.collapse.course import CollapseState
from collapselab.config.schema import Stop
from collapselab.loop import stop_reason

TOTAL = {"total_collapse_step": 9, "onset_step": 5, "degenerate_share": 1.0}


@pytest.mark.parametrize(
    ("state", "rules", "reason"),
    [
        ({}, {}, None),
        ({}, {"max_steps": 9}, "budget"),
        ({}, {"max_steps": 10}, None),
        (TOTAL, {}, "collapse"),
        (TOTAL, {"on_collapse": False}, None),
        (TOTAL, {"max_steps": 9}, "collapse"),
        (TOTAL | {"total_collapse_step": 7}, {"after_collapse": 2}, "collapse"),
        (TOTAL | {"total_collapse_step": 7}, {"after_collapse": 3}, None),
        (TOTAL | {"total_collapse_step": 7, "onset_step": None}, {}, None),
        ({"diverged_step": 8}, {}, "divergence"),
        ({"diverged_step": 8}, {"on_divergence": False}, None),
        ({"diverged_step": 8, "degenerate_share": 0.5}, {}, "divergence"),
        ({"diverged_step": 8}, {"max_steps": 9}, "divergence"),
        (TOTAL | {"diverged_step": 8}, {}, "divergence"),
        (TOTAL | {"diverged_step": 8}, {"on_divergence": False}, "collapse"),
        ({"degraded_step": 1, "severe_step": 2, "lost_step": 3}, {}, None),
    ],
)
def test_stop_reason(state: dict[str, object], rules: dict[str, object], reason: str | None) -> None:
    seen = CollapseState(vocab_size=100, step=9, **state)  # pyright: ignore[reportArgumentType]
    assert stop_reason(seen, Stop.model_validate(rules)) == reason
