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
from sweep_runs import ROOT, call_main


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
def twelve_locally(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweep of docs/cluster.md on this machine, which nothing disturbs."""
    out = tmp_path_factory.mktemp("twelve") / "out"
    assert call_main("sweep", str(ROOT / "examples" / "twelve.toml"), "--out", str(out), "--workers", "2") == 0
    return out
