"""Sweeps on a Ray cluster of three nodes, one of which is killed: the records are those of local runs."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweep_runs import (
    TWELVE,
    assert_equal_records,
    begins,
    count,
    hooked,
    runs_in,
    started,
    status,
    sweep_file,
    wait_for,
)

TIMEOUT_S = 400.0  # each run imports torch anew


@dataclass
class Nodes:
    """A cluster: its address, and the two nodes beside the first."""

    address: str
    cluster: Any
    further: list[Any]


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Nodes]:
    """Three nodes with a core each; tests that need them are skipped where Ray is missing."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is missing (collapselab[ray])")
    for name, value in hooked(tmp_path).items():  # what the nodes' processes get
        monkeypatch.setenv(name, value)
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    further = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield Nodes(cluster.address, cluster, further)
    cluster.shutdown()


def is_going(path: Path) -> bool:
    return status(path) == "running" and 2 < count(path) < 9


def test_twelve_runs_on_three_nodes_one_of_them_killed_have_the_records_of_local_ones(
    nodes: Nodes, twelve_locally: Path, tmp_path: Path, text_file: Path
) -> None:
    file, out = sweep_file(tmp_path / "sweep.toml", text_file, TWELVE), tmp_path / "out"
    process = started(file, out, "--executor", "ray", "--address", nodes.address, "--memory-gib", "0.5")
    wait_for(lambda: sum(map(is_going, runs_in(out))) >= 2, process, TIMEOUT_S)
    nodes.cluster.remove_node(nodes.further[0], allow_graceful=False)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    runs = {run["name"]: run for run in json.loads(stdout)["runs"]}
    assert len(runs) == 12 and {run["status"] for run in runs.values()} == {"done"}
    for path in twelve_locally.glob("lr-*"):
        assert_equal_records(out / path.name, path)
    again = [name for name, run in runs.items() if run["attempts"] == 2]
    assert len(again) == 1, "the run of the killed node, and no other"
    assert len(begins(out / again[0])) == 2
