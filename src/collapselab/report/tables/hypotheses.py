"""The paper's hypotheses with verdicts."""

from __future__ import annotations

import pandas as pd

from collapselab.report.entries import Table
from collapselab.report.groups import run_table
from collapselab.rundir.frames import Runs


def build(runs: Runs) -> pd.DataFrame | None:
    """One row per hypothesis: claim, verdict, effect, interval, p-values for and against (Holm), and the test."""
    if len(run_table(runs)) < 2:
        return None
    from collapselab.analysis.hypotheses import judge

    return pd.DataFrame(
        {
            "hypothesis": found.key,
            "claim": found.claim,
            "verdict": found.verdict,
            "effect": found.effect_name,
            "estimate": found.effect,
            "95 % low": found.low,
            "95 % high": found.high,
            "p (Holm)": found.p_adjusted,
            "p against (Holm)": found.p_against,
            "runs": found.num_runs,
            "seeds": found.num_seeds,
            "test": found.test,
            "note": found.note,
            "footnote": found.footnote or None,
        }
        for found in judge(runs)
    )


TABLE = Table("Hypotheses", build)
