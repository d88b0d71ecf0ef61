"""Runs and values in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from collapselab import CollapseMonitor
from collapselab.report.describe import common_environment, common_settings, labels, outcome, story
from collapselab.report.figures import FIGURES
from collapselab.report.values import shown
from collapselab.rundir.frames import Runs, load_runs
from collapselab.visible import visible
from report_runs import readable_run


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("line\nand\ttab", "line\nand\ttab"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\x00\x1b\x7f\r", "⟨U+0000⟩⟨U+001B⟩⟨U+007F⟩⟨U+000D⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u2066\u2069\u200f\u061c\ufeff\u200b", "⟨U+2066⟩⟨U+2069⟩⟨U+200F⟩⟨U+061C⟩⟨U+FEFF⟩⟨U+200B⟩"),
        ("नमस्ते مرحبا 漢字 👩\u200d🔬", "नमस्ते مرحبا 漢字 👩\u200d🔬"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, seen: str) -> None:
    assert visible(text) == seen


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"), (math.nan, "–"), (pd.NA, "–"), ("", "(empty)"), (True, "yes"), (False, "no"), (0, "0"),
        (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.05, "0.05"), (1234567.0, "1.235e6"), (10.0, "10"),
        ([0.9, 0.95], "0.9 0.95"), ("\u202ex", "⟨U+202E⟩x"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_values_as_people_read_them(value: object, words: str) -> None:
    assert shown(value) == words


def test_labels_name_what_differs(tmp_path: Path) -> None:
    readable_run(tmp_path / "a", settings={"optim.lr": 1e-4})
    readable_run(tmp_path / "b", settings={"optim.lr": 2e-4, "sampling.top_k": None, "threads": 1})
    assert labels(load_runs(tmp_path)) == ["lr 1e-4 · sampling.top_k 500", "lr 2e-4 · sampling.top_k –"]


def test_one_run_is_named_by_model_learning_rate_and_seed(tmp_path: Path) -> None:
    assert labels(load_runs(readable_run(tmp_path / "a", settings={"optim.lr": 1e-4}))) == ["micro · lr 1e-4 · seed 0"]


def test_what_is_looked_at_is_no_part_of_a_label_but_labels_differ(tmp_path: Path) -> None:
    for name, changes in {"a": {}, "b": {"stop.max_steps": 7, "data": "austen"}, "c": {"seed": 1}}.items():
        readable_run(tmp_path / name, settings=changes)
    assert labels(load_runs(tmp_path)) == ["seed 0 · a", "seed 0 · b", "seed 1"]


def test_runs_that_do_not_differ_are_named_by_their_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        readable_run(tmp_path / name)
    assert labels(load_runs(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"ended_by": "collapse", "fate": "total-collapse", "total_collapse_step": 30, "kind_at_end": "loop"},
         "total collapse at step 30 (loop)"),
        ({"ended_by": "divergence", "fate": "diverged", "diverged_step": 4, "onset_step": 2}, "diverged at step 4"),
        ({"ended_by": "budget", "fate": "onset", "onset_step": 9, "last_step": 20},
         "onset at step 9, not total by step 20"),
        ({"ended_by": "budget", "fate": "healthy", "onset_step": pd.NA, "last_step": 20}, "no collapse by step 20"),
        ({"ended_by": "budget", "fate": "lost", "degraded_step": 2, "lost_step": 14, "last_step": 20},
         "no collapse by step 20; loss on human text: lost at step 14"),
        ({"ended_by": "budget", "fate": "onset", "warned_step": 3, "onset_step": 9, "last_step": 20},
         "onset at step 9, not total by step 20; early warning at step 3, 67 % of the time to onset ahead"),
        ({"ended_by": None, "status": "running"}, "running"),
        ({"ended_by": None, "status": None}, "unfinished"),
    ],
)  # fmt: skip
def test_outcomes_in_words(row: dict[str, Any], words: str) -> None:
    assert outcome(row) == words


def test_settings_are_shared_or_differ(tmp_path: Path) -> None:
    readable_run(tmp_path / "a", settings={"optim.lr": 1e-4})
    readable_run(tmp_path / "b", settings={"optim.lr": 2e-4})
    common = common_settings(load_runs(tmp_path))
    assert (common.names, common.rows) == (["lr"], [["1e-4"], ["2e-4"]])
    assert ("sampling.top_k", "500") in common.shared


def test_of_a_watched_training_only_what_is_known_is_told(tmp_path: Path) -> None:
    monitor = CollapseMonitor(tmp_path / "a")
    monitor.observe(0, [list(range(100))])
    monitor.finish()
    runs = load_runs(tmp_path / "a")
    assert story(runs.runs.iloc[0].to_dict()) == "training, watched in training: no collapse by step 0."
    names = [name for name, _ in common_settings(runs).shared]
    assert {name.partition(".")[0] for name in names} == {"model", "lr", "collapse"}
    assert FIGURES["figure-1"].draw(runs) is None, "its settings are not those of the loop"


def test_versions_and_machines_are_those_of_the_frames() -> None:
    frame = pd.DataFrame(
        {"run": ["a", "b"], "env.cpu": ["x", "y"], "env.packages.torch": ["2", "2"], "env.schema": [1, 1]}
    )
    common = common_environment(Runs(frame, pd.DataFrame(), pd.DataFrame()))
    assert (common.shared, common.names, common.rows) == ([("packages.torch", "2")], ["cpu"], [["x"], ["y"]])
