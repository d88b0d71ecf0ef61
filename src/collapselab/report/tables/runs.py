"""Every run: its settings, how and when it ended, and its losses."""

from __future__ import annotations

import pandas as pd

from collapselab.collapse.words import TRAINING_SOURCES
from collapselab.config.base import split_at_commas
from collapselab.report.curves import run_series
from collapselab.report.describe import watched
from collapselab.report.entries import Table
from collapselab.report.groups import run_table
from collapselab.rundir.frames import Runs

COLUMNS = {
    "run": "run",
    "model": "model",
    "trained on": "train.source",
    "learning rate": "lr",
    "seed": "seed",
    "ended by": "ending",
    "onset (step)": "onset_step",
    "total collapse (step)": "total_collapse_step",
    "lost (step)": "lost_step",
    "diverged (step)": "diverged_step",
    "last step": "last_step",
    "kind at the end": "kind_at_end",
}


def build(runs: Runs) -> pd.DataFrame | None:
    """One row per run, with its losses at the first and the last step."""
    table = run_table(runs)
    if table.empty:
        return None
    frame = pd.DataFrame({words: table[name].astype(object) for words, name in COLUMNS.items() if name in table})
    frame["trained on"] = table["train.source"].map(TRAINING_SOURCES).astype(object)
    frame.loc[watched(table), ["trained on", "seed"]] = None
    losses = {"training loss": "train_nll_nats"}
    losses |= {
        f"validation loss, {text}": f"val_nll_nats[{text}]"
        for text in dict.fromkeys(text for data in table["data"] for text in split_at_commas(str(data)))
    }
    for words, name in losses.items():
        series = run_series(runs.steps, name)
        for end, index in (("first", 0), ("last", -1)):
            ends = [float(series[run][1][index]) if run in series else None for run in table["run"]]
            frame[f"{words}, {end}"] = pd.Series(ends, dtype=object)
    return frame


TABLE = Table("Runs (losses in nats per token)", build)
