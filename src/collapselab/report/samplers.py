"""Runs on their own text by what their tokens were drawn from: regimes, arms, and samplers in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collapselab.analysis.comparisons import LOOKING, condition, distinct
from collapselab.analysis.evidence import own_text
from collapselab.analysis.pull import pull
from collapselab.analysis.sampler import arm_names
from collapselab.analysis.survival import Frame
from collapselab.report.groups import run_table
from collapselab.report.values import known, short
from collapselab.rundir.frames import Runs

REGIMES = ("freeze", "drift", "melt")
CUTS = ("top_k", "top_p", "min_p")  # what may cut off unlikely tokens
OTHERS = ("top_n_sigma", "no_repeat_ngram")  # further ones, without a map


def sampler_runs(runs: Runs) -> Frame:
    """The rows of `run_table` on own text, without safeguards, whose onset or censoring is known, each trajectory once.

    With `arm`, its name in `analysis.sampler`; `others`, equal for runs that differ in sampler and seed only; `pull`.
    """
    table: Frame = run_table(runs)
    own = own_text(table)
    own = own[own["run"].isin(distinct(own)["run"])]
    others = condition(own, (*LOOKING, "sampling."))
    return own.assign(arm=arm_names(own), others=others, pull=pull(own, runs.steps))


def sampler_in_words(row: Mapping[str, Any]) -> str:
    """How the tokens were drawn: temperature and what was cut off, from a row with the settings of a run."""
    if row["sampling.greedy"]:
        return "always the likeliest token"
    cuts = [
        f"{cut.replace('_', '-')} {short(row[f'sampling.{cut}'])}"
        for cut in (*CUTS, *OTHERS)
        if known(row, f"sampling.{cut}")
    ]
    penalty = row.get("sampling.repetition_penalty", 1.0)
    cuts += [] if penalty == 1 else [f"repetition penalty {short(penalty)}"]
    temperature = float(row["sampling.temperature"])
    if temperature == 1 and not cuts:
        return "pure sampling (temperature 1)"
    return ", ".join([f"temperature {short(temperature)}", *cuts])
