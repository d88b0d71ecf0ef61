"""PROVISIONAL stand-in until part map's module is merged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import LOOKING, UPDATE_STEPS, condition
from collapselab.analysis.evidence import gather, own_text
from collapselab.analysis.survival import Frame, median_onset
from collapselab.rundir.frames import Runs

REGIMES = ("freeze", "drift", "melt")


def arms(runs: Runs) -> pd.DataFrame:
    material = gather(runs)
    own = own_text(material.trajectories)
    own = own.assign(arm=condition(own, LOOKING), melted=own["fate"] == "melted")
    steps: Frame = material.steps
    early = steps[steps["step"] < UPDATE_STEPS].groupby("run")[["sharpening_nats", "relative_update_norm"]].mean()
    rows = []
    for arm, part in own.groupby("arm", sort=False):
        first = part.iloc[0]
        freeze = part["is_event"] & ~part["melted"]
        regime = "melt" if part["melted"].mean() >= 0.5 else "freeze" if freeze.mean() >= 0.5 else "drift"
        median = median_onset(part["duration"].to_numpy(), part["is_event"].to_numpy()).estimate
        rows.append(
            {
                "arm": arm,
                "model": first["model"],
                "lr": float(first["lr"]),
                "temperature": first["sampling.temperature"],
                "top_k": first["sampling.top_k"],
                "top_p": first["sampling.top_p"],
                "min_p": first["sampling.min_p"],
                "batch_size": first["generate.batch_size"],
                "optimizer": first["optim.name"],
                "num_runs": len(part),
                "onset": median,
                "horizon": part["duration"].max(),
                "share_onset": part["is_event"].mean(),
                "share_melted": part["melted"].mean(),
                "regime": regime,
                "sharpening_nats": early["sharpening_nats"].reindex(part["run"]).mean(),
                "relative_update_norm": early["relative_update_norm"].reindex(part["run"]).mean(),
            }
        )
    return pd.DataFrame(rows)


def law(known: Frame) -> pd.DataFrame:
    import hashlib

    part = known[(known["share_onset"] >= 0.5) & (known["sharpening_nats"] > 0) & (known["regime"] == "freeze")].copy()
    part["is_fitted"] = [int(hashlib.sha256(a.encode()).hexdigest()[0], 16) % 2 == 1 for a in part["arm"]]
    product = part["relative_update_norm"] * part["sharpening_nats"]
    fitted = part["is_fitted"]
    constant = np.exp(np.log(part["onset"] * product)[fitted].mean())
    part["predicted"] = constant / product
    return part
