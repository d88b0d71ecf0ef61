"""Files are replaced whole and in the right order, and nothing but a regular file is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collapselab import files
from collapselab.files import make_folder, read_regular, remove_folder, replace_file


def test_a_replaced_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        order.append("sync " + Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    replace_file(tmp_path / "a.json", "new")
    assert order == ["sync a.json.tmp", "rename", f"sync {tmp_path.name}"]
    replace_file(tmp_path / "a.json", b"newer", durable=False)
    assert order[3:] == ["rename"]
    assert (tmp_path / "a.json").read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_what_cannot_be_replaced_stays_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "a.json", "old")

    def full(handle: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "a.json", "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "fifo")
    os.mkfifo(tmp_path / "a.json.tmp")
    with pytest.raises(OSError, match="not a regular file"):
        replace_file(tmp_path / "a.json", "new")


def test_a_removed_folder_loses_its_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a" / "b") == []
    seen: list[str] = []
    monkeypatch.setattr(files.shutil, "rmtree", lambda path: seen.append(path.name))
    remove_folder(tmp_path / "a" / "b")
    assert [name[:4] for name in seen] == ["tmp-"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == seen


def test_a_file_name_that_is_no_text_survives(tmp_path: Path) -> None:
    from collapselab.records import dumps, loads

    name = os.fsdecode(b"run-\xff")
    replace_file(tmp_path / "a.json", dumps({"out": name}))
    assert loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"out": name}
