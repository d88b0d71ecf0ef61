"""Which runs may be compared: those that share every setting but the ones studied, each trajectory once."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from collapselab.models import model_names
from collapselab.overrides import settings
from collapselab.survival import Frame

# Settings that look at a trajectory or end it, and change nothing in it; prefixes of names.
LOOKING = ("data", "eval.", "stop.")
# Settings in which a control differs from the own-text run beside it.
CONTROL = ("train.source", "train.real_text", "train.other_model", "collapse.source", "collapse.probe_")
UPDATE_STEPS = 10  # the first steps, whose mean relative update is the size of an arm's updates
UPDATE_TOLERANCE = 1.10
_NO_SETTING = ("seed", "threads", "checkpoint_every_s")


def distinct(frame: Frame) -> Frame:
    """A run a trajectory, of those whose onset or censoring is known (`duration`, `is_event`).

    Runs that differ only in what is evaluated on, or in when they stop, are one trajectory seen twice; the one with
    onset, or else the one seen for longer, stands for it.
    """
    known = frame[frame["duration"].notna()]
    known = known.assign(trajectory=condition(known, LOOKING))
    known = known.sort_values(["is_event", "duration"], ascending=False, kind="stable")
    return known.drop_duplicates(["trajectory", "seed"]).drop(columns="trajectory").sort_index()


def condition(frame: Frame, without: Sequence[str]) -> Frame:
    """A label for each run: equal where all settings are, but the seed and those whose names begin with `without`."""
    names = ["lr" if name == "optim.lr" else name for name, _ in settings()]
    names = [name for name in names if name not in _NO_SETTING and not name.startswith(tuple(without))]
    # As text: some values are lists, and unknown ones must equal each other.
    values = frame.reindex(columns=names).astype(str)
    return pd.Series(["|".join(row) for row in values.to_numpy()], index=frame.index, dtype=object)


def num_parameters(frame: Frame) -> Frame:
    """The parameters of each run's model: the column of that name, or else those of the models with a name."""
    known = {info.name: info.num_parameters for info in model_names()}
    by_name = frame["model"].map(known).astype(float)
    return frame["num_parameters"].astype(float).fillna(by_name) if "num_parameters" in frame else by_name


def equal_update_sets(frame: Frame, steps: Frame) -> Frame:
    """The number of the set of arms with equally large updates that each run belongs to; NaN where that is unknown.

    An arm is a model at a learning rate, other settings equal. The size of its updates is the mean of
    `relative_update_norm` over the first ten steps of its runs. From the smallest size on, a set takes arms of
    different models up to a tenth above its first; an arm is in one set only.
    """
    early = steps.reindex(columns=["run", "step", "relative_update_norm"])
    early = early[early["step"] < UPDATE_STEPS].astype({"relative_update_norm": float})
    keys = ["stratum", "model", "lr"]
    arm = frame[["model", "lr"]].assign(
        stratum=condition(frame, (*LOOKING, "model", "lr")),
        size=frame["run"].map(early.groupby("run")["relative_update_norm"].mean()),
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
