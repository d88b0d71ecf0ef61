"""Sweeps on a real Slurm of this one machine: what is requeued or killed ends with the records of local runs."""

from __future__ import annotations

import json
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
    TWELVE,
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

TIMEOUT_S = 400.0  # each job imports torch anew
SCRIPT = Path(__file__).parents[1] / "slurm" / "cluster.sh"
ON_SLURM = ("--executor", "slurm", "--minutes", "5", "--memory-gib", "1")


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


def scancel(configuration: str, *arguments: str) -> None:
    environment = {**os.environ, "SLURM_CONF": configuration}
    subprocess.run(["scancel", f"--user={os.getuid()}", *arguments], check=True, env=environment)


def is_going(path: Path) -> bool:
    return status(path) == "running" and 2 < count(path) < 9


def test_twelve_runs_requeued_and_killed_have_the_records_of_local_ones(
    slurm: str, twelve_locally: Path, tmp_path: Path, text_file: Path
) -> None:
    file, out = sweep_file(tmp_path / "sweep.toml", text_file, TWELVE), tmp_path / "out"
    process = started(file, out, *ON_SLURM, SLURM_CONF=slurm)
    wait_for(lambda: any(map(is_going, runs_in(out))), process, TIMEOUT_S)
    scancel(slurm, "--state=RUNNING", "--signal=USR1")  # as Slurm does before the wall time
    wait_for(lambda: any(status(path) == "interrupted" for path in runs_in(out)), process, TIMEOUT_S)
    requeued = [path for path in runs_in(out) if status(path) == "interrupted"]
    wait_for(lambda: any(is_going(path) for path in runs_in(out) if path not in requeued), process, TIMEOUT_S)
    killed = next(path for path in runs_in(out) if is_going(path) and path not in requeued)
    os.kill(read_json(killed / "status.json")["pid"], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    runs = {run["name"]: run for run in json.loads(stdout)["runs"]}
    assert len(runs) == 12 and {run["status"] for run in runs.values()} == {"done"}
    for path in twelve_locally.glob("lr-*"):
        assert_equal_records(out / path.name, path)
    assert all(len(begins(path)) == 2 and runs[path.name]["attempts"] == 1 for path in requeued), "queued by their jobs"
    assert runs[killed.name]["attempts"] == 2 and len(begins(killed)) == 2
    scripts = sorted((out / "logs" / "slurm").glob("*_submission.sh"))
    assert len(scripts) == 2 and "--array=0-11%12" in scripts[0].read_text() + scripts[1].read_text()


def test_an_interrupted_sweep_cancels_what_waits_and_checkpoints_what_runs(
    slurm: str, tmp_path: Path, text_file: Path
) -> None:
    file, out = sweep_file(tmp_path / "sweep.toml", text_file, TWELVE), tmp_path / "out"
    process = started(file, out, *ON_SLURM, SLURM_CONF=slurm)
    wait_for(lambda: any(map(is_going, runs_in(out))), process, TIMEOUT_S)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 75, stderr
    assert "Traceback" not in stderr
    states = [run["status"] for run in json.loads(stdout)["runs"]]
    assert set(states) <= {"interrupted", "done"} and "interrupted" in states
    assert all(status(path) in ("interrupted", "finished") for path in runs_in(out))
    queue = subprocess.run(
        ["squeue", "--noheader"], capture_output=True, text=True, check=True, env={**os.environ, "SLURM_CONF": slurm}
    )
    assert [line for line in queue.stdout.splitlines() if " PD " in line] == [], "nothing waits any more"


def test_a_refused_job_is_told_in_slurms_words(
    slurm: str, tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm)
    file = sweep_file(tmp_path / "sweep.toml", text_file, TWELVE)
    command = ("sweep", str(file), "--out", str(tmp_path / "out"), *ON_SLURM, "--slurm", "partition=absent")
    code, _, stderr = call(capsys, *command)
    assert code == 1
    assert "invalid partition specified: absent" in stderr and "Traceback" not in stderr
    code, stdout, _ = call(capsys, *command, "--dry-run")
    assert code == 0
    for line in ("--partition=absent", "--signal=USR1@120", "--requeue", "--mem=1024M", "--array=0-11%12", "--time=5"):
        assert f"#SBATCH {line}\n" in stdout, stdout
