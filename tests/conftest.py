"""Shared by all tests: one thread, and small models that stand in for large ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.testing import save_folder, tiny_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights over bytes, context 256."""
    return save_folder(tiny_model(1, layers=1), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Human text, 4,000 characters."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = [
        "the",
        "whale",
        "went",
        "down",
        "and",
        "the",
        "sea",
        "was",
        "calm",
        "again",
        "while",
        "Anne",
        "read",
        "her",
        "letter",
        "by",
        "the",
        "window",
    ]
    path.write_text(" ".join(words[(i * i + i // 7) % len(words)] for i in range(800)), encoding="utf-8")
    return path


@pytest.fixture
def tiny_config(tiny_folder: Path, text_file: Path) -> RunConfig:
    """A run that takes milliseconds per step."""
    return override(
        RunConfig(),
        {
            "model": str(tiny_folder),
            "data": (str(text_file),),
            "seed": 1,
            "generate.max_new_tokens": 100,
            "eval.protocol": "windows[20,5]",
            "eval.full_protocol": "disjoint[64]",
            "eval.full_every": 2,
            "optim.lr": 1e-3,
            "stop.max_steps": 3,
            "threads": 1,
        },
    )


@pytest.fixture
def native() -> None:
    """Skips where the native engine cannot be built."""
    from collapselab.engine.library import library

    if library() is None:
        pytest.skip("no C compiler with OpenMP: the native engine cannot be built")
