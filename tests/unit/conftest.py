"""Shared by the tests of run directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config.schema import RunConfig
from collapselab.runner import run


@pytest.fixture
def finished(tiny_config: RunConfig, tmp_path: Path) -> Path:
    return run(tiny_config, tmp_path / "finished").path
