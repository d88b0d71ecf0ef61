"""Every text that a run reads is known by its digest, so that a resumed run reads the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, Interrupted
from collapselab.rundir.layout import read_json
from collapselab.runner import run


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def real_text(tmp_path: Path) -> Path:
    path = tmp_path / "real.txt"
    path.write_text("Call me Ishmael. Some years ago, never mind how long precisely. " * 4, encoding="utf-8")
    return path


def test_config_json_has_the_digest_of_every_text(
    tiny_config: RunConfig, text_file: Path, real_text: Path, tmp_path: Path
) -> None:
    changes = {"train.source": "real", "train.real_text": str(real_text), "stop.max_steps": 0}
    out = run(override(tiny_config, changes), tmp_path / "run").path
    digests = read_json(out / "config.json")["text_sha256"]
    assert digests == {str(path): sha256(path) for path in (text_file, real_text)}


@pytest.mark.parametrize("of", ["evaluation", "training"])
def test_a_run_whose_text_has_changed_does_not_go_on(
    tiny_config: RunConfig, real_text: Path, tmp_path: Path, of: str
) -> None:
    evaluated = tmp_path / "evaluated.txt"
    evaluated.write_text("The sea was calm again while Anne read her letter by the window. " * 10, encoding="utf-8")
    changes = {"train.source": "real", "train.real_text": str(real_text), "data": (str(evaluated),)}
    config = override(tiny_config, {**changes, "stop.max_seconds": 1e-9})
    with pytest.raises(Interrupted):
        run(config, tmp_path / "run")
    changed = evaluated if of == "evaluation" else real_text
    changed.write_text(changed.read_text(encoding="utf-8").replace("a", "o"), encoding="utf-8")
    with pytest.raises(InputError, match="has changed since the run"):
        run(config, tmp_path / "run", resume=True)
