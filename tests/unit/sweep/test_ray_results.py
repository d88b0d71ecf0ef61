"""What a node of Ray that does not see the sweep's folder does: a copy of the run directory travels both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config.schema import RunConfig
from collapselab.rundir.layout import read_lines
from collapselab.rundir.lease import Lease
from collapselab.sweep.executors import ray as module
from collapselab.sweep.executors.interface import Job
from collapselab.sweep.executors.ray import MARKER, Result, Stops, Ticket, carry_out_task, pack, unpack
from collapselab.sweep.executors.worker import Outcome


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_listen", lambda stops, name: None)


def execute(job: Job, num_threads: int) -> Outcome:
    """A run that notes how often it was continued, and where."""
    job.path.mkdir(exist_ok=True)
    with (job.path / "steps.jsonl").open("a") as file:
        file.write("{}\n")
    job.log.write_text(f"in {job.path.name}\n")
    return Outcome(75)


def task(tmp_path: Path, token: str, archive: bytes | None = None) -> Result:
    path = tmp_path / "out" / "a"
    job = Job(RunConfig(), path, tmp_path / "out" / "logs" / "a.txt", None, {})
    return carry_out_task(job, Ticket("a", Path.cwd(), None, token, 1, path.exists()), archive)


def test_a_run_travels_to_a_node_that_does_not_see_the_folder_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "execute", execute)
    path, logs = tmp_path / "out" / "a", tmp_path / "out" / "logs"
    logs.mkdir(parents=True)
    (logs / MARKER).write_text("mine")
    first = task(tmp_path, "another's")
    assert (first.exit_code, first.log, path.exists()) == (75, "in run\n", False)
    assert first.archive is not None
    unpack(first.archive, path)
    assert task(tmp_path, "another's") == Result(None), "it asks for what is there"
    second = task(tmp_path, "another's", pack(path))
    assert second.archive is not None
    unpack(second.archive, path)
    assert len(read_lines(path / "steps.jsonl")) == 2, "it continued the first"
    monkeypatch.chdir(tmp_path)
    assert task(Path(), "mine") == Result(75), "paths count from where the sweep was called"
    assert len(read_lines(path / "steps.jsonl")) == 3, "in place"


def test_locks_and_leases_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    Lease.take(path)
    (path / "lock").touch()
    (path / "log.txt").write_text("kept")
    unpack(pack(path), tmp_path / "b")
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["log.txt"]


def test_a_run_that_is_asked_to_stop_says_whether_it_had_begun() -> None:
    stops = Stops()
    assert not stops.ask("a")
    assert stops.is_asked("a") and not stops.is_asked("b")
    assert stops.ask("b") and stops.is_asked("b")
