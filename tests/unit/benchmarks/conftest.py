"""Work that takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.workload import Workload


@pytest.fixture
def workload(tiny_folder: Path, text_file: Path) -> Workload:
    """A turn of milliseconds."""
    return Workload(
        str(tiny_folder),
        threads=1,
        text=str(text_file),
        max_new_tokens=30,
        authors_context=16,
        window_tokens=20,
        num_windows=5,
        lr=1e-3,
    )
