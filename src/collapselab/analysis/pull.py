"""The pull of a sampler: how far what a model writes is from the model, and in which direction."""

from __future__ import annotations

from collapselab.analysis.comparisons import UPDATE_STEPS
from collapselab.analysis.survival import Frame

_NAMES = ["entropy_nats", "train_nll_nats", "sharpening_nats"]


def signed_pull(frame: Frame, steps: Frame) -> Frame:
    """KL(q‖p) of each own-text run over its first ten steps, negative where q is flatter than p; NaN if unknown.

    q is what the tokens were drawn from, p the model. The loss on own text is the cross-entropy H(q) + KL(q‖p), so the
    sign is that of H(p) − H(q) = entropy − loss + KL. A sampler at temperature 1.2 with top-k 50 may be either.
    """
    early = steps.reindex(columns=["run", "step", *_NAMES])
    early = early[early["step"] < UPDATE_STEPS].astype(dict.fromkeys(_NAMES, float))
    mean = early.groupby("run")[_NAMES].mean()
    is_flatter = mean["entropy_nats"] - mean["train_nll_nats"] + mean["sharpening_nats"] < 0
    return frame["run"].map(mean["sharpening_nats"].where(~is_flatter, -mean["sharpening_nats"]))
