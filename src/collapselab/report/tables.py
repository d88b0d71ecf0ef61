"""Every table of a report, by its key: what it is called, and how it is made from any runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import TRAINING_SOURCES
from collapselab.config.overrides import settings
from collapselab.config.schema import split_at_commas
from collapselab.report.barcode import judged_samples
from collapselab.report.curves import run_series
from collapselab.report.groups import run_table
from collapselab.report.onset_tables import hypotheses, onset_by_arm, threshold_sensitivity
from collapselab.report.plans import one_run
from collapselab.report.table_files import readable
from collapselab.report.theme import short
from collapselab.rundir.frames import Runs

PAPER_STEPS = (0, 50, 100)  # and the last one: the samples of the paper's Table 1
SAMPLE_CHARS = 400
MAX_ARMS = 6  # side by side in the table of settings
STEPS = {
    "onset (step)": "onset_step",
    "total collapse (step)": "total_collapse_step",
    "lost (step)": "lost_step",
    "diverged (step)": "diverged_step",
    "last step": "last_step",
}


@dataclass(frozen=True)
class Table:
    """A table of any runs: `build` returns `None` where the runs do not have what it needs.

    The columns of the frame are its headings. Unknown cells are `None` or NaN; text is as it was written, so that
    whoever prints it must escape it (`table_files`).
    """

    key: str
    title: str
    build: Callable[[Runs], pd.DataFrame | None]


def sample_texts(runs: Runs) -> pd.DataFrame | None:
    """The beginnings of what one run wrote at steps 0, 50, 100 and at its last one; the paper's Table 1.

    The run is the one that the anatomy and the barcode show. Of a step that was not recorded, the one before it.
    """
    row = one_run(runs)
    if row is None:
        return None
    samples, steps = cast(Frame, runs.samples), cast(Frame, runs.steps)
    judged = judged_samples(samples[samples["run"] == row["run"]], row).set_index("step")
    if judged.empty:
        return None
    steps = steps[steps["run"] == row["run"]].set_index("step")
    last = int(judged.index.max())
    wanted = [int(judged.index[judged.index <= step].max()) for step in (*PAPER_STEPS, last) if step <= last]
    label = f"{row['model']}, learning rate {short(row['lr'])}, seed {row['seed']}"
    return pd.DataFrame(
        {
            "run": label,
            "step": step,
            "training loss (nats per token)": _cell(steps, step, "train_nll_nats"),
            "degenerate": _cell(steps, step, "kind") or _yes_or_no(_cell(steps, step, "degenerate")),
            "text": _cut(str(judged.loc[step, "text"])),
        }
        for step in dict.fromkeys(wanted)
    )


def resolved_settings(runs: Runs) -> pd.DataFrame | None:
    """Every setting, as resolved; the paper's Table 2.

    Arms that differ in more than model, learning rate and what does not touch training stand side by side, if they are
    few. Where runs of one column differ, all their values are listed.
    """
    table = run_table(runs)
    if table.empty:
        return None
    names = ["lr" if name == "optim.lr" else name for name, _ in settings()]
    names = [name for name in names if name in table]
    arms = {label or "all runs": rows for label, rows in table.groupby("rest_label", sort=False)}
    arms = arms if len(arms) <= MAX_ARMS else {"all runs": table}
    columns = {label: [_listed(rows[name]) for name in names] for label, rows in arms.items()}
    return pd.DataFrame({"setting": ["optim.lr" if name == "lr" else name for name in names], **columns})


def all_runs(runs: Runs) -> pd.DataFrame | None:
    """A row a run: what it was, how it ended and when, and its losses at the first and the last step."""
    table = run_table(runs)
    if table.empty:
        return None
    texts = list(dict.fromkeys(text for data in table["data"] for text in split_at_commas(str(data))))
    losses = {
        "training loss": "train_nll_nats",
        **{f"validation loss, {text}": f"val_nll_nats[{text}]" for text in texts},
    }
    columns: dict[str, Sequence[object]] = {
        "run": table["run"].tolist(),
        "model": table["model"].tolist(),
        "trained on": table["train.source"].map(TRAINING_SOURCES).tolist(),
        "learning rate": table["lr"].tolist(),
        "seed": table["seed"].tolist(),
        "ended by": table["ending"].tolist(),
    }
    columns |= {words: table[name].astype(object).tolist() for words, name in STEPS.items() if name in table}
    columns |= {"kind at the end": table["kind_at_end"].tolist()} if "kind_at_end" in table else {}
    for words, name in losses.items():
        series = run_series(runs.steps, name)
        for end, index in (("first", 0), ("last", -1)):
            columns[f"{words}, {end}"] = [
                float(series[run][1][index]) if run in series else None for run in table["run"]
            ]
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _cell(steps: Frame, step: int, name: str) -> Any:
    if name not in steps or step not in steps.index:
        return None
    value = steps.loc[step, name]
    return None if bool(pd.isna(value)) else value


def _yes_or_no(value: Any) -> str | None:
    return None if value is None else ("yes" if value else "no")


def _cut(text: str) -> str:
    return text if len(text) <= SAMPLE_CHARS else text[:SAMPLE_CHARS] + " …"


def _listed(values: Frame) -> str:
    """The values that occur: numbers in order of size."""
    found = {readable(value) or "(empty)": value for value in values.tolist()}
    is_numeric = all(isinstance(value, (int, float)) and not math.isnan(value) for value in found.values())
    return ", ".join(sorted(found, key=lambda words: found[words]) if is_numeric else found)


_TABLES = (
    Table("table-1", "Table 1: samples of one run at steps 0, 50, 100 and the last", sample_texts),
    Table("table-2", "Table 2: settings, as resolved", resolved_settings),
    Table("runs", "Runs (losses in nats per token)", all_runs),
    Table("onset", "Onset of collapse by arm", onset_by_arm),
    Table("hypotheses", "Hypotheses", hypotheses),
    Table("sensitivity", "How onset moves when a threshold of collapse moves", threshold_sensitivity),
)
TABLES: dict[str, Table] = {table.key: table for table in _TABLES}
