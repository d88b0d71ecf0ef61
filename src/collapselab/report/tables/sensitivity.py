"""How onset moves when a threshold of collapse moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from collapselab.analysis.sensitivity import judged_runs, onset_with, variations
from collapselab.report.entries import Table
from collapselab.rundir.frames import Runs


def build(runs: Runs) -> pd.DataFrame | None:
    """One row per change of a threshold; the first row has no change.

    For own-text runs with every step recorded. A run stops at total collapse by its own thresholds, so with stricter
    ones its onset may be after its end; the column `lost` counts these.
    """
    judged = judged_runs(runs)
    if not judged:
        return None
    recorded = [onset_with(run, run.rules) for run in judged]
    rows = [{"setting": "as recorded", "change": "none", **_moves(recorded, recorded)}]
    for variation in variations(tells_diversity=all(run.tells_diversity for run in judged)):
        moved = [onset_with(run, variation.apply(run.rules)) for run in judged]
        rows.append({"setting": variation.setting, "change": variation.change, **_moves(recorded, moved)})
    return pd.DataFrame(rows)


def _moves(recorded: Sequence[int | None], moved: Sequence[int | None]) -> dict[str, object]:
    pairs = list(zip(recorded, moved, strict=True))
    shifts = [new - old for old, new in pairs if old is not None and new is not None]
    return {
        "runs": len(pairs),
        "onsets": sum(new is not None for _, new in pairs),
        "earlier": sum(shift < 0 for shift in shifts),
        "unchanged": sum(old == new for old, new in pairs),
        "later": sum(shift > 0 for shift in shifts),
        "new": sum(old is None and new is not None for old, new in pairs),
        "lost": sum(old is not None and new is None for old, new in pairs),
        "median shift (steps)": float(np.median(shifts)) if shifts else None,
        "largest shift (steps)": max(shifts, key=abs) if shifts else None,
    }


TABLE = Table("How onset moves when a threshold of collapse moves", build)
