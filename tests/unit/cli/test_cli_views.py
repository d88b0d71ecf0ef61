"""What a person reads: sparklines, one-line samples, the live panel, the verdict."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from collapselab.cli.live import Progress, squeezed, verdict_so_far
from collapselab.cli.overview import told, without_shared
from collapselab.cli.text import one_line, sparkline
from collapselab.cli.verdict import loss_sentence, outcome_sentence, table_1
from collapselab.config.schema import RunConfig
from collapselab.records import Record, Sample, dumps
from collapselab.rundir.progress import glance
from collapselab.sweep.grid import Sweep, expand
from collapselab.sweep.schedule import place

OUTCOME = {
    "ended_by": "budget",
    "fate": "healthy",
    "degenerate_share": 0.0,
    "onset_step": None,
    "total_collapse_step": None,
    "recovered_step": None,
    "degraded_step": None,
    "severe_step": None,
    "lost_step": None,
    "diverged_step": None,
    "losses": [{"text": "austen"}, {"text": "moby-dick"}],
    "last_step": 50,
    "kind_at_end": None,
}


def record(step: int, **values: object) -> Record:
    base = {
        "step": step,
        "train_nll_nats": 2.5,
        "val_nll_nats[austen]": 3.25,
        "seq_rep_4": 0.125,
        "degenerate_share": 0.0,
        "reasons": [],
        "ended_by": None,
        "seconds_generate": 0.5,
    }
    return Record(step, base | values, (Sample((1,), "a line\nand [red]another[/red] \x1b[31m"),))  # pyright: ignore


def shown(records: list[Record], *, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    with Progress(RunConfig(data=("austen",)), console) as progress:
        for item in records:
            progress.show(item)
    return stream.getvalue()


def test_sparkline_runs_from_the_least_to_the_greatest() -> None:
    assert sparkline([0.0, 1.0, None, math.inf, 7.0]) == "▁▂  █"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([None]) == ""


def test_a_row_of_bars_goes_back_to_step_0_and_is_as_wide_as_there_is_room() -> None:
    assert squeezed([1.0, 2.0, None], 5) == [1.0, 2.0, None]
    assert squeezed([0.0, 2.0, 4.0, None, None, None], 3) == [1.0, 4.0, None]
    assert len(squeezed([float(i) for i in range(1000)], 40)) == 40


@pytest.mark.parametrize("width", [80, 200])
def test_the_panel_fits_the_terminal_and_says_what_changed_since_step_0(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    with Progress(RunConfig(data=("austen", "moby-dick")), console) as progress:
        for step in range(60):
            progress.show(record(step, **{"train_nll_nats": 2.5 - step / 50, "entropy_nats": 2.0}))
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    last = [line for line in lines if "training loss" in line][-1]
    assert "1.320" in last and "−1.180" in last
    assert "█" in last and "▁" in last


def test_names_of_runs_lose_what_they_share() -> None:
    names = [
        f"lr-{rate}-model-builtin-{model}-seed-{i}" for rate, model, i in ((2e-05, "nano", 0), (0.0001, "pico", 1))
    ]
    assert without_shared(names) == ["lr-2e-05-nano-seed-0", "lr-0.0001-pico-seed-1"]
    assert without_shared(["a/seed-0", "a/seed-1"]) == ["seed-0", "seed-1"]
    assert without_shared(["seed-0"]) == ["seed-0"]
    assert without_shared(["seed-0", "b-seed-1"]) == ["seed-0", "b-seed-1"]
    assert without_shared(["one", "one"]) == ["one", "one"]


def test_a_sample_on_one_line_shows_runs_of_line_ends_and_no_control_characters() -> None:
    assert one_line("a\nb  c") == "a b c"
    assert one_line("a\n\n\n \nb") == "a ⏎×4 b"
    assert one_line("\x1b[2J") == "�[2J"


def test_the_live_panel_has_losses_verdict_times_and_the_sample() -> None:
    text = shown([record(0), record(1, degenerate_share=0.5, reasons=["loop"])], terminal=True)
    for wanted in (
        "step 1/1000",
        "validation loss, austen",
        "3.250",
        "+0.000",
        "50 % of the last samples",
        "loop",
        "generate 0.50 s",
        "steps/s",
    ):
        assert wanted in text
    assert "a line and [red]another[/red]" in text, "markup in a sample is text"
    assert "\x1b[31m" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_loss_that_leaves_its_baseline_is_warned_of(terminal: bool) -> None:
    falling = [record(i, train_nll_nats=2.5 + 0.01 * (i % 2) - max(0, i - 4) / 10) for i in range(12)]
    last = Record(12, {**falling[-1].values, "step": 12, "ended_by": "budget"})
    text = shown([*falling, last], terminal=terminal)
    words = "early warning since step 7: loss on own text" if terminal else "warning since step 7"
    assert words in text
    assert "warning" not in shown([record(i) for i in range(12)], terminal=terminal)


def test_without_a_terminal_the_first_and_the_last_step_are_lines() -> None:
    text = shown([record(0), record(1), record(2, ended_by="budget")], terminal=False)
    steps = [line.split()[1] for line in text.splitlines()]
    assert steps == ["0", "2"], "lines between come every two seconds"
    assert "austen 3.250" in text


def test_verdict_so_far() -> None:
    assert verdict_so_far(record(3)) == "healthy so far"
    assert verdict_so_far(record(3, reasons=["match_entropy", "under_100_tokens"])) == (
        "healthy so far (this sample: predictable from the text before, under 100 tokens)"
    )
    lost = verdict_so_far(record(3, loss_fate="lost"))
    assert lost == "no degenerate sample so far; lost: worse than a uniform guess on human text"
    both = verdict_so_far(record(3, loss_fate="severe", degenerate_share=0.5))
    assert both == "50 % of the last samples are degenerate; severe: perplexity on human text has doubled"
    assert "degraded" in verdict_so_far(record(3, loss_fate="degraded", degenerate_share=None))
    for share in (0.0, 0.5, None):
        diverged = verdict_so_far(record(3, loss_fate="diverged", degenerate_share=share))
        assert diverged == "diverged: a loss or norm is not finite"


def test_a_line_says_what_the_loss_has_come_to() -> None:
    text = shown([record(0), record(1, ended_by="budget", loss_fate="lost")], terminal=False)
    assert ["lost" in line for line in text.splitlines()] == [False, True]


@pytest.mark.parametrize(
    ("share", "loss", "words"),
    [
        (0.0, None, "step 7, healthy so far"),
        (0.0, "lost", "step 7, lost"),
        (0.5, "severe", "step 7, 50 % of the last samples degenerate, severe"),
        (None, "degraded", "step 7, not judged, degraded"),
    ],
)
def test_a_sweep_says_what_the_loss_of_a_run_has_come_to(
    share: float | None, loss: str | None, words: str, tmp_path: Path
) -> None:
    line = dumps({"step": 7, "degenerate_share": share, "loss_fate": loss})
    (tmp_path / "steps.jsonl").write_text(line + "\n")
    (tmp_path / "status.json").write_text(dumps({"status": "running"}))
    task = replace(place(expand(Sweep(RunConfig(), {"seed": (0,)})), tmp_path)[0], state="running")
    assert told(task, glance(tmp_path)) == words


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "No collapse within 50 steps."),
        ({"onset_step": 9}, "Onset of collapse at step 9; no total collapse within 50 steps."),
        (
            {"onset_step": 9, "recovered_step": 20},
            "Onset of collapse at step 9, recovered at step 20; no total collapse within 50 steps.",
        ),
        (
            {"onset_step": 9, "total_collapse_step": 14, "kind_at_end": "loop", "ended_by": "collapse"},
            "Collapsed: onset at step 9, total collapse at step 14, kind loop.",
        ),
        (
            {"onset_step": 20, "warned_step": 5},
            "Onset of collapse at step 20; no total collapse within 50 steps. "
            "Early warning at step 5, 75 % of the time to onset ahead.",
        ),
        ({"warned_step": 5}, "No collapse within 50 steps. Early warning at step 5."),
        ({"degenerate_share": None}, "Not judged within 50 steps: no sample had the 100 tokens that it takes."),
        (
            {"ended_by": "budget", "fate": "diverged", "diverged_step": 3},
            "Diverged at step 3: a loss or norm is not finite.",
        ),
        (
            {"ended_by": "divergence", "fate": "diverged", "onset_step": 9, "diverged_step": 30},
            "Onset of collapse at step 9; no total collapse within 50 steps. "
            "Diverged at step 30: a loss or norm is not finite.",
        ),
    ],
)
def test_outcome_sentence(changes: dict[str, object], sentence: str) -> None:
    assert outcome_sentence(OUTCOME | changes) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Perplexity on austen did not rise by a tenth."),
        ({"degraded_step": 2}, "Loss on austen: degraded at step 2."),
        (
            {"degraded_step": 2, "severe_step": 5, "lost_step": 14},
            "Loss on austen: degraded at step 2, severe at step 5, lost at step 14 (worse than a uniform guess).",
        ),
    ],
)
def test_loss_sentence(changes: dict[str, object], sentence: str) -> None:
    assert loss_sentence(OUTCOME | changes) == sentence


def test_table_1_has_the_first_a_third_two_thirds_and_the_last() -> None:
    assert [r.step for r in table_1([record(i) for i in range(134)])] == [0, 44, 88, 133]
    assert [r.step for r in table_1([record(0)])] == [0]
    assert table_1([]) == []
