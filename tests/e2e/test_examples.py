"""The examples run as they are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collapselab import build, load_runs, online_loop, override, presets

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(name: str, *arguments: str, warnings: str = "error") -> str:
    command = [sys.executable, "-W", warnings, str(EXAMPLES / name), *arguments]
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


def test_own_safeguard() -> None:
    """Its path is half as long as that of a run without it, at the first step at least."""
    rows = [line.split() for line in output_of("own_safeguard.py").splitlines()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    config = override(presets.demo(), {"model": "builtin:pico", "stop.max_steps": 1, "eval.full_every": 0})
    first = next(online_loop(build(config)))
    assert float(rows[0][1]) == pytest.approx(float(str(first.values["path_length"])) / 2, abs=1e-5)
    assert len((EXAMPLES / "own_safeguard.py").read_text(encoding="utf-8").splitlines()) <= 30


def test_grpo_while_watch_follows_its_completions_from_outside(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl is missing (collapselab[dev] has it)")
    (out := tmp_path / "out").mkdir()
    command = [
        sys.executable,
        "-m",
        "collapselab",
        "watch",
        str(out),
        "--idle-s",
        "120",
        "--out",
        str(tmp_path / "seen"),
    ]
    watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    try:
        # Warnings of TRL and transformers about themselves are not ours to mend.
        told = output_of("grpo_watched.py", "--steps", "3", "--out", str(out), warnings="ignore")
        shown = [watching.stderr.readline() for _ in range(3)]
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert told.splitlines()[-1] == "ended at step 3"
    assert [line.split()[:2] for line in shown] == [["step", str(step)] for step in (1, 2, 3)]
    inside, outside = load_runs(out / "collapse"), load_runs(tmp_path / "seen")
    assert inside.steps["step"].tolist() == [0, 1, 2], "the step at which a completion is written"
    assert outside.steps["step"].tolist() == [1, 2, 3], "TRL's files have the step after it"
    assert outside.samples["text"].tolist()[0] in inside.samples["text"].tolist()[0]


@pytest.mark.parametrize("source", ["own", "austen"])
def test_sft_on_own_text(source: str, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl is missing (collapselab[dev] has it)")
    told = output_of("sft_on_own_text.py", source, "--steps", "2", "--out", str(tmp_path / "out"), warnings="ignore")
    assert told.splitlines()[-1] == "ended at step 2"
    assert load_runs(tmp_path / "out" / "collapse").steps["step"].tolist() == [0, 1, 2]
    assert len((EXAMPLES / "sft_on_own_text.py").read_text(encoding="utf-8").splitlines()) <= 60


SHOWING = """
import ast, sys
def show(value):
    for name in ("_repr_mimebundle_", "_repr_html_"):
        if hasattr(value, name):
            return print(name, type(value).__name__, len(str(getattr(value, name)())))
def cell(source, names):
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        show(eval(compile(last, "cell", "eval"), names))
"""


def test_the_notebook(tmp_path: Path) -> None:
    """Its cells in order, and the value of each shown as a notebook shows it."""
    cells = json.loads((EXAMPLES / "first_run.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells), "kept without outputs"
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert 4 <= len(sources) <= 8
    program = SHOWING + "names = {}\n" + "".join(f"cell({source!r}, names)\n" for source in sources)
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    shown = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("_repr_")]
    frame, result, figure = ["_repr_html_", "DataFrame"], ["_repr_html_", "RunResult"], ["_repr_mimebundle_", "Figure"]
    assert shown == [result, figure, frame, result]
    assert done.stderr == "", "nobody watches: no progress"


def test_every_example_is_run_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert names == {
        "quick_start.py", "custom_metric.py", "own_safeguard.py", "first_run.ipynb", "twelve.toml",
        "grpo_watched.py", "sft_on_own_text.py",
    }  # fmt: skip
