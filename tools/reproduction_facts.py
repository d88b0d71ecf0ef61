"""Prints the numbers in the texts of results/builtin and results/smollm2 that are in no table.

python tools/reproduction_facts.py FOLDER     (of runs, or the unpacked records.tar.xz)
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from collapselab.analysis.comparisons import update_sizes
from collapselab.analysis.evidence import gather, with_ends
from collapselab.analysis.onsets import path_lengths, rate_slopes
from collapselab.rundir.frames import Runs, load_runs

Frame = Any  # pandas has no complete types


def main(folder: str) -> None:
    """Steps and times; onset times rate; first and last losses; update sizes; results of the controls."""
    loaded = load_runs(folder)
    runs: Frame = loaded.runs
    steps: Frame = loaded.steps
    own = runs[runs["run"].str.startswith("own-text/")]
    text = str(own["data"].iloc[0]).split(",")[0]
    tell("steps", runs["num_steps"].sum())
    phases = [name for name in steps.columns if name.startswith("seconds_")]
    tell("core-minutes in timed phases, one thread per run", steps[phases].sum().sum() / 60)
    tell("onset by arm", own.groupby(["model", "lr"])["onset_step"].apply(sorted))
    tell_law(loaded, own["run"])
    tell("kinds at onset", own["kind_at_onset"].value_counts())
    loss = steps.dropna(subset=[f"val_nll_nats[{text}]"]).groupby("run")[f"val_nll_nats[{text}]"]
    last = loss.last()
    early = loss.apply(lambda values: values[steps.loc[values.index, "step"] <= 10].iloc[-1])
    by_seed = early[own["run"]].set_axis([own["model"], own["lr"], own["seed"]])
    tell(f"loss on {text} at step 10, or at the last measurement before", by_seed.unstack())
    tell(f"loss on {text} at the end of own-text runs", last[own["run"]].agg(["min", "max"]))
    tell(
        "of these beyond ln 2048, a uniform guess of the shipped models", int((last[own["run"]] > math.log(2048)).sum())
    )
    mine = steps[steps["run"].isin(own["run"])]
    full = mine[mine["degenerate_share"] == 1].groupby("run")["train_nll_nats"].first()
    left = np.log(full / mine.groupby("run")["train_nll_nats"].first()).mean()
    tell("share of the loss left where the degenerate share is first 1, low diversity included", math.exp(left))
    first = mine[mine["degenerate"].fillna(False)].groupby("run")["step"].min()
    tell("first degenerate step over last, median", (first / mine.groupby("run")["step"].max()).median())
    for name in [name for name in steps.columns if name.startswith("val_nll_nats[")]:
        known = mine.dropna(subset=[name]).groupby("run")[name]
        rises = known.apply(lambda values: bool((values.diff().dropna() > 0).all()))
        tell(f"own-text runs in which {name} rises at every measurement", f"{int(rises.sum())} of {len(rises)}")
    sizes = update_sizes(own, steps).groupby([own["lr"], own["model"]]).mean()
    tell("relative update, first ten steps", sizes.unstack())
    is_frozen = runs["train.other_model"] == runs["model"]
    sources = runs["train.source"].mask(is_frozen, "frozen")
    for source in ("real", "other", "frozen", "shuffled"):
        names = runs.loc[sources == source, "run"]
        if len(names):
            tell(f"rise on {text} of controls ({source})", (last - loss.first())[names].mean())
            degenerate = steps[steps["run"].isin(names)]["degenerate"].fillna(False)
            tell(f"degenerate steps of controls ({source})", int(degenerate.sum()))


def tell_law(loaded: Runs, names: Frame) -> None:
    """How onset and the path up to it go with the learning rate: products run by run, slopes over seeds."""
    runs = gather(loaded).trajectories
    runs = runs[runs["run"].isin(names)]
    runs = runs.assign(path=path_lengths(runs, loaded.steps), x=np.log2(runs["lr"]), stratum=0)
    product = (runs["duration"] * runs["lr"]).groupby([runs["model"], runs["lr"]]).agg(["min", "median", "max"])
    tell("onset times learning rate, of single runs", product)
    tell("path up to onset", runs.groupby(["model", "lr"])["path"].agg(["min", "median", "max"]))
    runs = runs.assign(total=runs["total_collapse_step"].astype(float))
    for clock in ("duration", "total", "path"):
        for model, slope in rate_slopes(runs.assign(duration=runs[clock])).items():
            tell(f"slope of log {clock} on log rate, {model}", with_ends(slope))


def tell(what: str, value: object) -> None:
    """Prints a heading and a value, or a table below it."""
    body = str(value)
    sys.stdout.write(f"{what}:{chr(10) if chr(10) in body else ' '}{body}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
