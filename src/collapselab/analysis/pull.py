"""The pull of a sampler: by how much what it draws from is sharper than the model."""

from __future__ import annotations

from collapselab.analysis.comparisons import UPDATE_STEPS
from collapselab.analysis.survival import Frame

_NAMES = ["entropy_nats", "train_nll_nats", "sharpening_nats"]


def pull(frame: Frame, steps: Frame) -> Frame:
    """H(p) − H(q) of each own-text run in nats per token, over its first ten steps; NaN if unknown.

    p is the model, q what the tokens were drawn from. The loss on own text is the cross-entropy H(q) + KL(q‖p), so the
    pull is entropy − loss + KL. It is above 0 where q is sharper than p and below 0 where it is flatter, and unlike KL
    it passes through 0 between. Set to 0 where KL is 0: there q is p, and the rest is noise of the drawn tokens.
    """
    early = steps.reindex(columns=["run", "step", *_NAMES])
    early = early[early["step"] < UPDATE_STEPS].astype(dict.fromkeys(_NAMES, float))
    mean = early.groupby("run")[_NAMES].mean()
    gap = mean["entropy_nats"] - mean["train_nll_nats"] + mean["sharpening_nats"]
    return frame["run"].map(gap.where(mean["sharpening_nats"] != 0, 0.0))
