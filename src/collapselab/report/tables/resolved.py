"""Table 2: every setting, as resolved."""

from __future__ import annotations

import pandas as pd

from collapselab.report.describe import settings_of
from collapselab.report.entries import Table
from collapselab.report.groups import run_table
from collapselab.report.values import occurring
from collapselab.rundir.frames import Runs

MAX_ARMS = 6  # side by side


def build(runs: Runs) -> pd.DataFrame | None:
    """One row per setting.

    A few arms that differ in more than model, learning rate and settings that do not affect training are side by side.
    If runs of one column differ, all their values are listed.
    """
    table = run_table(runs)
    if table.empty:
        return None
    names = settings_of(table)
    arms = {label or "all runs": rows for label, rows in table.groupby("rest_label", sort=False)}
    arms = arms if len(arms) <= MAX_ARMS else {"all runs": table}
    columns = {label: [", ".join(occurring(rows[name])) for name in names] for label, rows in arms.items()}
    return pd.DataFrame({"setting": ["optim.lr" if name == "lr" else name for name in names], **columns})


TABLE = Table("Table 2: settings, as resolved", build)
