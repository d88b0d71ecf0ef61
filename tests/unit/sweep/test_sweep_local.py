"""Scheduling without processes: retries, skipping, waiting, stopping; shares, estimates, and output."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.sweep import schedule
from collapselab.sweep.executors.interface import Job
from collapselab.sweep.grid import Sweep, expand
from collapselab.sweep.resources import Share
from collapselab.sweep.schedule import Task, carry_out, place
from fake_runs import write_run

NANO = override(RunConfig(), {"model": "builtin:nano", "stop.max_steps": 9})
ONE_EACH = Share(1, 1)
SILENT = 3  # an exit code without an error in the log


def summary(ended_by: str, num_steps: int = 3) -> dict[str, object]:
    """What is known of a finished run of half-second steps."""
    result = {"last_step": num_steps - 1, "num_steps": num_steps, "degenerate_share": 1.0, "onset_step": 1}
    losses = [{"text": "austen", "first": 3.0, "last": 4.0}]
    seconds = {"generate": 0.3 * num_steps, "update": 0.2 * num_steps}
    totals = {"ended_by": ended_by, "fate": "onset", "total_collapse_step": None}
    return {**result, **totals, "losses": losses, "seconds": seconds}


def tasks_for(out: Path, num_runs: int = 3) -> list[Task]:
    return place(expand(Sweep(NANO, grid={"seed": list(range(num_runs))})), out)


@dataclass
class ScriptedAttempt:
    """An attempt that runs for two polls, or until it is stopped; `num_queued` polls long it waits for a node."""

    code: int | None
    on_end: Callable[[], None]
    is_stubborn: bool
    num_queued: int = 0
    polls: int = 0
    told: list[str] = field(default_factory=list)

    def exit_code(self) -> int | None:
        self.polls += 1
        if self.told and not self.is_stubborn:
            return 75
        if self.code is not None and self.polls > 2:
            self.on_end()
            return self.code
        return None

    def is_queued(self) -> bool:
        return self.polls <= self.num_queued

    def interrupt(self) -> None:
        self.told.append("interrupt")

    def kill(self) -> None:
        self.told.append("kill")


@dataclass
class Scripted:
    """An executor whose attempts end as given: exit codes by run, in order; None: it runs until it is stopped."""

    codes: dict[str, list[int | None]]
    num_workers: int = 1
    is_stubborn: bool = False
    num_queued: int = 0
    started: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    attempts: list[ScriptedAttempt] = field(default_factory=list)
    most_at_once: int = 0

    def start(self, job: Job) -> ScriptedAttempt:
        code = self.codes[job.path.name].pop(0)

        def end() -> None:
            if code == 0:
                write_run(job.path, job.config, summary=summary("budget"))
            elif code != SILENT:
                with job.log.open("a") as log:
                    log.write(f"noise\nhint: none\nerror: attempt {self.started.count(job.path.name)} broke\n")

        self.started.append(job.path.name)
        self.jobs.append(job)
        self.attempts.append(ScriptedAttempt(code, end, self.is_stubborn, self.num_queued))
        going = [a for a in self.attempts if a.polls <= 2 and not a.told]
        self.most_at_once = max(self.most_at_once, len(going))
        return self.attempts[-1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "POLL_S", 0.001)


def states(tasks: list[Task]) -> list[tuple[str, int]]:
    return [(task.state, task.num_attempts) for task in tasks]


def test_all_runs_are_carried_out_in_order(tmp_path: Path) -> None:
    tasks, executor = tasks_for(tmp_path), Scripted({f"seed-{i}": [0] for i in range(3)})
    assert not carry_out(tasks, executor, data_dir=tmp_path / "texts", asked_for={"sweep": "s"})
    assert executor.started == ["seed-0", "seed-1", "seed-2"]
    assert states(tasks) == [("done", 1)] * 3
    assert executor.most_at_once == 1
    job = executor.jobs[1]
    assert (job.config.seed, job.path, job.data_dir) == (1, tmp_path / "seed-1", tmp_path / "texts")
    assert job.asked_for == {"sweep": "s", "name": "seed-1", "changes": {"seed": 1}}


def test_as_many_at_once_as_there_are_workers(tmp_path: Path) -> None:
    executor = Scripted({f"seed-{i}": [0] for i in range(5)}, num_workers=2)
    carry_out(tasks_for(tmp_path, 5), executor)
    assert executor.most_at_once == 2


@pytest.mark.parametrize(("retries", "num_attempts"), [(0, 1), (1, 2), (2, 3)])
def test_a_failing_run_is_tried_again_after_the_others_and_reported(
    tmp_path: Path, retries: int, num_attempts: int
) -> None:
    tasks, executor = tasks_for(tmp_path), Scripted({"seed-0": [1, 2, 1], "seed-1": [0], "seed-2": [0]})
    assert not carry_out(tasks, executor, retries=retries)
    assert executor.started == ["seed-0", "seed-1", "seed-2", *["seed-0"] * retries]
    assert states(tasks) == [("failed", num_attempts), ("done", 1), ("done", 1)]
    assert tasks[0].message == f"attempt {num_attempts} broke"


def test_a_killed_process_is_a_failure_and_its_run_goes_on(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []
    tasks, executor = tasks_for(tmp_path, 1), Scripted({"seed-0": [-9, -15, 0]})
    carry_out(tasks, executor, retries=2, on_tick=lambda: seen.append((tasks[0].state, tasks[0].message)))
    assert (states(tasks), tasks[0].message) == ([("done", 3)], None)
    assert list(dict.fromkeys(seen)) == [
        ("waiting", None),
        ("running", None),
        ("failed", "killed by SIGKILL (out of memory?)"),
        ("failed", "killed by SIGTERM"),
        ("done", None),
    ], "a failure is seen before the next attempt"


def test_a_run_without_a_node_is_queued_and_does_not_run(tmp_path: Path) -> None:
    seen: list[str] = []
    tasks, executor = tasks_for(tmp_path, 1), Scripted({"seed-0": [0]}, num_queued=1)
    carry_out(tasks, executor, on_tick=lambda: seen.append(tasks[0].state))
    assert list(dict.fromkeys(seen)) == ["waiting", "queued", "running", "done"]


def test_a_failure_without_a_word_is_told_by_its_exit_code(tmp_path: Path) -> None:
    tasks = tasks_for(tmp_path, 1)
    carry_out(tasks, Scripted({"seed-0": [SILENT]}), retries=0)
    assert (tasks[0].state, tasks[0].message) == ("failed", "ended with exit code 3")


def test_a_run_at_its_wall_time_is_left_for_another_day(tmp_path: Path) -> None:
    tasks, executor = tasks_for(tmp_path, 2), Scripted({"seed-0": [75], "seed-1": [0]})
    assert not carry_out(tasks, executor)
    assert states(tasks) == [("interrupted", 1), ("done", 1)]


def test_finished_runs_are_known_by_their_hash_whatever_their_name(tmp_path: Path) -> None:
    config = override(NANO, {"seed": 1, "threads": 3})
    write_run(tmp_path / "an old name", config, summary=summary("budget"))
    write_run(tmp_path / "seed-2", override(NANO, {"seed": 2}), status="interrupted")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "gpt2"}')
    tasks = tasks_for(tmp_path)
    assert [task.path.name for task in tasks] == ["seed-0", "an old name", "seed-2"]
    assert states(tasks) == [("waiting", 0), ("done", 0), ("waiting", 0)]
    executor = Scripted({"seed-0": [0], "seed-2": [75]})
    carry_out(tasks, executor)
    assert executor.started == ["seed-0", "seed-2"]


def test_a_folder_of_another_sweep_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write_run(tmp_path / "seed-1", override(NANO, {"seed": 1, "stop.max_steps": 5}))
    with pytest.raises(InputError, match=r"stop\.max_steps is 5 there, 9 here") as caught:
        tasks_for(tmp_path)
    assert "--out" in (caught.value.hint or "")
    assert "--fresh" not in (caught.value.hint or ""), "a sweep has no such option"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        carry_out(tasks_for(tmp_path / "file"), Scripted({}))


def test_a_run_of_another_process_is_waited_for_and_not_begun(tmp_path: Path) -> None:
    tasks = tasks_for(tmp_path, 2)
    write_run(tasks[0].path, tasks[0].run.config)
    lock = (tasks[0].path / "lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    seen: list[tuple[str, str | None]] = []

    def tick() -> None:
        seen.append((tasks[0].state, tasks[0].message))
        if tasks[1].state == "done" and not lock.closed:  # the other process finishes its run
            shutil.rmtree(tasks[0].path)
            write_run(tasks[0].path, tasks[0].run.config, summary=summary("collapse"))
            lock.close()

    executor = Scripted({"seed-1": [0]})
    carry_out(tasks, executor, on_tick=tick)
    assert ("elsewhere", f"process {os.getpid()} on {socket.gethostname()}") in seen
    assert seen[-1] == ("done", None), "the last look is after the last change"
    assert executor.started == ["seed-1"]
    assert states(tasks) == [("done", 0), ("done", 1)]


def test_losing_a_race_for_a_directory_is_no_failure(tmp_path: Path) -> None:
    (task,) = tasks = tasks_for(tmp_path, 1)
    task.path.mkdir(parents=True)
    lock = (task.path / "lock").open("a")
    executor, holding = Scripted({"seed-0": [2, 2]}), [True]

    def tick() -> None:
        if task.state == "running" and holding[0]:  # taken between our look and the worker's
            fcntl.flock(lock, fcntl.LOCK_EX)
        if task.state == "elsewhere":
            holding[0] = False
            fcntl.flock(lock, fcntl.LOCK_UN)

    carry_out(tasks, executor, retries=0, on_tick=tick)
    assert executor.started == ["seed-0", "seed-0"]
    assert states(tasks) == [("failed", 1)], "only the attempt that had the directory counts"
    lock.close()


def test_one_signal_interrupts_every_run_once_and_starts_no_more(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        tasks = tasks_for(tmp_path / str(number))
        executor = Scripted({"seed-0": [None], "seed-1": [None]}, num_workers=2)
        before = signal.getsignal(number)

        def tick(executor: Scripted = executor, number: int = number) -> None:
            if len(executor.attempts) == 2 and not executor.attempts[0].told:
                os.kill(os.getpid(), number)

        assert carry_out(tasks, executor, on_tick=tick)
        assert [attempt.told for attempt in executor.attempts] == [["interrupt"]] * 2
        assert states(tasks) == [("interrupted", 1), ("interrupted", 1), ("waiting", 0)]
        assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    tasks, executor = tasks_for(tmp_path, 2), Scripted({"seed-0": [None]}, is_stubborn=True)
    assert carry_out(tasks, executor, on_tick=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert executor.attempts[0].told == ["interrupt", "kill"]
    assert states(tasks) == [("interrupted", 1), ("waiting", 0)]


def test_an_error_of_our_own_interrupts_the_runs(tmp_path: Path) -> None:
    executor = Scripted({"seed-0": [None]})

    def tick() -> None:
        if executor.attempts:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        carry_out(tasks_for(tmp_path), executor, on_tick=tick)
    assert executor.attempts[0].told == ["interrupt"]
