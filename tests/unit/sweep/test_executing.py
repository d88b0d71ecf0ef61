"""Which executor the options choose: shards, what runs need, GPUs, and options without a meaning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from collapselab.cli import executing
from collapselab.cli.executing import EXECUTORS
from collapselab.cli.sweeping import Options
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.rundir.machine import Gpu, gpus
from collapselab.sweep.executors import local
from collapselab.sweep.executors.interface import Job
from collapselab.sweep.executors.local import LocalExecutor
from collapselab.sweep.executors.slurm import sbatch_options
from collapselab.sweep.grid import Sweep, expand, sharded
from collapselab.sweep.resources import Needs, Share, needs, peak_memory
from collapselab.sweep.schedule import Task, place

NANO = override(RunConfig(), {"model": "builtin:nano", "stop.max_steps": 9})
CUDA = override(RunConfig(), {"model": "gpt2", "device": "cuda"})


def tasks_of(config: RunConfig, out: Path, num_runs: int = 6) -> list[Task]:
    return place(expand(Sweep(config, grid={"seed": list(range(num_runs))})), out)


def test_shards_are_disjoint_and_complete() -> None:
    runs = expand(Sweep(NANO, grid={"seed": list(range(10))}))
    parts = [[run.name for run in sharded(runs, f"{i}/3")] for i in (1, 2, 3)]
    assert parts[0] == ["seed-0", "seed-3", "seed-6", "seed-9"]
    assert sorted(name for part in parts for name in part) == sorted(run.name for run in runs)
    assert sharded(runs, None) == list(runs)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/2/3", ""])
def test_a_wrong_shard_is_refused(shard: str) -> None:
    with pytest.raises(InputError, match="--shard must be i/n with i from 1 to n"):
        sharded(expand(Sweep(NANO, grid={"seed": [0, 1, 2, 3]})), shard)
    with pytest.raises(InputError, match="the sweep has only 2 runs"):
        sharded(expand(Sweep(NANO, grid={"seed": [0, 1]})), "1/3")


def test_what_runs_need_on_a_cluster() -> None:
    assert needs([NANO], minutes=60) == Needs(1, 0.0, 3, 60)
    # 124,439,808 parameters: 1.5 × (1.85 + 1) + 1 GiB.
    assert needs([NANO, CUDA], minutes=60) == Needs(4, 1.0, 6, 60)
    assert needs([CUDA], num_cpus=2, num_gpus=0.25, memory_gib=9.5, minutes=5) == Needs(2, 0.25, 9.5, 5)
    unknown = override(RunConfig(), {"model": "somebody/something", "threads": 3})
    assert needs([unknown], minutes=60) == Needs(3, 0.0, None, 60)


def test_peak_memory_is_said_before_a_run() -> None:
    # 16 bytes for each of 124,439,808 parameters, and 1 GiB; measured: 3.07 GB (results/performance).
    assert peak_memory("gpt2") == "peak memory about 2.9 GiB"
    assert peak_memory("gpt2", 2) == "peak memory about 1.9 GiB on each of 2 devices"
    for name in ("somebody/something", "~nobody-of-that-name/model", "x" * 5000, "a\0b"):
        assert peak_memory(name) == "peak memory unknown"


def test_a_cluster_runs_all_at_once_unless_fewer_are_asked_for(tmp_path: Path) -> None:
    for name in ("slurm", "ray"):
        assert EXECUTORS[name](Options("x", executor=name), tasks_of(NANO, tmp_path)).share == Share(6, 1)  # type: ignore[arg-type]
        few = Options("x", executor=name, workers=2, cpus_per_run=3)  # type: ignore[arg-type]
        assert EXECUTORS[name](few, tasks_of(NANO, tmp_path)).share == Share(2, 3)


@pytest.mark.parametrize(
    ("executor", "options", "message"),
    [
        ("local", {"slurm": "qos=low"}, "--slurm has no meaning for --executor local"),
        ("local", {"gpus_per_run": 1.0}, "--gpus-per-run has no meaning for --executor local"),
        ("local", {"runs_per_gpu": 2}, "--runs-per-gpu 2: no run has --device cuda"),
        ("slurm", {"address": "auto"}, "--address has no meaning for --executor slurm"),
        ("slurm", {"minutes": 1}, "--minutes must be at least 2, received 1"),
        ("slurm", {"cpus_per_run": 0}, "--cpus-per-run must be positive, received 0"),
        ("slurm", {"slurm": "=gpu"}, "--slurm takes NAME=VALUE or NAME, received '=gpu'"),
        ("ray", {"runs_per_gpu": 2}, "--runs-per-gpu has no meaning for --executor ray"),
    ],
)
def test_options_without_a_meaning_are_refused(
    executor: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        EXECUTORS[executor](Options("x", **options), tasks_of(NANO, tmp_path))
    assert message in refused.value.message


def test_options_of_sbatch() -> None:
    words = "partition=gpu --account=lab exclusive comment='two words'"
    read = {"partition": "gpu", "account": "lab", "exclusive": True, "comment": "two words"}
    assert sbatch_options(words) == read


SMI = "0, GPU-aa, 40960\n1, GPU-bb, 10240\n"


@pytest.mark.parametrize(
    ("allowed", "found"), [(None, ["0", "1"]), ("1", ["1"]), ("GPU-bb,0", ["GPU-bb", "0"]), ("", []), ("7", [])]
)
def test_the_gpus_of_this_machine(
    allowed: str | None, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{SMI}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert [gpu.name for gpu in gpus()] == found
    assert all(gpu.free_gib == (40.0 if gpu.name == "0" else 10.0) for gpu in gpus())
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpus() == []


def test_runs_share_gpus_and_their_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "gpus", lambda: [Gpu("0", 40.0), Gpu("1", 10.0)])
    chosen = EXECUTORS["local"](Options("x", runs_per_gpu=3), tasks_of(CUDA, tmp_path, 8))
    assert chosen.share.num_workers == 6
    assert chosen.said == "at least 2.9 GiB of GPU memory per run; 3 per GPU, of which the fullest has 10.0 GiB free"
    executor = chosen.make(chosen.share)
    assert isinstance(executor, LocalExecutor) and executor.gpus == ("0", "1")
    with pytest.raises(InputError, match=r"4 runs need 11\.4 GiB of a GPU's memory at least, 10\.0 GiB are free"):
        EXECUTORS["local"](Options("x", runs_per_gpu=4), tasks_of(CUDA, tmp_path, 8))
    monkeypatch.setattr(executing, "gpus", lambda: [])
    with pytest.raises(InputError, match="nvidia-smi lists no GPU"):
        EXECUTORS["local"](Options("x", runs_per_gpu=4), tasks_of(CUDA, tmp_path))


def test_each_process_gets_the_gpu_with_the_fewest_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    class Process:
        """A process that runs until its exit code is set."""

        exitcode: int | None = None

        def __init__(self, target: object, args: tuple[Job, int, str]) -> None:
            given.append(args[2])

        def start(self) -> None: ...

    context = type("Context", (), {"Process": Process, "set_forkserver_preload": staticmethod(lambda names: None)})
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda method: context)
    executor = LocalExecutor(4, 1, ("0", "1"))
    job = Job(NANO, tmp_path, tmp_path / "log", None, {})
    attempts: list[Any] = [executor.start(job) for _ in range(4)]
    assert given == ["0", "1", "0", "1"]
    attempts[1].process.exitcode = 0
    executor.start(job)
    assert given[-1] == "1"
