"""What a person reads after `collapselab diagnose`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from collapselab.cli.text import plain, stdout_console

if TYPE_CHECKING:  # diagnose brings in scipy, half a second that only this command needs
    from collapselab.collapse.audit import Audit

TOTALS = ("num_judged", "num_degenerate", "degenerate_share", "interval", "kinds")
ROWS_SHOWN = 40
HUMAN_TEXT_FLAGGED = (
    "Of human text these rules flag some 0.2 % of prose, 1 to 2 % of code and tables, and up to 8 % of assembler, "
    "Lisp, SQL, JSON and character tables, which they cannot tell from collapse (docs/collapse.md)."
)
METRICS_SHOWN = ("seq_rep_4", "loop_period", "loop_span", "match_entropy_nats", "top_token_share")


def print_audit(file: str, audit: Audit) -> None:
    """Prints the samples of an audit, degenerate ones first, and the totals."""
    table = Table(box=None, pad_edge=False)
    for column in ("sample", "tokens", "degenerate", "kind", "reasons", *METRICS_SHOWN):
        table.add_column(column)
    ranked = sorted(audit.samples, key=lambda sample: not sample.verdict.degenerate)
    for sample in ranked[:ROWS_SHOWN]:
        verdict = sample.verdict
        judged = {True: "yes", False: "no", None: "too short"}[verdict.degenerate]
        figures = [_figure(sample.metrics[name]) for name in METRICS_SHOWN]
        verdicts = (judged, verdict.kind or "", ", ".join(verdict.reasons))
        table.add_row(plain(sample.place), str(len(sample.token_ids)), *verdicts, *figures)
    console = stdout_console()
    console.print(table)
    if len(ranked) > ROWS_SHOWN:
        console.print(f"… and {len(ranked) - ROWS_SHOWN} more; --json has all of them")
    console.print(plain(_total(file, audit)), soft_wrap=True)
    if audit.num_degenerate:
        console.print(HUMAN_TEXT_FLAGGED, soft_wrap=True)


def _total(file: str, audit: Audit) -> str:
    if audit.degenerate_share is None or audit.interval is None:
        return f"{file}: no sample has the 100 tokens needed to judge it"
    low, high = audit.interval
    kinds = "".join(f", {count} {kind}" for kind, count in audit.kinds.items())
    return (
        f"{file}: {audit.num_degenerate} of {audit.num_judged} samples degenerate "
        f"({audit.degenerate_share:.1%}, 95 % interval {low:.1%} to {high:.1%}){kinds}"
    )


def _figure(value: object) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
