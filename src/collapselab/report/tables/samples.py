"""Table 1: the beginnings of samples of one run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.report.describe import rate_and_seed
from collapselab.report.entries import Table
from collapselab.report.selection import one_run
from collapselab.rundir.frames import Runs

PAPER_STEPS = (0, 50, 100)  # and the last one: the samples of the paper's Table 1
MAX_CHARS = 400


def build(runs: Runs) -> pd.DataFrame | None:
    """One row for each of the steps 0, 50, 100 and the last; for a missing step, the one before it, or the first.

    The run is the one that the anatomy and the barcode show.
    """
    found = one_run(runs)
    if found is None or found.samples.empty:
        return None
    row, steps, samples = found.row, found.steps.set_index("step"), found.samples.set_index("step")
    first, last = int(samples.index.min()), int(samples.index.max())  # the first of a watched training may be any
    wanted = [max(first, step) for step in (*PAPER_STEPS, last) if step <= last]
    wanted = [int(samples.index[samples.index <= step].max()) for step in wanted]
    return pd.DataFrame(
        {
            "run": ", ".join([row["model"], *rate_and_seed(row)]),
            "step": step,
            "training loss (nats per token)": _cell(steps, step, "train_nll_nats"),
            "degenerate": _cell(steps, step, "kind") or _yes_or_no(_cell(steps, step, "degenerate")),
            "text": _cut(str(samples.loc[step, "text"])),
        }
        for step in dict.fromkeys(wanted)
    )


def _cell(steps: Frame, step: int, name: str) -> Any:
    if name not in steps or step not in steps.index:
        return None
    value = steps.loc[step, name]
    return None if bool(pd.isna(value)) else value


def _yes_or_no(value: Any) -> str | None:
    return None if value is None else ("yes" if value else "no")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + " …"


TABLE = Table("Table 1: samples of one run at steps 0, 50, 100 and the last", build)
