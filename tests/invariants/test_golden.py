"""The golden trajectories are still what the loop yields."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from golden import CASES, kept, trajectory

TOLERANCE = 2e-6  # the last digits of float32 differ between processors


def differences(expected: list[dict[str, object]], found: list[dict[str, object]]) -> list[str]:
    """One line for each value that is not what it was."""
    lines = [] if len(expected) == len(found) else [f"{len(expected)} records before, {len(found)} now"]
    for step, (old, new) in enumerate(zip(expected, found, strict=False)):
        for name in {**old, **new}:
            if name not in old or name not in new:
                lines.append(f"step {step}: {name} is {'new' if name in new else 'gone'}")
            elif not equal(old[name], new[name]):
                lines.append(f"step {step}: {name} was {old[name]!r:.120}, is {new[name]!r:.120}")
    return lines


def equal(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(old) is type(new) and old == new


@pytest.mark.parametrize("name", CASES)
def test_the_golden_trajectory(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "native" in name:
        request.getfixturevalue("native")
    lines = differences(kept(name), trajectory(name, tmp_path))
    assert not lines, "\n".join(
        [
            f"The records of {name} have changed:",
            *lines[:20],
            *([f"… and {len(lines) - 20} more"] if len(lines) > 20 else []),
            "",
            "Decide which it is:",
            "- The change was not meant to alter numbers: it does. The first step and name above say where to look.",
            "- It adds a name to the records, or is meant to alter numbers: say so in CHANGELOG.md, write the file",
            "  anew with `python tests/invariants/golden.py`, and ask which results/ no longer hold.",
        ]
    )


def test_a_difference_is_found() -> None:
    old: list[dict[str, object]] = [{"loss": 1.0, "samples": [[1, 2]], "ended_by": None}]
    assert differences(old, [{"loss": 1.0 + 1e-7, "samples": [[1, 2]], "ended_by": None}]) == []
    assert differences(old, [{"loss": 1.00001, "samples": [[1, 2]], "ended_by": None}]) != []
    assert differences(old, [{"loss": 1.0, "samples": [[1, 3]], "ended_by": None}]) != []
    assert differences(old, [{"loss": 1.0, "samples": [[1, 2]], "ended_by": "budget"}]) != []
    assert differences(old, [{"loss": 1.0, "samples": [[1, 2]]}]) == ["step 0: ended_by is gone"]
    assert differences(old, []) == ["1 records before, 0 now"]
