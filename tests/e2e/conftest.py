"""For tests in a browser: Debian's Chromium, and a page in it; for tests of executors: a sweep on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from browsing import opened
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_runs import readable_run
from sweep_runs import TWELVE, call_main, sweep_file


@pytest.fixture(scope="session")
def browser() -> Generator[Any]:
    """A headless browser; tests that need it are skipped where it is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing (collapselab[dev] has it)")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed (Debian's package chromium)")
    with playwright.sync_playwright() as running:
        # The sandbox of Chromium refuses to run for root, who a container's user often is.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = running.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three runs: two that collapse at steps 6 and 9, and one that goes on."""
    folder = tmp_path_factory.mktemp("runs")
    readable_run(folder / "a", onset=6, settings={"seed": 1})
    readable_run(folder / "b", onset=9, num_steps=16, settings={"seed": 2})
    readable_run(folder / "c", onset=None, is_finished=False, settings={"seed": 3})
    return write_page(load_runs(folder), folder / "report.html")


@pytest.fixture
def page(browser: Any, report: Path) -> Generator[Any]:
    yield from opened(browser, report)


@pytest.fixture(scope="session")
def twelve_locally(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """The folder of a sweep of 12 runs on this machine, which nothing disturbs."""
    folder = tmp_path_factory.mktemp("twelve")
    file = sweep_file(folder / "sweep.toml", text_file, TWELVE)
    assert call_main("sweep", str(file), "--out", str(folder / "out"), "--workers", "2") == 0
    return folder / "out"
