"""One vocabulary and one table of recorded numbers: complete, typed, and the only list there is."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

from collapselab import run
from collapselab.collapse import words
from collapselab.collapse.numbers import (
    ANY_TEXT,
    DERIVED,
    NUMBERS,
    PANELS,
    SAFEGUARDS,
    SUMMARY,
    drawn_in,
    entry,
    label,
    live_names,
)
from collapselab.collapse.rules import SAMPLE_KINDS, SAMPLE_RULES
from collapselab.collapse.short import SHORT_RULES
from collapselab.config.overrides import override
from collapselab.config.schema import JudgedText, RunConfig, TrainingSource
from collapselab.records import Role
from collapselab.rundir.layout import RunDir
from collapselab.safeguards import Safeguard


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (words.ENDED_BY, words.EndedBy),
        (words.FATES, words.Fate),
        (words.STATUSES, words.Status),
        (words.KINDS, words.Kind),
        (words.TRAINING_SOURCES, TrainingSource),
        (words.JUDGED_TEXTS, JudgedText),
        (words.ROLES, Role),
    ],
)
def test_every_word_has_its_sentence(table: dict[str, object], kind: object) -> None:
    assert tuple(table) == get_args(kind)


def test_words_that_stand_elsewhere_are_among_them() -> None:
    assert set(SAMPLE_KINDS) < set(words.KINDS)
    assert set(words.RULES) == {*SAMPLE_RULES, *SHORT_RULES, "frozen", "melted", "template", "low-diversity"}
    assert set(words.MARKED_EVENTS) < set(words.EVENTS)
    assert {number.panel for number in (NUMBERS | DERIVED).values()} - {None} == set(PANELS)


def test_every_name_of_a_run_is_in_the_table(tmp_path: Path, tiny_config: RunConfig, text_file: Path) -> None:
    other = tmp_path / "other [text].txt"
    other.write_bytes(text_file.read_bytes())
    everything = {"metrics.every": 1, "metrics.samples": 2, "metrics.contexts_every": 1, "metrics.first_model": True}
    config = override(tiny_config, {"data": (str(text_file), str(other)), "stop.max_steps": 1, **everything})
    result = run(config, tmp_path / "run", safeguards=[Safeguard()])
    recorded = {name for record in RunDir(result.path).read_records() for name in record.values}
    assert sorted(name for name in recorded if entry(name) is None) == []
    assert len(recorded) > len(NUMBERS.keys() - SAFEGUARDS.keys()), "each text has names of its own"
    about_the_file = {"schema", "run_id"}
    assert set(result.summary) == set(SUMMARY) | about_the_file


def test_names_of_texts_are_told_from_their_brackets() -> None:
    names = [
        "seq_rep_4",
        "val_nll_nats[a[1]]",
        "val_nll_nats",
        "train_nll_nats",
        "val_nll_nats[b]",
        "mine[x]",
        "loop_share",
    ]
    assert drawn_in("loss", names) == ["train_nll_nats", "val_nll_nats[a[1]]", "val_nll_nats[b]"]
    assert drawn_in("repetition", names) == ["seq_rep_4", "loop_share"]
    assert label("val_nll_nats[a[1]]") == "validation loss, a[1]"
    assert entry("mine[x]") is None
    assert list(live_names(["a", "b"])) == [
        ("train_nll_nats", "own text"),
        ("val_nll_nats[a]", "a"),
        ("val_nll_nats[b]", "b"),
        ("seq_rep_4", "rep-4"),
    ]


NEW_METRIC = """
from collapselab import metrics
from collapselab.records import Number

number = Number("share", "distinct tokens / 1000", "distinct tokens", "repetition", live="new")
metrics.METRICS["new"] = metrics.Metric(lambda ids: len(set(ids)) / 1000, number)  # the one line

import pandas as pd
from collapselab.cli.live import label, live_names
from collapselab.collapse.numbers import NUMBERS
from collapselab.report.definitions import definitions
from collapselab.report.explorer import _curves
from collapselab.report.page import _charts
from collapselab.report.run_panels import repetition_panel
from collapselab.step.measure import sample_values

values = sample_values([range(100)], {})
assert values["new"] == 0.1, values
steps = pd.DataFrame([{"step": 0, **values}])
assert NUMBERS["new"] is number, "docs/run-directory.md is compared with this table"
assert definitions()["new"] == number.meaning
assert repetition_panel(steps).values["distinct tokens"].to_dict() == {0: 0.1}
assert "new" in _curves(steps)
assert any(curve["name"] == "new" for chart in _charts(list(steps)) for curve in chart["curves"])
assert ("new", "new") in live_names(["austen"])
"""


def test_one_line_records_documents_and_draws_a_metric() -> None:
    done = subprocess.run([sys.executable, "-c", NEW_METRIC], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_page_has_no_list_of_its_own() -> None:
    template = files("collapselab.report") / "template"
    scripts = "".join(path.read_text(encoding="utf-8") for path in template.iterdir() if path.name.endswith(".js"))
    shown = [event.label for event in words.EVENTS.values()]
    shown += [number.label for number in (NUMBERS | DERIVED).values() if number.label is not None]
    shown += ["training sample", *(name for name in NUMBERS if ANY_TEXT in name)]
    assert [label for label in shown if f'"{label}"' in scripts or f"`{label}" in scripts] == []
