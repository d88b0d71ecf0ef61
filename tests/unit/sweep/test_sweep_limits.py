"""A sweep file of any size is answered at once, and a machine that cannot start processes is reported clearly."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, RunFailed
from collapselab.sweep import presets
from collapselab.sweep.executors import local
from collapselab.sweep.executors.interface import Job
from collapselab.sweep.executors.local import LocalExecutor
from collapselab.sweep.grid import MAX_RUNS, Sweep, expand

THOUSAND = list(range(1, 1001))


def test_a_product_is_counted_and_not_made() -> None:
    begun = time.monotonic()
    axes = {"seed": THOUSAND, "collapse.window": THOUSAND, "stop.max_steps": THOUSAND}
    with pytest.raises(InputError, match=r"at most 100,000 runs, this one has 1,000,000,000: 1,000 of seed × 1,000 of"):
        Sweep(RunConfig(), grid=axes)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    "parts",
    [
        {"grid": {"seed": range(MAX_RUNS + 1)}},
        {"zipped": {"seed": range(MAX_RUNS + 1)}},
        {"listed": [{"seed": 1}] * (MAX_RUNS + 1)},
        {
            "grid": {"seed": range(1000)},
            "zipped": {"collapse.window": range(11)},
            "listed": [{"stop.max_steps": 1}] * 10,
        },
    ],
)
def test_every_part_counts(parts: dict[str, object]) -> None:
    lists = {
        name: {key: list(values) for key, values in part.items()} if isinstance(part, dict) else part
        for name, part in parts.items()
    }
    with pytest.raises(InputError, match="at most 100,000 runs"):
        Sweep(RunConfig(), **lists)


def test_as_many_as_are_allowed_are_counted_right() -> None:
    sweep = Sweep(RunConfig(), grid={"seed": [0, 1, 2]}, zipped={"optim.lr": [1e-5, 2e-5]}, listed=[{}, {"threads": 1}])
    assert sweep.num_runs == 12
    assert len(expand(Sweep(RunConfig(), grid={"seed": [0, 1, 2]}))) == 3


@pytest.mark.parametrize(
    "line",
    [
        "seed = [" + "9" * 5000 + "]",
        "seed = [0x" + "f" * 6000 + "]",
        "seed = [" + "9" * 19 + "]",
        "seed = " + "[" * 5000 + "]" * 5000,
    ],
    ids=["digits", "hexadecimal", "large", "deep"],
)
def test_values_out_of_all_bounds_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f'preset = "demo"\n[sweep.grid]\n{line}\n')
    with pytest.raises(InputError):
        presets.load(str(path))


def make_job(folder: Path) -> Job:
    return Job(RunConfig(model="builtin:nano"), folder / "a", folder / "logs" / "a.txt", None, {})


@pytest.mark.parametrize("error", [EOFError("unexpected EOF"), OSError(11, "Resource unavailable"), MemoryError()])
def test_a_process_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def start(self: object) -> None:
        raise error

    monkeypatch.setattr(multiprocessing.context.ForkServerProcess, "start", start)
    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start)
    with pytest.raises(RunFailed, match="cannot start a process for a") as caught:
        LocalExecutor(1, 1).start(make_job(tmp_path))
    assert "ulimit" in (caught.value.hint or "")


@pytest.mark.parametrize(("length", "expected"), [(40, True), (75, True), (90, False)])
def test_a_socket_s_name_has_a_limit(monkeypatch: pytest.MonkeyPatch, length: int, expected: bool) -> None:
    monkeypatch.setattr(local.sys, "platform", "linux")
    monkeypatch.setattr(local.tempfile, "gettempdir", lambda: "/" + "x" * (length - 1))
    assert local._has_fork_server() is expected
