"""The examples run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(name: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_start(tmp_path: Path) -> None:
    lines = output_of("quick_start.py", str(tmp_path / "run")).splitlines()
    assert lines[0].startswith("ended by: ")
    assert lines[1].split() == ["step", "train_nll_nats", "val_nll_nats", "seq_rep_4", "degenerate"]
    assert (tmp_path / "run" / "summary.json").exists()


def test_custom_metric() -> None:
    rows = [line.split() for line in output_of("custom_metric.py").splitlines()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert all(0 < float(row[2]) < 1 for row in rows)


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"quick_start.py", "custom_metric.py"}
