"""Which runs may be compared: those that share every setting but the ones studied, each trajectory once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.config.overrides import settings
from collapselab.errors import InputError
from collapselab.inputs.models import model_names
from collapselab.rundir.frames import Runs

# Settings that look at a trajectory or end it, and change nothing in it; prefixes of names.
LOOKING = ("data", "eval.", "stop.")
# Settings that say which text shows a collapse, and change nothing in a trajectory either.
JUDGING = ("collapse.source", "collapse.probe_")
# Settings in which a control differs from the own-text run beside it.
CONTROL = ("train.source", "train.real_text", "train.other_model", *JUDGING)
UPDATE_STEPS = 10  # the first steps, whose mean relative update is the size of an arm's updates
UPDATE_TOLERANCE = 1.10
CARRIED_OUT = ("threads", "engine", "device", "checkpoint_every_s", "keep_checkpoints")  # how, not what a run does


def unguarded(frame: Frame) -> Frame:
    """The runs without safeguards: when models collapse by themselves is told by these."""
    return frame[frame["safeguards"] == "none"] if "safeguards" in frame else frame


def distinct(frame: Frame, judged_by: Literal["stream", "probe"] = "stream") -> Frame:
    """A run a trajectory, of those whose onset or censoring is known (`duration`, `is_event`).

    Runs that differ only in what is evaluated on, in which text shows a collapse, or in when they stop, are one
    trajectory seen twice. One with that `collapse.source` stands for it, among these one with onset, or else the one
    seen for longest.
    """
    known = frame[frame["duration"].notna()]
    known = known.assign(trajectory=trajectory(known), preferred=known["collapse.source"] == judged_by)
    known = known.sort_values(["preferred", "is_event", "duration"], ascending=False, kind="stable")
    return known.drop_duplicates("trajectory").drop(columns=["trajectory", "preferred"]).sort_index()


def trajectory(frame: Frame) -> Frame:
    """A label for each run: equal where the models went the same way. Whoever counts runs counts these."""
    return condition(frame, (*LOOKING, *JUDGING)) + "|" + frame["seed"].astype(str)


def condition(frame: Frame, without: Sequence[str]) -> Frame:
    """A label for each run: equal where all settings are, but the seed and those whose names begin with `without`."""
    names = ["lr" if name == "optim.lr" else name for name, _ in settings()]
    names = [name for name in names if name not in ("seed", *CARRIED_OUT) and not name.startswith(tuple(without))]
    # As text: some values are lists, and unknown ones must equal each other.
    values = frame.reindex(columns=names).astype(str)
    return pd.Series(["|".join(row) for row in values.to_numpy()], index=frame.index, dtype=object)


def num_parameters(frame: Frame) -> Frame:
    """The parameters of each run's model: the column of that name, or else those of the models with a name."""
    known = {info.name: info.num_parameters for info in model_names()}
    by_name = frame["model"].map(known).astype(float)
    return frame["num_parameters"].astype(float).fillna(by_name) if "num_parameters" in frame else by_name


def update_sizes(frame: Frame, steps: Frame) -> Frame:
    """The size of each run's updates: the mean of `relative_update_norm` over its first ten steps; NaN if unknown."""
    early = steps.reindex(columns=["run", "step", "relative_update_norm"])
    early = early[early["step"] < UPDATE_STEPS].astype({"relative_update_norm": float})
    return frame["run"].map(early.groupby("run")["relative_update_norm"].mean())


def equal_update_rates(runs: Runs, models: Sequence[str], rates: Sequence[float]) -> dict[tuple[str, float], float]:
    """The learning rate at which each further model's updates are as large as the first one's, by (model, rate).

    From own-text runs of every model at every rate: AdamW's updates are proportional to the rate, so a rate is scaled
    by the ratio of `update_sizes` at it, and rounded to three digits. Only the first seed is looked at, so that further
    seeds do not move the rates.

    Raises:
        InputError: no such runs of a model at a rate.
    """
    frame = unguarded(cast(Frame, runs.runs))
    own = frame[(frame["train.source"] == "own") & (frame["seed"] == frame["seed"].min())]
    sizes = update_sizes(own, runs.steps).groupby([own["model"], own["lr"]]).mean().dropna()
    missing = next(((m, r) for m in models for r in rates if (m, r) not in sizes.index), None)
    if missing is not None:
        message = f"no own-text run of {missing[0]} at learning rate {missing[1]:g} has records of its updates"
        raise InputError(message, "its update size is needed to match other models to it; repeat the command")
    first, *others = models
    return {(m, r): float(f"{r * sizes[first, r] / sizes[m, r]:.3g}") for r in rates for m in others}


def equal_update_sets(frame: Frame, steps: Frame) -> Frame:
    """The number of the set of arms with equally large updates that each run belongs to; NaN where that is unknown.

    An arm is a model at a learning rate, other settings equal, and its size the mean `update_sizes` of its runs. From
    the smallest size on, a set takes arms of different models up to a tenth above its first; an arm is in one set only.
    """
    keys = ["stratum", "model", "lr"]
    arm = frame[["model", "lr"]].assign(
        stratum=condition(frame, (*LOOKING, "model", "lr")), size=update_sizes(frame, steps)
    )
    sizes = arm.groupby(keys)["size"].mean().dropna().sort_values(kind="stable")
    numbers: dict[tuple[object, ...], int] = {}
    number = 0
    for _, part in sizes.groupby(level="stratum"):
        models, first = set[object](), 0.0
        for key, size in zip(part.index, part, strict=True):
            model = key[1]
            if model in models or size > UPDATE_TOLERANCE * first:
                number, models, first = number + 1, set[object](), float(size)
            models.add(model)
            numbers[key] = number
    found = [numbers.get(key) for key in zip(*(arm[name] for name in keys), strict=True)]
    return pd.Series(found, index=frame.index, dtype=float)
