"""A fault at each file operation of a run, and every file damaged in every way; `table.py` tries all of it."""

from __future__ import annotations

from pathlib import Path

import damaged_files
import pytest
from faults import FAULTS, SCENARIOS, carry_out, compile_shim


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_survives_a_fault_at_every_operation(shim: Path, scenario: str, fault: str) -> None:
    assert carry_out(scenario, fault, shim)["failed"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("state", ["killed", "finished"])
def test_a_damaged_file_is_made_again_or_refused(state: str) -> None:
    assert damaged_files.carry_out(state)["failed"] == {}


def test_a_run_survives_power_cuts(shim: Path) -> None:
    """A selection that fits the fast suite."""
    result = carry_out("new run", "power cut, names lost", shim, "--every", "83")
    assert result["tried"] >= 3
    assert result["failed"] == {}
