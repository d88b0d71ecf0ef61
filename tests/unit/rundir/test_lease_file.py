"""Leases: one owner at a time, none of whom trusts another's clock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collapselab.errors import InputError
from collapselab.rundir import lease as module
from collapselab.rundir.layout import RunDir
from collapselab.rundir.lease import Lease, Superseded, Watch, current
from collapselab.rundir.progress import holder


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of half a second."""
    for name, seconds in (("BEAT_S", 0.05), ("LEASE_S", 0.5), ("EMPTY_S", 0.3)):
        monkeypatch.setattr(module, name, seconds)


def on_host(monkeypatch: pytest.MonkeyPatch, name: str, hours: float = 0.0) -> None:
    """From here on, this process is on another machine, whose clock differs."""
    wall = time.time_ns
    monkeypatch.setattr(module, "boot_id", lambda: name)
    monkeypatch.setattr(time, "time", lambda: wall() / 1e9 + 3600 * hours)


def leases(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def test_an_owner_beats_and_releases(tmp_path: Path) -> None:
    with Lease.take(tmp_path) as lease:
        first = later = current(tmp_path)
        while later == first:
            time.sleep(0.01)
            later = current(tmp_path)
        lease.check()
    assert first is not None and later is not None
    assert (first.number, first.is_released, first.who) == (1, False, f"process {os.getpid()} on {os.uname().nodename}")
    assert int(later.values["beats"]) > int(first.values["beats"])
    last = current(tmp_path)
    assert last is not None and last.is_released
    assert len(last.content) == len(first.content), "written in place: the length must not change"
    with Lease.take(tmp_path) as lease:
        assert (lease.number, lease.renewed, leases(tmp_path)) == (2, False, ["lease.2"])


def test_a_killed_owner_of_this_machine_is_followed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lease.take(tmp_path)
    monkeypatch.setattr(time, "sleep", None)  # nothing is waited for
    assert not Lease.take(tmp_path).renewed, "the lock says that it is dead, so its files are closed"


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_living_owner_of_another_machine_is_left_alone_whatever_the_clocks(
    hours: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 60.0)
    owner = Lease.take(tmp_path)
    os.utime(owner.file, (0, 0))
    on_host(monkeypatch, "other", hours)
    with pytest.raises(BlockingIOError), a_beat_of(owner):
        Lease.take(tmp_path)


@contextmanager
def a_beat_of(owner: Lease) -> Generator[None]:
    """Its next beat, soon; its own thread would write the name of the machine that this process now is on."""
    content = owner.file.read_bytes().replace(b"000000000000", b"000000000001")
    beat = threading.Timer(0.1, lambda: owner.file.write_bytes(content))
    beat.start()
    try:
        yield
    finally:
        beat.join()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_silent_owner_of_another_machine_is_followed_after_its_lease(
    hours: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silent = Lease.take(tmp_path)
    on_host(monkeypatch, "other", hours)
    begun = time.monotonic()
    lease = Lease.take(tmp_path)
    assert time.monotonic() - begun >= 0.5
    assert (lease.number, lease.renewed, leases(tmp_path)) == (2, True, ["lease.2"])
    assert f"was not released by process {os.getpid()} on" in caplog.text
    with pytest.raises(Superseded, match=r"was taken over by process \d+ on"):
        silent.check()
    silent.__exit__()
    lease.check()
    assert leases(tmp_path) == ["lease.2"], "the former owner writes nothing"


def test_of_many_that_follow_a_dead_owner_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lease.take(tmp_path)
    on_host(monkeypatch, "other")
    barrier, won, lost = threading.Barrier(8), list[Lease](), list[int]()

    def follow() -> None:
        barrier.wait()
        try:
            won.append(Lease.take(tmp_path))
        except BlockingIOError:
            lost.append(1)

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 7
    for lease in won:
        lease.check()


def test_a_file_without_content_is_waited_for_briefly(tmp_path: Path) -> None:
    (tmp_path / "lease.4").touch()
    begun = time.monotonic()
    lease = Lease.take(tmp_path)
    assert (lease.number, lease.renewed) == (5, True)
    assert time.monotonic() - begun >= 0.3


def test_an_owner_whose_file_was_removed_sees_the_next_owner(tmp_path: Path) -> None:
    lease = Lease.take(tmp_path)
    lease.file.unlink()
    lease.check()
    Lease.take(tmp_path)
    with pytest.raises(Superseded):
        lease.check()


def test_a_watch_shows_other_machines_owners_until_they_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lease.take(tmp_path)
    watch = Watch()
    assert watch.owner(tmp_path) is None, "of this machine: the lock says who lives"
    on_host(monkeypatch, "other", hours=1)
    assert holder(tmp_path) is None
    assert holder(tmp_path, watch) == f"process {os.getpid()} on {os.uname().nodename}"
    time.sleep(0.6)
    assert holder(tmp_path, watch) is None
    assert watch.owner(tmp_path / "absent") is None


def test_the_lock_of_a_run_directory_includes_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rundir = RunDir(tmp_path / "new")
    with rundir.lock():
        pass
    assert not rundir.path.exists(), "nothing was written, nothing is left"
    rundir.path.mkdir()
    monkeypatch.setattr(module, "LEASE_S", 60.0)
    owner = Lease.take(rundir.path)
    on_host(monkeypatch, "other")
    with pytest.raises(InputError, match=r"is in use by process \d+ on"), a_beat_of(owner), rundir.lock():
        pass
