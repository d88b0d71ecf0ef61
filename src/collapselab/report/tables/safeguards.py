"""What each safeguard does to onset and to the loss on human text, at what cost, and the verdict on it."""

from __future__ import annotations

import pandas as pd

from collapselab.analysis.safeguard_runs import END_STEP, LOSS_STEP
from collapselab.report.entries import Table
from collapselab.report.safeguard_arms import judged
from collapselab.rundir.frames import Runs

COLUMNS = {
    "arm": "arm",
    "model": "model",
    "learning rate": "lr",
    "runs": "num_runs",
    "onsets": "num_onsets",
    "median onset (step)": "onset",
    "verdict": "verdict",
    "delay": "delay",
    "delay, 95 % low": "delay_low",
    "delay, 95 % high": "delay_high",
    "delay, p (Holm)": "delay_p",
    "delay at equal steps": "equal_steps",
    "at equal steps, 95 % low": "equal_steps_low",
    "at equal steps, 95 % high": "equal_steps_high",
    "at equal steps, p (Holm)": "equal_steps_p",
    "only at least": "delay_is_at_least",
    "path per step ÷ none's": "path_ratio",
    "outside the ladder": "is_extrapolated",
    "delay in tokens": "tokens",
    "in tokens, 95 % low": "tokens_low",
    "in tokens, 95 % high": "tokens_high",
    f"loss at step {LOSS_STEP} − none's": "loss",
    "this, 95 % low": "loss_low",
    "this, 95 % high": "loss_high",
    "rise of loss at the end": "rise_end",
    "end (mean step)": "end",
    "rise at the end − none's": "loss_end",
    "at the end, 95 % low": "loss_end_low",
    "at the end, 95 % high": "loss_end_high",
    "entropy kept": "entropy_kept",
    "distinct-4 kept": "distinct_4_kept",
    "time of a step ÷ none's": "time_ratio",
    "further samples per step": "extra_samples",
    "further tokens per step": "extra_tokens",
    "further forward passes per step": "extra_forwards",
    f"rise at step {END_STEP} − pure sampling's": "loss_pure",
    "of pure sampling, 95 % low": "loss_pure_low",
    "of pure sampling, 95 % high": "loss_pure_high",
    "beats pure sampling": "beats_pure",
}


def build(runs: Runs) -> pd.DataFrame | None:
    """One row per arm, `none` first (docs/safeguards.md defines the columns). Losses in nats per token, first text.

    Where a delay is "only at least" so large, no run of the arm had an onset, or one alone.
    """
    found, _ = judged(runs)
    if found.empty:
        return None
    return pd.DataFrame({words: found[name].astype(object) for words, name in COLUMNS.items()})


TABLE = Table("What prevents collapse: safeguards compared", build)
