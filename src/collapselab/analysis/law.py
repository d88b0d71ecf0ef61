"""PROVISIONAL: the law of onset, until the module of the hypotheses S1 to S6 has it."""

from __future__ import annotations

import hashlib

import numpy as np

from collapselab.analysis.survival import Frame


def law(known: Frame) -> Frame:
    part = known[known["onset"].gt(0) & (known["regime"] == "freeze") & (known["sharpening_nats"] > 0)].copy()
    part["is_fitted"] = [int(hashlib.sha256(arm.encode()).hexdigest()[0], 16) % 2 == 1 for arm in part["arm"]]
    product = part["relative_update_norm"] * part["sharpening_nats"]
    constant = np.exp(np.log(part["onset"] * product)[part["is_fitted"]].mean())
    return part.assign(predicted=constant / product)
