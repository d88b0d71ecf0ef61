"""Two machines and one run directory: an owner that is stopped beyond its lease and woken writes nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config.schema import RunConfig
from collapselab.rundir.layout import RunDir, read_json, read_lines
from collapselab.rundir.run_files import check_run
from machines import Machine, Running, wait_for

NUM_STEPS = 6


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    stop = tiny_config.stop.model_copy(update={"max_steps": NUM_STEPS - 1})
    return tiny_config.model_copy(update={"stop": stop, "checkpoint_every_s": 0.0})


def records(path: Path) -> list[dict[str, object]]:
    lines = [line for file in ("steps.jsonl", "samples.jsonl") for line in read_lines(path / file)]
    return [{name: value for name, value in line.items() if not name.startswith("seconds_")} for line in lines]


@pytest.fixture(scope="module")
def undisturbed() -> list[dict[str, object]]:
    """The records of a run that nothing disturbs, from the first test on."""
    return []


@pytest.mark.parametrize(
    ("stop_at", "is_early", "hours"),
    [
        ("append", True, 1.0),
        ("append", False, -1.0),
        ("checkpoint-rename", True, -1.0),
        ("status-rename", True, 1.0),
        ("summary", False, 1.0),
        ("summary-rename", False, -1.0),
    ],
)
def test_an_owner_stopped_beyond_its_lease_and_woken_changes_nothing(
    stop_at: str,
    is_early: bool,
    hours: float,
    config: RunConfig,
    undisturbed: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    """It stops between its last look and a write; `is_early`: it is woken while the other one runs, else after that."""
    path = tmp_path / "run"
    first = Running(Machine(path, config, "host-a", stop_at=stop_at))
    wait_for(first.is_stopped)
    second = Running(Machine(path, config, "host-b", hours, "append" if is_early else ""))
    if is_early:
        wait_for(second.is_stopped)
        first.wake()
        code, told = first.ended()
        second.wake()
        assert second.ended() == (0, "")
    else:
        assert second.ended() == (0, "")
        first.wake()
        code, told = first.ended()
    assert code == 1 and "was taken over by process" in told and "on host-b" in told, told
    check_run(RunDir(path))
    assert read_json(path / "env.json")["earlier"], "the second resumed the run of the first"
    if not undisturbed:
        assert Running(Machine(tmp_path / "alone", config, "alone")).ended() == (0, "")
        undisturbed += records(tmp_path / "alone")
    assert len(undisturbed) >= 2 * NUM_STEPS
    assert records(path) == undisturbed


@pytest.mark.parametrize("hours", [-1.0, 1.0])
def test_a_living_owner_is_never_superseded_whatever_the_clocks(
    hours: float, config: RunConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    first = Running(Machine(path, config, "host-a", stop_at="wait"))
    wait_for(lambda: (path / "steps.jsonl").exists() and len(read_lines(path / "steps.jsonl")) == 3)
    code, told = Running(Machine(path, config, "host-b", hours)).ended()
    assert (code, "is in use by process" in told, "on host-a" in told) == (2, True, True), told
    Path(f"{path}.go").touch()
    assert first.ended() == (0, "")
    check_run(RunDir(path))
