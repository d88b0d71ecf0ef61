"""Runs that another machine has, on a file system whose locks it does not show, are waited for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_sweep_local import Scripted, states, tasks_for

from collapselab.rundir import lease as module
from collapselab.rundir.lease import Lease
from collapselab.sweep.schedule import carry_out


def test_a_run_of_another_machine_is_waited_for_until_that_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.3)
    (task,) = tasks = tasks_for(tmp_path, 1)
    task.path.mkdir(parents=True)
    owner = Lease.take(task.path)
    monkeypatch.setattr(module, "boot_id", lambda: "another machine")
    executor, waited = Scripted({"seed-0": [2, 75]}), list[float]()

    def tick() -> None:
        if task.state == "elsewhere":
            waited.append(time.monotonic())
            assert task.message is not None and task.message.startswith("process ")

    carry_out(tasks, executor, retries=0, on_tick=tick)
    assert executor.started == ["seed-0", "seed-0"], "the first process found its owner alive"
    assert states(tasks) == [("interrupted", 1)], "only the attempt that had the directory counts"
    assert waited[-1] - waited[0] > 0.2
    assert owner.number == 1


def test_a_killed_attempt_is_a_failure_although_its_lease_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = tasks = tasks_for(tmp_path, 1)
    task.path.mkdir(parents=True)
    Lease.take(task.path)
    monkeypatch.setattr(module, "boot_id", lambda: "the machine of the sweep")
    executor = Scripted({"seed-0": [-9, -9]})
    carry_out(tasks, executor, retries=1)
    assert executor.started == ["seed-0", "seed-0"], "tried again at once: the new process outwaits the lease"
    assert states(tasks) == [("failed", 2)]
    assert task.message is not None and task.message.startswith("killed by SIGKILL")
