"""Sweeps in real processes: killed, interrupted and failing ones end with the records of an undisturbed sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from collapselab.cli import main
from collapselab.rundir.layout import read_json
from sweep_runs import (
    NUM_STEPS,
    TIMEOUT_S,
    assert_equal_records,
    begins,
    call,
    count,
    runs_in,
    started,
    status,
    sweep_file,
    wait_for,
)

EIGHT = "[sweep.grid]\noptim.lr = [1e-4, 2e-4, 3e-4, 4e-4]\nseed = [0, 1]\n"
TWO = "[sweep.zip]\noptim.lr = [1e-4, 1e-4]\nseed = [0, 1]\n"
NAMES = [f"lr-{lr}-seed-{seed}" for lr in ("0.0001", "0.0002", "0.0003", "0.0004") for seed in (0, 1)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """The folder of a sweep of 8 runs that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = sweep_file(folder / "sweep.toml", text_file, EIGHT)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--out", str(folder / "out"), "--workers", "2"])
    assert ended.value.code == 0
    return folder / "out"


def swept(file: Path, out: Path) -> subprocess.Popen[str]:
    return started(["sweep", str(file), "--out", str(out), "--workers", "2", "--json"], out.parent)


def group_is_gone(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_sweep_of_8_runs_killed_in_the_middle_does_nothing_twice_and_loses_nothing(
    undisturbed: Path, tmp_path: Path, text_file: Path
) -> None:
    file, out = sweep_file(tmp_path / "sweep.toml", text_file, EIGHT), tmp_path / "out"
    process = swept(file, out)
    wait_for(lambda: sum(status(path) == "finished" for path in runs_in(out)) >= 3, process)
    wait_for(lambda: any(status(p) == "running" and 2 < count(p) < NUM_STEPS - 3 for p in runs_in(out)), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: group_is_gone(process.pid))
    finished = [path for path in runs_in(out) if status(path) == "finished"]
    cut_off = [path for path in runs_in(out) if count(path) > 0 and path not in finished]
    assert 3 <= len(finished) < 8 and cut_off, "the sweep was killed in its middle"
    summaries = {path: (path / "summary.json").stat().st_mtime_ns for path in finished}

    again = swept(file, out)
    stdout, stderr = again.communicate(timeout=TIMEOUT_S)
    assert again.returncode == 0, stderr
    assert f"8 runs, {len(finished)} finished before" in stderr
    assert [run["name"] for run in json.loads(stdout)["runs"]] == NAMES
    assert [path.name for path in runs_in(out)] == NAMES
    for name in NAMES:
        assert_equal_records(out / name, undisturbed / name)
    assert {path: (path / "summary.json").stat().st_mtime_ns for path in finished} == summaries

    counted = Counter(tuple(line.split()) for line in (tmp_path / "counted").read_text().splitlines())
    assert {name: {int(step) for run, step in counted if run == name} for name in NAMES} == {
        name: set(range(NUM_STEPS)) for name in NAMES
    }
    twice = {(run, int(step)) for (run, step), times in counted.items() if times > 1}
    assert all(begins(path) == [0] for path in finished)
    # What a kill costs: the step whose record was written or on its way when its checkpoint was not.
    assert all(step >= begins(out / run)[1] for run, step in twice), twice
    assert len(twice) <= len(cut_off)
    assert max(counted.values()) <= 2


def test_a_sweep_with_a_killed_worker_interrupted_and_orphaned_goes_on(
    tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sweep_file(tmp_path / "two.toml", text_file, TWO, num_steps := 28)
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    one, two = (out / name for name in NAMES[:2])

    process = swept(file, out)
    wait_for(lambda: count(two) > 2, process)
    os.kill(read_json(two / "status.json")["pid"], signal.SIGKILL)
    at_kill = count(two)
    wait_for(lambda: count(two) > at_kill + 2, process)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 75, stderr
    assert f"{two.name}: failed at step" in stderr and "(killed by SIGKILL (out of memory?))" in stderr
    assert "stopped with 2 of 2 runs not finished" in stderr and "Traceback" not in stderr
    told = [(run["status"], run["attempts"]) for run in json.loads(stdout)["runs"]]
    assert told == [("interrupted", 1), ("interrupted", 2)]
    assert [status(one), status(two)] == ["interrupted"] * 2
    wait_for(lambda: group_is_gone(process.pid))

    at_restart = count(two)
    process = swept(file, out)
    wait_for(lambda: count(two) > at_restart + 2, process)
    process.kill()  # only the sweep, which has no chance to notify its workers
    process.communicate()
    wait_for(lambda: group_is_gone(process.pid))
    assert [status(one), status(two)] == ["interrupted"] * 2, "they wrote a checkpoint by themselves"
    assert count(two) < num_steps

    for folder in (out, undisturbed):
        code, _, stderr = call(capsys, "sweep", str(file), "--workers", "2", "--out", str(folder))
        assert code == 0, stderr
    for path in (one, two):
        assert_equal_records(path, undisturbed / path.name, num_steps)
    assert begins(two)[1] >= at_kill - 1, "from the checkpoint of the killed worker's last step, or the one before"
    assert begins(two)[2] == at_restart, "nothing is repeated after an orderly end"
    assert (len(begins(one)), len(begins(two))) == (3, 4)


def test_a_run_that_always_fails_is_reported_and_the_others_finish(
    undisturbed: Path, tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = "[[sweep.list]]\ngenerate.max_new_tokens = 999\n[[sweep.list]]\noptim.lr = 1e-4\nseed = 1\n"
    file, out = sweep_file(tmp_path / "sweep.toml", text_file, axes), tmp_path / "out"
    code, stdout, stderr = call(capsys, "sweep", str(file), "--out", str(out), "--workers", "2")
    assert code == 1
    assert "1 of 2 runs failed: max_new_tokens-999: in cache mode prompt and sample must fit the context" in stderr
    assert str(out / "logs" / "max_new_tokens-999.txt") in stderr.replace("\n", "")
    assert (out / "logs" / "max_new_tokens-999.txt").read_text().count("error: in cache mode") == 2, "tried twice"
    assert "max_new_tokens-999  failed" in stdout
    assert_equal_records(out / NAMES[1], undisturbed / NAMES[1])


def test_a_finished_sweep_is_shown_again_without_a_process(
    undisturbed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collapselab.sweep.executors.local.LocalExecutor.start", None)
    file = undisturbed.parent / "sweep.toml"
    code, stdout, stderr = call(capsys, "sweep", str(file), "--out", str(undisturbed))
    assert (code, "8 runs, 8 finished before" in stderr) == (0, True)
    assert [line.split()[0] for line in stdout.splitlines()] == ["run", *NAMES]
    code, stdout, _ = call(capsys, "sweep", str(file), "--out", str(undisturbed), "--dry-run")
    assert (code, "8 runs, 8 finished before" in stdout, "time:" in stdout) == (0, True, False)
    assert read_json(undisturbed / NAMES[0] / "user.json")["asked_for"]["changes"] == {"optim.lr": 1e-4, "seed": 0}
    assert read_json(undisturbed / NAMES[0] / "env.json")["threads"] == 1


def test_dry_run_lists_the_runs_and_a_time_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("sweep", "learning-rates", "--model", "builtin:nano", "--data", "austen", "--workers", "2", "--dry-run")
    code, stdout, _ = call(capsys, *command)
    assert code == 0
    assert stdout.count("seed-") == 15
    assert "15 runs, in runs/learning-rates; 2 workers, each with 1 thread" in stdout
    assert "time: at most some" in stdout
    code, stdout, _ = call(capsys, *command, "--json")
    plan = json.loads(stdout)
    assert (code, plan["num_workers"], plan["num_threads"], len(plan["runs"])) == (0, 2, 1, 15)
    assert plan["runs"][0]["changes"] == {"optim.lr": 5e-6, "seed": 0}
    assert plan["at_most_s"] == pytest.approx(sum(run["at_most_s"] for run in plan["runs"]) * 8 / 15)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.toml"], "cannot read the settings file"),
        (["sizes", "--workers", "0"], "--workers must be at least 1"),
        (["sizes", "--retries", "-1"], "--retries must be at least 0"),
        (["sizes", "--optim.lrr", "1"], "unknown option '--optim.lrr'"),
        (["sizes", "--model", "gpt2"], "--model is set for each run by the sweep"),
    ],
)
def test_a_mistake_is_told(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, stdout, stderr = call(capsys, "sweep", *arguments, "--out", str(tmp_path / "out"))
    assert (code, stdout) == (2, "")
    assert message in stderr and "hint:" in stderr
    assert not (tmp_path / "out").exists()
