"""For tests in a browser: Debian's Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from typing import Any

import pytest


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
