"""What a person reads at the end of a run: the outcome, the losses, the samples (the paper's Table 1)."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from collapselab.cli.text import one_line, plain
from collapselab.collapse.warning import warning_in_words
from collapselab.collapse.words import FATES
from collapselab.records import Record
from collapselab.rundir.layout import RunDir

SAMPLE_CHARS = 300


def print_samples(path: Path, summary: Mapping[str, Any], console: Console) -> None:
    """Prints four samples of a finished run, and its losses at the start and the end."""
    records = RunDir(path).read_records()
    console.print()
    console.print(_sample_table(records))
    console.print(_loss_table(summary))


def print_verdict(path: Path, summary: Mapping[str, Any], console: Console) -> None:
    """Prints the outcome of a finished run, where it is, and the command that shows more of it."""
    console.print()
    console.print(Text(outcome_sentence(summary), style="bold"))
    console.print(plain(loss_sentence(summary)))
    console.print(plain(f"run directory: {path}"), soft_wrap=True)
    console.print(plain(f"next: collapselab report {shlex.quote(str(path))}"), soft_wrap=True)


def outcome_sentence(summary: Mapping[str, Any]) -> str:
    """The outcome of a run in a sentence, or two; then the early warning, if there was one."""
    warning = warning_in_words(summary.get("warned_step"), summary["onset_step"])
    return _outcome(summary) + (f" {warning[0].upper()}{warning[1:]}." if warning else "")


def _outcome(summary: Mapping[str, Any]) -> str:
    onset, total, last = summary["onset_step"], summary["total_collapse_step"], summary["last_step"]
    if summary["diverged_step"] is not None:
        diverged = f"Diverged at step {summary['diverged_step']}: {FATES['diverged'].meaning}."
        return diverged if onset is None else f"{_outcome({**summary, 'diverged_step': None})} {diverged}"
    if total is not None:
        return f"Collapsed: onset at step {onset}, total collapse at step {total}, kind {summary['kind_at_end']}."
    if onset is not None:
        recovered = summary["recovered_step"]
        after = f", recovered at step {recovered}" if recovered is not None else ""
        return f"Onset of collapse at step {onset}{after}; no total collapse within {last} steps."
    if summary["degenerate_share"] is None:
        return f"Not judged within {last} steps: no sample had the 100 tokens that it takes."
    return f"No collapse within {last} steps."


def loss_sentence(summary: Mapping[str, Any]) -> str:
    """What the loss on the first human text has come to, and when."""
    text = summary["losses"][0]["text"]
    steps = {name: summary.get(f"{name}_step") for name in ("degraded", "severe", "lost")}
    known = [f"{name} at step {step}" for name, step in steps.items() if step is not None]
    if not known:
        return f"Perplexity on {text} did not rise by a tenth."
    worse = " (worse than a uniform guess)" if steps["lost"] is not None else ""
    return f"Loss on {text}: {', '.join(known)}{worse}."


def _loss_table(summary: Mapping[str, Any]) -> Table:
    table = Table(title="Loss, nats per token", title_justify="left")
    for column in ("text", "protocol", "step 0", f"step {summary['last_step']}", "change"):
        table.add_column(column, justify="left" if column in ("text", "protocol") else "right")
    for row in summary["losses"]:
        first, last = row["first"], row["last"]
        change = None if first is None or last is None else last - first
        table.add_row(plain(row["text"]), row["protocol"], _nats(first), _nats(last), _nats(change, signed=True))
    return table


def _sample_table(records: list[Record]) -> Table:
    table = Table(title="Samples", title_justify="left", show_lines=True)
    table.add_column("step", justify="right")
    table.add_column("own loss", justify="right")
    table.add_column("text")
    for record in table_1(records):
        text = one_line(record.samples[0].text)
        shown = text if len(text) <= SAMPLE_CHARS else text[:SAMPLE_CHARS] + " …"
        table.add_row(str(record.step), _nats(record.number("train_nll_nats")), Text(shown))
    return table


def table_1(records: list[Record]) -> list[Record]:
    """The records at step 0, a third, two thirds and the last, as in the paper's Table 1."""
    last = len(records) - 1
    return [records[i] for i in sorted({0, last // 3, 2 * last // 3, last})] if records else []


def _nats(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.3f}" if signed and not math.isnan(value) else f"{value:.3f}"
