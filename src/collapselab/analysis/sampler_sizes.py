"""S4, and onset against size at equal rate, at equal updates, and at equal sharpening and updates (docs/sampler.md)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import (
    LOOKING,
    UPDATE_TOLERANCE,
    condition,
    equal_update_sets,
    num_parameters,
)
from collapselab.analysis.evidence import Finding, Material, equivalence, gather, missing
from collapselab.analysis.intervals import Estimate
from collapselab.analysis.sampler import arms_of
from collapselab.analysis.sampler_line import LEAST_ONSET
from collapselab.analysis.sampler_pull import frozen
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import log_time_ratio_of_models
from collapselab.rundir.frames import Runs

SIZE_RATIO, MIN_MODELS = (0.87, 1.15), 4
COMPARISONS = ("equal learning rate", "equal updates", "equal sharpening and updates")


def onsets_by_size(runs: Runs) -> pd.DataFrame:
    """The arms that freeze in which models are compared, a row an arm and comparison.

    The columns of `sampler.arms`, with `comparison` (one of `COMPARISONS`), `set` (arms that are equal in this respect,
    of two models or more) and `num_parameters`.
    """
    material = gather(runs)
    arms: Frame = arms_of(material)
    found: list[Frame] = []
    for comparison, rows in _compared(material).items():
        of_arm = rows.groupby("arm")[["stratum", "num_parameters"]].first()
        part = arms[arms["arm"].isin(of_arm.index)]
        numbers = pd.factorize(part["arm"].map(of_arm["stratum"]))[0]
        sizes = part["arm"].map(of_arm["num_parameters"]).astype(float)
        found.append(part.assign(comparison=comparison, set=numbers, num_parameters=sizes))
    return pd.concat(found, ignore_index=True)


def ratios_by_size(runs: Runs) -> pd.DataFrame:
    """The time ratio of onset per doubling of parameters in each comparison, models as units: a row a comparison.

    Columns `comparison`, `ratio`, `low`, `high`, `num_models`, `num_sets`, `num_runs`.
    """
    rows: list[tuple[object, ...]] = []
    for comparison, part in _compared(gather(runs)).items():
        ratio, num_models = _ratio(part)
        interval = ratio.interval(math.exp)
        ends = (interval.estimate, interval.low, interval.high)
        rows.append((comparison, *ends, num_models, part["stratum"].nunique(), len(part)))
    names = ("comparison", "ratio", "low", "high", "num_models", "num_sets", "num_runs")
    return pd.DataFrame(rows, columns=pd.Index(names)).astype(dict.fromkeys(names[1:4], float))


def size_is_nothing(material: Material) -> Finding:
    """S4: the time ratio per doubling of parameters at equal sharpening and equal updates, models as units."""
    rows = _compared(material)[COMPARISONS[-1]]
    if rows.empty:
        return missing("needs arms of two models or more that freeze, at equal sharpening and equal relative updates")
    ratio, num_models = _ratio(rows)
    p_for, p_against, direction = equivalence(ratio, *map(math.log, SIZE_RATIO))
    note = f"{num_models} models in {rows['stratum'].nunique()} sets of arms"
    if num_models < MIN_MODELS:
        p_for, p_against, note = None, None, f"a verdict needs {MIN_MODELS} models or more; {note}"
    counts = (len(rows), rows["seed"].nunique())
    return Finding(ratio.interval(math.exp), p_for, p_against, direction, *counts, note)


def _compared(material: Material) -> dict[str, Frame]:
    """The runs of arms that freeze, by comparison, where there are two models in a `stratum`."""
    rows = frozen(material)
    rows = rows.assign(num_parameters=num_parameters(rows))
    rows = rows.dropna(subset=["num_parameters", "sharpening_nats", "relative_update_norm"])
    strata = (condition(rows, (*LOOKING, "model")), equal_update_sets(rows, material.steps), equal_pulls(rows))
    found: dict[str, Frame] = {}
    for comparison, stratum in zip(COMPARISONS, strata, strict=True):
        part = rows.assign(stratum=stratum)
        found[comparison] = part[part.groupby("stratum")["model"].transform("nunique") > 1]
    return found


def _ratio(rows: Frame) -> tuple[Estimate, int]:
    time = np.maximum(rows["duration"].to_numpy(dtype=float), LEAST_ONSET)
    columns = [rows[name].to_numpy() for name in ("is_event", "model", "stratum")]
    return log_time_ratio_of_models(
        time, columns[0], np.log2(rows["num_parameters"].to_numpy(dtype=float)), *columns[1:]
    )


def equal_pulls(rows: Frame) -> Frame:
    """The set of arms that each run belongs to: arms of different models with equal sharpening and updates.

    Equal: within a tenth of the first arm of the set. Other settings are equal, except temperature and rate. Arms are
    taken in the order of their updates; each joins the first set that it fits, and is in one set only.
    """
    group = condition(rows, (*LOOKING, "model", "lr", "sampling.temperature"))
    arms = rows.assign(group=group).groupby(["group", "arm", "model"])[["sharpening_nats", "relative_update_norm"]]
    sets: list[tuple[str, set[str], float, float]] = []
    numbers: dict[str, int] = {}
    means: Frame = arms.mean().sort_values("relative_update_norm", kind="stable")
    for (of_group, arm, model), sharpening, update in means.itertuples(name=None):
        for number, (its_group, models, first, size) in enumerate(sets):
            is_equal = update <= UPDATE_TOLERANCE * size and abs(math.log(sharpening / first)) <= math.log(
                UPDATE_TOLERANCE
            )
            if its_group == of_group and model not in models and is_equal:
                numbers[arm] = number
                models.add(model)
                break
        else:
            numbers[arm] = len(sets)
            sets.append((of_group, {model}, sharpening, update))
    return rows["arm"].map(numbers)
