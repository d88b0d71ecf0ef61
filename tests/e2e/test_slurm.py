"""Sweeps on a real Slurm of this one machine: what is requeued or killed ends with the records of local runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from collapselab.rundir.layout import read_json
from sweep_runs import (
    ROOT,
    assert_equal_records,
    begins,
    call,
    documented,
    ended,
    held,
    runs_in,
    started,
    status,
    wait_for,
)

TIMEOUT_S = 400.0  # from one step to the next: each job imports torch anew, a minute on a busy machine
SCRIPT = ROOT / "tests" / "slurm" / "cluster.sh"
DRY, SWEEP, *_ = documented("--executor slurm")


@pytest.fixture(scope="module")
def slurm() -> Generator[str]:
    """The path of the configuration of a running Slurm; tests that need it are skipped where it cannot be."""
    pytest.importorskip("submitit", reason="submitit is missing (collapselab[slurm])")
    if missing := [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]:
        pytest.skip(f"no Slurm here: {', '.join(missing)} missing (Debian's packages slurm-wlm and munge)")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root")
    folder = tempfile.mkdtemp(prefix="collapselab-slurm-", dir="/run")  # munge wants parents that only root writes
    subprocess.run(["bash", SCRIPT, "start", folder], check=True, timeout=TIMEOUT_S)
    yield f"{folder}/slurm.conf"
    subprocess.run(["bash", SCRIPT, "stop", folder], check=True, timeout=TIMEOUT_S)
    shutil.rmtree(folder)


def slurms(configuration: str, *command: str) -> str:
    """What one of Slurm's commands prints."""
    environment = {**os.environ, "SLURM_CONF": configuration}
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout


def test_twelve_runs_requeued_and_killed_have_the_records_of_local_ones(
    slurm: str, twelve_locally: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "twelve"
    requeued, killed = out / "lr-0.0001-seed-0", out / "lr-0.0001-seed-1"  # the first two: both run at once
    holds = [tmp_path / f"hold-{path.name}" for path in (requeued, killed)]
    for hold in holds:
        hold.touch()
    process = started(SWEEP, tmp_path, SLURM_CONF=slurm)
    wait_for(lambda: held(requeued) and held(killed), process, TIMEOUT_S)
    # As Slurm does before the wall time; scancel itself repeats its request, since the job goes back to the queue.
    jobs = slurms(slurm, "squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i").split()
    command = ("scancel", "--signal=USR1", *(name for name in jobs if name.endswith("_0")))
    with subprocess.Popen(command, env={**os.environ, "SLURM_CONF": slurm}, stderr=subprocess.DEVNULL) as signalled:
        wait_for(holds[0].with_name(f"{holds[0].name}.signalled").exists, process, TIMEOUT_S)
        signalled.kill()
    os.kill(read_json(killed / "status.json")["pid"], signal.SIGKILL)
    for hold in holds:
        hold.unlink()
    stderr = ended(process, tmp_path, TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert [path.name for path in runs_in(out)] == [path.name for path in runs_in(twelve_locally)]
    for path in runs_in(twelve_locally):
        assert_equal_records(out / path.name, path)
    assert begins(requeued) == [0, 6]
    assert begins(killed) in ([0, 4], [0, 5]), "from the checkpoint of the last step, or the one before"
    failed = [line.partition(":")[0] for line in stderr.splitlines() if ": failed at step" in line]
    assert failed == [killed.name], "what its own job queues again is no failure"
    scripts = sorted((out / "logs" / "slurm").glob("*_submission.sh"), key=lambda path: path.stat().st_mtime)
    assert ["--array=0-11%12" in script.read_text() for script in scripts] == [True, False], "one array, one retry"
    assert (out / "logs" / f"{killed.name}.txt").exists()


def test_an_interrupted_sweep_cancels_what_waits_and_checkpoints_what_runs(slurm: str, tmp_path: Path) -> None:
    out, hold = tmp_path / "runs" / "twelve", tmp_path / "hold-lr-0.0001-seed-0"
    hold.touch()
    process = started(SWEEP, tmp_path, SLURM_CONF=slurm)
    wait_for(lambda: held(out / "lr-0.0001-seed-0"), process, TIMEOUT_S)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: "PENDING" not in slurms(slurm, "squeue", "--noheader", "--format=%T"), process, TIMEOUT_S)
    wait_for(hold.with_name(f"{hold.name}.signalled").exists, process, TIMEOUT_S)
    hold.unlink()
    stderr = ended(process, tmp_path, TIMEOUT_S)
    assert process.returncode == 75, stderr
    assert "Traceback" not in stderr and ": failed" not in stderr
    states = [status(path) for path in runs_in(out)]
    assert states[0] == "interrupted" and set(states) <= {"interrupted", "finished"}
    assert slurms(slurm, "squeue", "--noheader", "--states=PENDING,RUNNING") == ""


def test_a_refused_job_is_told_in_slurms_words(
    slurm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    code, _, stderr = call(capsys, *SWEEP, "--slurm", "partition=absent")
    assert code == 1
    assert "invalid partition specified: absent" in stderr and "Traceback" not in stderr


def test_a_dry_run_shows_the_job_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no Slurm, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    code, stdout, _ = call(capsys, *DRY, "--slurm", "partition=gpu exclusive", "--gpus-per-run", "1")
    assert code == 0
    lines = ("partition=gpu", "exclusive", "signal=USR1@120", "requeue", "mem=3072M", "array=0-11%12", "time=30")
    for line in (*lines, "cpus-per-task=1", "gpus-per-node=1"):
        assert f"#SBATCH --{line}\n" in stdout, stdout
    assert not (tmp_path / "runs" / "twelve" / "lr-0.0001-seed-0").exists()
