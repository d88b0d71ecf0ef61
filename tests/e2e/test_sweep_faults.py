"""Sweeps where the machine, or the script that begins them, is not as they want it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = """
model = "builtin:nano"
data = ["austen"]
stop.max_steps = 1
generate.max_new_tokens = 20
eval.protocol = "windows[20,2]"
eval.full_every = 0
[sweep.grid]
seed = [0, 1]
"""
SCRIPT = """
from pathlib import Path
from collapselab.sweep import presets
from collapselab.sweep.grid import expand
from collapselab.sweep.executors.local import LocalExecutor
from collapselab.sweep.schedule import carry_out, place
carry_out(place(expand(presets.load("s.toml")), Path("out")), LocalExecutor(num_workers=2, num_threads=1))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.toml").write_text(SWEEP)
    return tmp_path


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_long_name_of_the_folder_for_temporary_files(folder: Path) -> None:
    temporary = folder / ("x" * 90)
    temporary.mkdir()
    done = run(folder, "-m", "collapselab", "sweep", "s.toml", "--out", "out", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("steps used up") == 2


def test_a_script_without_a_main_guard_gets_one_message(folder: Path) -> None:
    (folder / "unguarded.py").write_text(SCRIPT)
    done = run(folder, "unguarded.py")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count("the script starts the sweep whenever it is imported") == 1
    assert '`if __name__ == "__main__":`' in done.stderr
