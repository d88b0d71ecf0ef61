"""Figures are drawn in a process of their own: whatever ends it, the rest is written and the reason is told."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import altair as alt
import pandas as pd
import pytest

from collapselab.report import drawing
from collapselab.report.drawing import DrawingError, Painter
from collapselab.report.files import write_files
from collapselab.report.page import write_page
from collapselab.report.theme import save_figure
from collapselab.rundir.frames import load_runs
from synthetic_runs import write_sweep

FIGURE = {"data": {"values": [{"a": 1}]}, "mark": "bar", "encoding": {"x": {"field": "a"}}}
ABORTS = "import os, signal; input(); os.kill(os.getpid(), signal.SIGTRAP)"


def aborting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every child aborts at its first figure, as under `ulimit -v`; returns a list that grows with each child."""
    begun: list[int] = []

    def start() -> subprocess.Popen[str]:
        begun.append(1)
        command = [sys.executable, "-c", ABORTS]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    monkeypatch.setattr(drawing, "_start", start)
    return begun


def test_a_figure_becomes_files() -> None:
    with Painter() as painter:
        files = painter.draw(FIGURE, ("svg", "png", "pdf"))
    assert [files[ending][:4] for ending in ("svg", "png", "pdf")] == [b"<svg", b"\x89PNG", b"%PDF"]


def test_a_refused_figure_does_not_end_the_next() -> None:
    with Painter() as painter:
        with pytest.raises(DrawingError, match="Error"):
            painter.draw({"mark": 3}, ("svg",))
        assert painter.draw(FIGURE, ("svg",))["svg"].startswith(b"<svg")


def test_an_ended_process_is_told_and_begun_again_only_after_a_figure_that_it_drew() -> None:
    with Painter() as painter:
        painter.draw(FIGURE, ("svg",))
        assert painter._child is not None  # pyright: ignore[reportPrivateUsage]
        painter._child.kill()  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(DrawingError, match="SIGKILL"):
            painter.draw(FIGURE, ("svg",))
        assert painter.draw(FIGURE, ("svg",))["svg"].startswith(b"<svg")


def test_the_rest_is_written_where_nothing_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = aborting(monkeypatch)
    runs = load_runs(write_sweep(tmp_path / "runs", num_seeds=1))
    with caplog.at_level(logging.WARNING, "collapselab"):
        paths = write_files(runs, tmp_path / "files")
        page = write_page(runs, tmp_path / "page.html")
    assert {path.suffix for path in paths} == {".csv", ".md", ".tex"}
    assert all(path.stat().st_size for path in (tmp_path / "files").iterdir())
    assert "figure-2" not in {path.stem for path in (tmp_path / "files").iterdir()}
    assert page.stat().st_size > 10_000
    assert len(begun) == 2, "one child for the files, one for the page: none is begun again in vain"
    assert ["SIGTRAP" in record.message for record in caplog.records] == [True, True]
    assert "figure-2" in caplog.records[0].message


def test_one_figure_alone_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aborting(monkeypatch)
    chart = alt.Chart(pd.DataFrame({"a": [1]})).mark_bar().encode(x="a:Q")
    with pytest.raises(DrawingError, match="SIGTRAP"):
        save_figure(chart, tmp_path, "figure")
    assert list(tmp_path.iterdir()) == []
