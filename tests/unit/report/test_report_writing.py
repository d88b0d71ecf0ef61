"""Reports on a full disk, in odd places, and of runs with names that no file of a report can hold as they are."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from collapselab import cli, files
from collapselab.errors import InputError, RunFailed
from collapselab.report.files import write_files
from collapselab.report.page import write_page
from collapselab.report.writing import write_file
from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import judged_run, make_config

HOSTILE_NAME = "a\x00b\x1b[31m\ud800\uffff\ufffec\u202e"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    for seed, rate in ((0, 4e-5), (1, 4e-5), (0, 8e-5)):
        judged_run(folder / f"{seed}-{rate:g}", make_config(seed=seed, optim__lr=rate), 12)
    return load_runs(folder)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, num_files: int = 0) -> None:
    """A disk that is full after some files, in the middle of the next one."""
    write_all, left = files.write_all, [num_files]

    def full(handle: int, data: bytes) -> None:
        if left[0] == 0:
            write_all(handle, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        write_all(handle, data)

    monkeypatch.setattr(files, "write_all", full)


def test_a_full_disk_keeps_the_former_page(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report.html"
    page.write_text("the former page")
    fill_the_disk(monkeypatch)
    with pytest.raises(RunFailed, match="No space left on device") as caught:
        write_page(runs, page)
    assert page.read_text() == "the former page"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "--resume" not in (caught.value.hint or ""), "report has no such option"


@pytest.mark.parametrize("num_files", [0, 1, 3, 20])
def test_a_full_disk_leaves_no_part_of_a_figure_or_table(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_files: int
) -> None:
    fill_the_disk(monkeypatch, num_files)
    with pytest.raises(RunFailed, match="No space left on device"):
        write_files(runs, tmp_path)
    assert len(list(tmp_path.iterdir())) == num_files
    assert all(path.stat().st_size for path in tmp_path.iterdir())
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)


def test_what_is_no_file_is_not_replaced_and_a_link_is_followed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/dev/null is not a regular file"):
        write_file(Path("/dev/null"), "x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_file(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "x"


def test_names_that_no_figure_can_hold_are_spelled_out(runs: Runs, tmp_path: Path) -> None:
    """The drawing library aborts the process on control characters, and refuses lone surrogates."""
    frame = runs.runs.assign(model=HOSTILE_NAME, num_parameters=float("nan"))
    renamed = [part.assign(run=HOSTILE_NAME + part["run"]) for part in (frame, runs.steps, runs.samples)]
    hostile = Runs(*renamed)
    paths = write_files(hostile, tmp_path)
    assert len([path for path in paths if path.suffix == ".svg"]) >= 5
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)
    for path in paths:
        if path.suffix in (".svg", ".csv", ".md", ".tex"):
            assert not re.search(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]", path.read_text(encoding="utf-8")), path


def test_a_folder_with_an_escape_in_its_name_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a\x1b]0;x\x07b"
    judged_run(tmp_path / name, make_config(), 12)
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", name, "-o", "page.html", "--figures", "figures"])
    assert ended.value.code == 0
    assert (tmp_path / "figures" / "barcode.svg").stat().st_size > 1000
