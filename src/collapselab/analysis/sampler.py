"""The arms of the sampler: what each sampler did to a model, by the rules of docs/sampler.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import CARRIED_OUT, JUDGING, LOOKING, UPDATE_STEPS
from collapselab.analysis.evidence import Material, gather, own_text
from collapselab.analysis.intervals import Estimate, Interval
from collapselab.analysis.pull import pull
from collapselab.analysis.survival import Frame, median_step
from collapselab.config.overrides import settings
from collapselab.config.schema import RunConfig
from collapselab.records import flatten
from collapselab.rundir.frames import Runs

# The settings of an arm that have a column of their own, by column.
SETTINGS = {
    "model": "model",
    "lr": "lr",
    "temperature": "sampling.temperature",
    "top_k": "sampling.top_k",
    "top_p": "sampling.top_p",
    "min_p": "sampling.min_p",
    "batch_size": "generate.batch_size",
    "optimizer": "optim.name",
    "weight_decay": "optim.weight_decay",
}
CUTS = ("sampling.top_k", "sampling.top_p", "sampling.min_p")
OTHER_CUTS = ("sampling.top_n_sigma", "sampling.no_repeat_ngram")
_NAMED_ALWAYS = ("model", "optim.lr", "sampling.temperature")
_HALF = 1 / 2


def arms(runs: Runs) -> pd.DataFrame:
    """What became of each arm, the runs on their own text that differ in the seed only: a row an arm.

    - `arm`: its name, made of the settings that are not the defaults; then those of `SETTINGS`, a column each;
    - `num_runs`: its trajectories; `onset`: the median of their onsets (Kaplan-Meier), NaN if fewer than half have one;
    - `onset_share`, `repetition_share`, `melted_share`: how many have an onset, one of repetition, and melt;
    - `regime`: freeze if half have an onset of repetition, melt if half melt, else drift;
    - `entropy_slope`, `…_low`, `…_high`: nats per step to onset or the last step, least squares in each run, with the
      t-interval over runs; `slope_agrees`: the interval is below 0 (freeze) or above (melt); NA in the drift;
    - `sharpening_nats`, `relative_update_norm`, `pull_nats` (H(p) - H(q)): means over steps 0 to 9 and the runs;
    - `val_rise_nats`: of the loss on the first text, from step 0 to the last evaluated one, mean of the runs.
    """
    return arms_of(gather(runs))


def arms_of(material: Material) -> pd.DataFrame:
    """`arms`, from what claims are judged from."""
    rows = measured(material)
    groups = rows.groupby("arm", sort=False)
    found: Frame = groups[list(SETTINGS.values())].first().set_axis(list(SETTINGS), axis=1)
    found = found.astype(dict.fromkeys(set(SETTINGS) - {"model", "optimizer", "batch_size"}, float))
    found = found.assign(
        num_runs=groups.size(),
        onset=[median_step(part["duration"], part["is_event"]) for _, part in groups],
        **{name: groups[flag].mean() for name, flag in _SHARES.items()},
    )
    found = found.astype({"onset": float})
    found["regime"] = regimes(rows)
    slopes = [t_interval(part["entropy_slope"]) for _, part in groups]
    found["entropy_slope"], found["entropy_slope_low"], found["entropy_slope_high"] = np.array(
        [[slope.estimate, slope.low, slope.high] for slope in slopes], dtype=float
    ).reshape(-1, 3).T  # fmt: skip
    agrees = cast(Any, np).where(
        found["regime"] == "freeze", found["entropy_slope_high"] < 0, found["entropy_slope_low"] > 0
    )
    found["slope_agrees"] = pd.array(agrees, dtype="boolean")
    found.loc[(found["regime"] == "drift") | found["entropy_slope_low"].isna(), "slope_agrees"] = pd.NA
    for name in ("sharpening_nats", "relative_update_norm", "pull_nats", "val_rise_nats"):
        found[name] = groups[name].mean()
    return found.reset_index()


_SHARES = {"onset_share": "is_event", "repetition_share": "is_repetition", "melted_share": "is_melted"}


def measured(material: Material) -> Frame:
    """The trajectories on own text, a row each, with their arm and what its row is made of."""
    rows = own_text(material.trajectories)
    steps: Frame = material.steps[material.steps["run"].isin(rows["run"])]
    kind = rows.reindex(columns=["kind_at_onset"])["kind_at_onset"]
    early = steps[steps["step"] < UPDATE_STEPS]
    return rows.assign(
        arm=arm_names(rows),
        is_repetition=rows["is_event"] & (kind != "melted"),
        is_melted=rows.reindex(columns=["fate"])["fate"] == "melted",
        entropy_slope=entropy_slopes(rows, steps),
        pull_nats=pull(rows, steps),
        val_rise_nats=rows["run"].map(_rises(steps)),
        **{
            name: rows["run"].map(_numbers(early, name).groupby(early["run"]).mean())
            for name in ("sharpening_nats", "relative_update_norm")
        },
    )


def regimes(rows: Frame) -> Frame:
    """The regime of each arm, from rows of `measured`: freeze, melt or drift."""
    shares = rows.groupby("arm", sort=False)[["is_repetition", "is_melted"]].mean() >= _HALF
    found = np.select([shares["is_repetition"], shares["is_melted"]], ["freeze", "melt"], "drift")
    return pd.Series(found, index=shares.index)


def arm_names(frame: Frame) -> list[str]:
    """The name of each run's arm: model, rate, temperature and what else is not the default, in the settings' order."""
    default = {name: as_text(value) for name, value in flatten(RunConfig().model_dump(mode="json"))}
    default["safeguards"] = "none"  # as `load_runs` has it
    without = ("seed", "data", *CARRIED_OUT)
    names = [name for name, _ in settings() if name not in without and not name.startswith((*LOOKING, *JUDGING))]
    columns = ["lr" if name == "optim.lr" else name for name in names]
    found: list[str] = []
    for values in frame.reindex(columns=columns).itertuples(index=False, name=None):
        texts = zip(names, map(as_text, values), strict=True)
        found.append(" ".join(f"{n}={text}" for n, text in texts if n in _NAMED_ALWAYS or text != default[n]))
    return found


def entropy_slopes(rows: Frame, steps: Frame) -> Frame:
    """The slope of the entropy while writing against the step, by least squares, up to each run's onset or last step.

    Nats per step; NaN for fewer than two steps.
    """
    end = steps["run"].map(rows.set_index("run")["duration"].where(rows["is_event"].to_numpy(), np.inf))
    columns = {"run": steps["run"], "x": steps["step"].astype(float), "y": _numbers(steps, "entropy_nats")}
    known: Frame = pd.DataFrame(columns)
    known = known[(known["x"] <= end) & np.isfinite(known["y"])]
    centred: Frame = known[["x", "y"]] - known.groupby("run")[["x", "y"]].transform("mean")
    products: Frame = centred.assign(run=known["run"], xy=centred["x"] * centred["y"], xx=centred["x"] ** 2)
    sums = products.groupby("run")[["xy", "xx"]].sum()
    return rows["run"].map(sums["xy"] / sums["xx"].where(sums["xx"] > 0))


def is_pure(frame: Frame) -> Frame:
    """Which rows are drawn from the model itself: temperature 1, nothing cut off."""
    return (frame["sampling.temperature"].astype(float) == 1) & ~is_cut(frame) & ~frame["sampling.greedy"].astype(bool)


def is_cut(frame: Frame) -> Frame:
    """Which rows cut something off, by top-k, top-p or min-p, or by another rule."""
    penalty = frame.reindex(columns=["sampling.repetition_penalty"]).astype(float).fillna(1.0)
    return frame.reindex(columns=[*CUTS, *OTHER_CUTS]).notna().any(axis=1) | (penalty != 1).any(axis=1)


def t_interval(values: Sequence[float] | Frame) -> Interval:
    """The mean of independent values with its t-interval; none for one value."""
    return t_estimate(values).interval()


def t_estimate(values: Sequence[float] | Frame) -> Estimate:
    """The mean of independent values and its standard error; values that are not finite are left out."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Estimate(None, None, 0, 0)
    error = float(known.std(ddof=1)) / np.sqrt(len(known)) if len(known) > 1 else None
    return Estimate(float(known.mean()), error or None, len(known) - 1, len(known))


def _rises(steps: Frame) -> Frame:
    losses = steps.assign(loss=_numbers(steps, "val_nll_nats"))
    by_run = losses[losses["loss"].notna()].sort_values("step").groupby("run")["loss"]
    return by_run.last() - by_run.first()


def _numbers(steps: Frame, name: str) -> Frame:
    return steps.reindex(columns=[name])[name].astype(float)


def as_text(value: object) -> str:
    """A setting's value in a name, however a frame holds it: 500 and 500.0 are one, and so are NaN and None."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, np.number)):
        return f"{float(cast(Any, value)):g}"
    return str(value)
