"""Sweeps on a Ray cluster of three nodes, one of which is killed: the records are those of local runs."""

from __future__ import annotations

import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from sweep_runs import assert_equal_records, begins, documented, ended, held, hooked, runs_in, started, wait_for

TIMEOUT_S = 400.0  # each run imports torch anew
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
(SWEEP,) = documented("--address auto")


def free_ports() -> dict[str, int]:
    """Ports for a node's agents, which it would otherwise wait for 15 s only: too short on a busy machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return dict(zip(PORTS, ports, strict=True))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """Three nodes with a core each; tests that need them are skipped where Ray is missing."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is missing (collapselab[ray])")
    for name, value in hooked(tmp_path).items():  # what the nodes' processes get
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's 15 starves them on a busy machine
    first = {"num_cpus": 1, "include_dashboard": False, **free_ports()}
    cluster = utils.Cluster(initialize_head=True, head_node_args=first)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **free_ports())
        yield cluster
    finally:
        cluster.shutdown()


# 93 s of processor time, most of it imports of torch in each task's process.
@pytest.mark.slow
def test_twelve_runs_on_three_nodes_one_of_them_killed_have_the_records_of_local_ones(
    cluster: Any, twelve_locally: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "twelve-ray"
    names = [f"lr-0.0001-seed-{seed}" for seed in range(3)]  # one on each node
    holds = [tmp_path / f"hold-{name}" for name in names]
    for hold in holds:
        hold.touch()
    process = started(SWEEP, tmp_path, RAY_ADDRESS=cluster.address)
    wait_for(lambda: all(held(out / name) for name in names), process, TIMEOUT_S)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    for hold in holds:
        hold.unlink()
    stderr = ended(process, tmp_path, TIMEOUT_S)
    assert process.returncode == 0, stderr
    assert [path.name for path in runs_in(out)] == [path.name for path in runs_in(twelve_locally)]
    for path in runs_in(twelve_locally):
        assert_equal_records(out / path.name, path)
    failed = [line.partition(":")[0] for line in stderr.splitlines() if ": failed" in line]
    assert len(failed) == 1 and failed[0] in names, "the run of the killed node, and no other"
    assert all(len(begins(path)) == (2 if path.name in failed else 1) for path in runs_in(out)), stderr
