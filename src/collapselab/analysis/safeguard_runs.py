"""The runs that a comparison of safeguards is made of: arms by name, and what is measured of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.comparisons import CARRIED_OUT, JUDGING, LOOKING, distinct
from collapselab.analysis.evidence import gather
from collapselab.analysis.intervals import Bools, Floats
from collapselab.analysis.sampler import as_text
from collapselab.analysis.survival import Frame
from collapselab.config.overrides import settings
from collapselab.config.safeguards.by_settings import BY_OTHER_SETTINGS
from collapselab.rundir.frames import Runs

NONE, PURE, LOWER_RATE = "none", "pure-sampling", "lr-control"
# What these change would else be found in any comparison of samplers; `sgd` has a rate of its own.
_ONLY_AS_LISTED, _LEFT_OUT = (PURE, "decoding"), ("sgd",)
LOSS_STEP, END_STEP = 40, 200  # at which the loss on human text is compared
KEPT_STEPS = range(30, 40)  # in which entropy and diversity are compared with step 0
_SECONDS = ("seconds_generate", "seconds_update", "seconds_evaluate", "seconds_measure")
_EXTRA = ("extra_samples", "extra_tokens", "extra_forwards")
_KEPT = ("run", "model", "lr", "seed", "safeguards", "ended_by", "last_step", "duration", "is_event", "arm", "kind")
_RECORDED = (
    "step",
    "path_length",
    "num_tokens",
    "entropy_nats",
    "distinct_4_share",
    "val_nll_nats",
    *_EXTRA,
    *_SECONDS,
)


@dataclass(frozen=True)
class Family:
    """Arms that differ from the arm `none` in what acts against collapse, or in the rate alone: a row per run.

    `arm` is its name, `kind` the safeguard's id; then what `_measures` says of a run, its `duration` and `is_event`.
    """

    rows: Frame

    @property
    def reference(self) -> Frame:
        return self.arm(NONE)

    @property
    def ladder(self) -> Frame:
        """The runs without safeguards that differ in the rate only."""
        return self.rows[self.rows["kind"].isin([NONE, LOWER_RATE])]

    def arm(self, name: str) -> Frame:
        return self.rows[self.rows["arm"] == name]


def families(runs: Runs) -> list[Family]:
    """For each model, the runs beside the arm `none` that most safeguards were compared with; the largest first.

    Own-text runs that end at total collapse, each trajectory once. Settings other than those compared are equal.
    """
    frame = cast(Frame, runs.runs)
    if "safeguards" not in frame or (frame["safeguards"] == NONE).all():
        return []
    rows = gather(runs).runs
    own = rows[(rows["train.source"] == "own") & rows["stop.on_collapse"].astype(bool)]
    last = own["run"].map(cast(Frame, runs.steps).groupby("run")["step"].max())
    own = own.assign(last_step=last).sort_values("last_step", ascending=False, kind="stable")
    own = distinct(own)  # of one trajectory, the run that goes on for longest
    names = [n for n, _ in settings() if n not in ("seed", *CARRIED_OUT) and not n.startswith((*LOOKING, *JUDGING))]
    columns = ["lr" if name == "optim.lr" else name for name in names]
    texts = own.reindex(columns=columns).map(as_text).to_numpy(dtype=object)
    guard = names.index("safeguards")
    base = pd.Series(["|".join([*row[:guard], *row[guard + 1 :]]) for row in texts], index=own.index, dtype=object)
    is_guarded: Bools = np.array(texts[:, guard] != NONE, dtype=bool)
    found: list[Family] = []
    sizes = own.assign(base=base)[is_guarded].groupby(["model", "base"])["safeguards"].nunique()
    for _, part in sizes.groupby(level="model"):
        beside = [key[1] for key in part.sort_values(ascending=False, kind="stable").index]
        chosen = next((key for key in beside if bool(((base == key) & ~is_guarded).any())), None)
        if chosen is None:
            continue
        known = _named(texts, texts[((base == chosen) & ~is_guarded).to_numpy().argmax()], names)
        is_in = np.array([name is not None for name in known])
        arm, kind = zip(*(name for name in known if name is not None), strict=True)
        found.append(Family(_with_measures(own[is_in].assign(arm=arm, kind=kind), runs.steps)))
    return sorted(found, key=lambda family: -family.rows["arm"].nunique())


def _named(texts: NDArray[Any], reference: NDArray[Any], names: Sequence[str]) -> list[tuple[str, str] | None]:
    """Arm and kind of each row of settings, seen from the reference; `None`: it differs in something else."""
    found: list[tuple[str, str] | None] = []
    for row, differs in zip(texts, texts != reference, strict=True):
        found.append(
            _name(
                {name: str(value) for name, value, other in zip(names, row, differs, strict=True) if other},
                dict(zip(names, row, strict=True)),
            )
        )
    return found


def _name(differences: Mapping[str, str], row: Mapping[str, str]) -> tuple[str, str] | None:
    if not differences:
        return NONE, NONE
    if set(differences) == {"safeguards"}:
        text = differences["safeguards"]
        return text, text.partition("(")[0]
    if set(differences) == {"optim.lr"}:
        return f"{LOWER_RATE}({differences['optim.lr']})", LOWER_RATE
    for name, other in BY_OTHER_SETTINGS.items():
        if name in (LOWER_RATE, *_LEFT_OUT):
            continue
        variants = [other.changes, *({**other.changes, **values} for values in other.grid)]
        is_listed = any(all(row[key] == as_text(value) for key, value in changes.items()) for changes in variants)
        keys = {key for changes in variants for key in changes}
        if set(differences) <= keys and (is_listed or name not in _ONLY_AS_LISTED):
            values = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in differences.items())
            return (name if name in (PURE, "reset") else f"{name}({values})"), name
    return None


def _with_measures(rows: Frame, steps: Frame) -> Frame:
    steps = steps[steps["run"].isin(rows["run"])].reindex(columns=["run", *_RECORDED]).sort_values(["run", "step"])
    values = steps[list(_RECORDED)].to_numpy(dtype=float, na_value=np.nan)
    places = steps.reset_index(drop=True).groupby("run", sort=False).indices
    measured = [
        _measures(dict(zip(_RECORDED, values[places[row["run"]]].T, strict=True)), row)
        for row in rows[["run", "duration", "generate.batch_size", "train.steps_per_sequence"]].to_dict("records")
    ]
    return rows[list(_KEPT)].reset_index(drop=True).join(pd.DataFrame(measured))


def _measures(of_step: Mapping[str, Floats], row: Mapping[str, Any]) -> dict[str, float]:
    """What is compared of a run, from its steps; NaN where that was not recorded.

    `time`: steps to onset or censoring, half a step for 0. `path_per_step`: path length up to there per update.
    `tokens`: written up to there. `rise_40`, `rise_200`, `rise_end`: of the loss on the first human text.
    `entropy_kept` and `distinct_4_kept`: means of steps 30 to 39 over the value at the start. `seconds`: median of a
    step. `samples`, `tokens_step`, `forwards`: per step, what is written and passed through a model.
    """
    step, batch = of_step["step"], float(row["generate.batch_size"])
    updates = max(int(row["duration"]), 1)
    extra = {name: np.nan_to_num(of_step[name]) for name in _EXTRA}
    tokens = batch * of_step["num_tokens"] + extra["extra_tokens"]
    time = max(float(row["duration"]), 0.5)
    entropy = of_step["entropy_nats"]
    is_kept = (step >= KEPT_STEPS.start) & (step < KEPT_STEPS.stop)
    found = {"time": time, "path_per_step": _at(step, of_step["path_length"], updates - 1) / updates}
    found |= {"tokens": time * _mean(tokens[step < updates]), **_rises(step, of_step["val_nll_nats"])}
    found |= {"entropy_kept": _mean(entropy[is_kept]) / _at(step, entropy, 0)}
    found |= {"distinct_4_kept": _mean(of_step["distinct_4_share"][is_kept])}
    found |= {"seconds": float(np.median(np.nansum([of_step[name] for name in _SECONDS], axis=0)))}
    found |= {"samples": batch + extra["extra_samples"].mean(), "tokens_step": _mean(tokens)}
    return found | {"forwards": batch * float(row["train.steps_per_sequence"]) + extra["extra_forwards"].mean()}


def _rises(step: Floats, loss: Floats) -> dict[str, float]:
    known = np.isfinite(loss)
    first = _at(step, loss, 0)
    end = loss[known][-1] - first if known.any() else np.nan
    at = {f"rise_{at}": _at(step[known], loss[known], at) - first for at in (LOSS_STEP, END_STEP)}
    return {**at, "rise_end": float(end), "end": float(step[known][-1]) if known.any() else np.nan}


def _at(step: Floats, values: Floats, at: int) -> float:
    found = values[step == at]
    return float(found[0]) if len(found) else np.nan


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
