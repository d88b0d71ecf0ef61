"""What heals a collapsed model, what moves onset that the paper leaves open, and what a dose of own text does.

Every rule here was written down before its runs (docs/safeguards.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.comparisons import JUDGING, LOOKING, condition, distinct
from collapselab.analysis.evidence import gather
from collapselab.analysis.intervals import holm, share_interval
from collapselab.analysis.safeguard_runs import NONE
from collapselab.analysis.safeguards import Delay, delay
from collapselab.analysis.sampler import as_text, t_estimate
from collapselab.analysis.survival import Frame
from collapselab.config.overrides import settings
from collapselab.config.safeguards import parse
from collapselab.rundir.frames import Runs

RECOVERY_STEPS, HEALTHY_STEPS = 180, 30
MIN_OPEN_ARMS = 5  # beside the first; fewer are another comparison
OPEN = ("generate.", "train.", "optim.")
_NOT_OPEN = ("train.source", "train.real_text", "train.other_model", "optim.lora_rank")


def recoveries(runs: Runs) -> pd.DataFrame:
    """A row per run that goes on past collapse, with `rollback` or nothing: did it heal?

    `remedy` ("none": nothing), `past` (steps past the step at which onset is known), `is_healed` (none of the last 30
    steps of 180 is degenerate), `rise_end`: of the loss on the first text. Runs that did not come so far, or in which
    nothing was done for want of an onset, are left out. Of several models or rates with a remedy, the one with the
    most runs.
    """
    rows = _that_go_on(runs)
    if rows.empty:
        return rows
    remedy = [_remedy(text) for text in rows["safeguards"]]
    rows = rows.assign(remedy=[found[0] for found in remedy], past=[found[1] for found in remedy])
    rows = rows[rows["remedy"].notna() & rows["onset_step"].notna()]
    rows = rows.assign(base=condition(rows, ("safeguards", *LOOKING, *JUDGING)))
    healed = rows[rows["remedy"] != NONE]
    if healed.empty:
        return healed
    rows = rows[rows["base"] == healed["base"].value_counts(sort=False).idxmax()]
    steps = _steps_of(runs, rows)
    last = steps[(steps["step"] > RECOVERY_STEPS - HEALTHY_STEPS) & (steps["step"] <= RECOVERY_STEPS)]
    counts = last[last["degenerate"].notna()].groupby("run")["degenerate"].agg(["size", "sum"]).reindex(rows["run"])
    is_seen = (counts["size"] == HEALTHY_STEPS).to_numpy()
    rows = rows.assign(is_healed=(counts["sum"] == 0).to_numpy(), rise_end=_rise_end(rows, steps))
    return rows[is_seen].reset_index(drop=True)


def recovery_shares(rows: Frame) -> pd.DataFrame:
    """A row per remedy and its beginning: `num_runs`, `num_healed`, their share with its exact interval, `rise_end`."""
    found: list[dict[str, Any]] = []
    for (remedy, past), part in rows.groupby(["remedy", "past"], sort=True):
        num = int(part["is_healed"].sum())
        share = share_interval(num, len(part))
        row: dict[str, Any] = {"remedy": remedy, "past": past, "num_runs": len(part), "num_healed": num}
        row |= {"share": share.estimate}
        found.append(row | {"low": share.low, "high": share.high, "rise_end": part["rise_end"].mean()})
    return pd.DataFrame(found)


def left_open(runs: Runs) -> list[tuple[str, Delay, Frame]]:
    """What the paper leaves open: name, time ratio to the first arm, and runs of each arm; the first has no changes.

    Own-text runs without safeguards that end at total collapse, of the model and rate with most such arms. The first is
    the arm from which the others differ in the fewest settings. Arms that differ in the rate are left out, unless the
    optimiser, to which it belongs, differs too.
    """
    rows = cast(Frame, runs.runs)
    if "safeguards" not in rows or len(rows) <= MIN_OPEN_ARMS:
        return []
    rows = gather(runs).trajectories
    rows = rows[(rows["train.source"] == "own") & (rows["safeguards"] == NONE)]
    rows = rows[rows["stop.on_collapse"].astype(bool)]
    names = [n for n, _ in settings() if n.startswith(OPEN) and n not in _NOT_OPEN]
    columns = ["lr" if name == "optim.lr" else name for name in names]
    rows = rows.assign(base=condition(rows, (*LOOKING, *JUDGING, *columns)), time=rows["duration"].clip(lower=0.5))
    best: list[tuple[str, Delay, Frame]] = []
    for _, part in rows.groupby("base"):
        arms = _changed_arms(part, names, part.reindex(columns=columns).map(as_text).to_numpy(dtype=object))
        if len(arms) > max(MIN_OPEN_ARMS, len(best)):
            first = arms[""]
            best = [(name, delay(rows_of_arm, first), rows_of_arm) for name, rows_of_arm in arms.items()]
    return best


def _changed_arms(part: Frame, names: Sequence[str], texts: NDArray[Any]) -> dict[str, Frame]:
    """The runs of each arm by what it changes; first the one without changes, from which the others differ least."""
    arms, place, arm_N = np.unique(["|".join(row) for row in texts], return_index=True, return_inverse=True)
    differs_AAP = texts[place][:, None] != texts[place]
    first = int(differs_AAP.sum(axis=(1, 2)).argmin())
    found = {"": part[arm_N == first]}
    for arm in range(len(arms)):
        changed = {
            name: str(value)
            for name, value, other in zip(names, texts[place[arm]], differs_AAP[arm, first], strict=True)
            if other
        }
        if changed and ("optim.lr" not in changed or "optim.name" in changed):
            found[
                ", ".join(
                    f"{name} {value!r}" if name == "generate.prompt" else f"{name} {value}"
                    for name, value in changed.items()
                )
            ] = part[arm_N == arm]
    return found


def doses(runs: Runs) -> pd.DataFrame:
    """The rise of the loss on the first text after each number of own steps: a row per temperature, rate and step.

    With `neon` or without, of runs that go on past collapse: `rise` with its t-interval over seeds, and `p`, corrected
    by Holm's method over all rows; there is a benefit where the rise is below 0 with p < 0.05; `model` and `data` are
    those of the runs. Empty unless a model was run with `neon` at two temperatures and beside that without.
    """
    rows = _that_go_on(runs)
    rows = rows[rows["safeguards"].isin([NONE, "neon"])] if len(rows) else rows
    if rows.empty:
        return rows
    base = condition(rows, ("safeguards", "sampling.temperature", "lr", *LOOKING, *JUDGING))
    is_neon = rows["safeguards"] != NONE
    num = rows[is_neon].groupby(base[is_neon])["sampling.temperature"].nunique()
    if num.empty or num.max() < 2:
        return rows.iloc[:0]
    rows = rows[base == num.idxmax()]
    steps = _steps_of(runs, rows)
    steps = steps[np.isfinite(steps["val_nll_nats"])]
    first = steps[steps["step"] == 0].set_index("run")["val_nll_nats"]
    steps = steps.assign(rise=steps["val_nll_nats"] - steps["run"].map(first))
    names = {"sampling.temperature": "temperature", "lr": "lr", "safeguards": "safeguards"}
    joined = steps[steps["step"] > 0].join(rows.set_index("run")[list(names)].rename(columns=names), on="run")
    found: list[dict[str, Any]] = []
    for (safeguards, lr, temperature, step), part in joined.groupby(["safeguards", "lr", "temperature", "step"]):
        known = t_estimate(part["rise"])
        interval = known.interval()
        row = {"safeguards": safeguards, "lr": lr, "temperature": temperature, "step": step, "n": interval.n}
        row |= {"rise": interval.estimate, "low": interval.low, "high": interval.high}
        found.append(row | {"p": known.p_value(0.0)})
    adjusted = holm([row["p"] for row in found])
    return pd.DataFrame(found).assign(p=list(adjusted), model=rows["model"].iloc[0], data=rows["data"].iloc[0])


def _that_go_on(runs: Runs) -> Frame:
    """Own-text runs that go on past collapse, of which some have safeguards, each trajectory once."""
    rows = cast(Frame, runs.runs)
    if "safeguards" not in rows or (rows["safeguards"] == NONE).all():
        return rows.iloc[:0]
    rows = gather(runs).runs
    return distinct(rows[(rows["train.source"] == "own") & ~rows["stop.on_collapse"].astype(bool)])


def _remedy(text: str) -> tuple[str | None, int]:
    given = parse(text)
    if not given:
        return NONE, 0
    values = cast(Mapping[str, Any], given[0])
    if len(given) > 1 or values["id"] != "rollback" or "repeat" in values:
        return None, 0
    return str(values.get("remedy", "restore")), int(values.get("past", 0))


def _steps_of(runs: Runs, rows: Frame) -> Frame:
    steps = cast(Frame, runs.steps)
    steps = steps[steps["run"].isin(rows["run"])].reindex(columns=["run", "step", "degenerate", "val_nll_nats"])
    return steps.astype({"step": int, "val_nll_nats": float}).sort_values(["run", "step"])


def _rise_end(rows: Frame, steps: Frame) -> list[float]:
    known = steps[np.isfinite(steps["val_nll_nats"])].groupby("run")["val_nll_nats"]
    return (known.last() - known.first()).reindex(rows["run"]).tolist()
