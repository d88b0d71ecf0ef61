"""H1, H3 and H5: what losses say. Every threshold here is decided in advance (docs/statistics.md)."""

from __future__ import annotations

import math

import numpy as np

from collapselab.analysis.comparisons import JUDGING, condition
from collapselab.analysis.evidence import Finding, Material, divergence, missing, own_text, with_ends
from collapselab.analysis.intervals import Bools, Estimate, Floats, Interval, arm_mean, in_figures, over_seeds
from collapselab.analysis.survival import Frame, Labels
from collapselab.config.base import split_at_commas

EARLY_STEPS, MIN_RISE_NATS = 10, 0.01
ALMOST_ZERO_SHARE = 0.10
_LEAST_SHARE = 1e-12  # a loss may be 0 in its last digit
MIN_AGREEMENT = 0.5


def early_rise(material: Material) -> Finding:
    """H1: the rise of validation loss from step 0 to the last evaluated one of the first ten steps before onset.

    On the first text, in nats per token, of own-text runs, before divergence: the mean of the arms, over seeds. The
    note has each learning rate's; where one of them lies below 0, the claim is not borne out.
    """
    own = own_text(material.runs).set_index("run")
    steps = material.steps.reindex(columns=["run", "step", "val_nll_nats"]).dropna()
    steps = steps[steps["run"].isin(own.index) & np.isfinite(steps["val_nll_nats"].astype(float))]
    end = steps["run"].map(np.minimum(own["duration"].where(own["is_event"], np.inf), divergence(own)))
    early = steps[(steps["step"] >= 1) & (steps["step"] <= EARLY_STEPS) & (steps["step"] < end)]
    first = steps[steps["step"] == 0].set_index("run")["val_nll_nats"]
    rise = (early.sort_values("step").groupby("run")["val_nll_nats"].last() - first).dropna().astype(float)
    used = own.loc[rise.index].assign(value=rise).drop_duplicates("trajectory")
    if used.empty:
        return missing("needs own-text runs with validation loss at step 0 and at an early step before onset")
    arm = condition(used.assign(data=used["data"].map(split_at_commas).str[0]), ("stop.", *JUDGING))
    mean, used, words = _mean_of_arms(used, arm)
    by_rate = {
        rate: arm_mean(part["value"].to_numpy(), part["arm"], part["seed"])[0].interval()
        for rate, part in used.groupby("lr")
    }
    rises = int((used["value"] > 0).sum())
    note = f"rises in {rises} of {len(used)} runs{words}; by learning rate: "
    note += ", ".join(f"{in_figures(rate)} {with_ends(found, signed=True)}" for rate, found in by_rate.items())
    is_as_claimed = (mean.value or 0) > 0 and not any((found.high or 0) < 0 for found in by_rate.values())
    direction = 1 if is_as_claimed else -1 if (mean.value or 0) < 0 else 0
    return _finding(mean, mean.interval(), 0.0, MIN_RISE_NATS, 1, direction, used, note)


def loss_left_at_collapse(material: Material) -> Finding:
    """H3: the share of the first step's loss on own text that is left at total collapse, against .10."""
    own = _collapsed(material)
    at_end = own["last_step"] == own["total_collapse_step"]
    steps = material.steps.reindex(columns=["run", "step", "train_nll_nats"]).astype({"train_nll_nats": float})
    at_collapse = steps[steps["step"] == steps["run"].map(own.set_index("run")["total_collapse_step"])]
    found = own["run"].map(at_collapse.set_index("run")["train_nll_nats"])
    left = found.where(found.notna() | ~at_end, own["train_nll_last"].astype(float))
    own = own.assign(left=left).dropna(subset="left").drop_duplicates("trajectory")
    return _share_left(own, "at total collapse")


def loss_left_past_collapse(material: Material) -> Finding:
    """H3b: the same share at the last step, of runs that go on past total collapse."""
    own = _collapsed(material)
    past = (own["last_step"] - own["total_collapse_step"]).astype(float)
    own = own.assign(left=own["train_nll_last"].astype(float), past=past)
    own = own[past > 0]
    own = own.sort_values("past", ascending=False, kind="stable").drop_duplicates("trajectory")
    where = f"{own['past'].min():.0f} to {own['past'].max():.0f} steps past total collapse" if len(own) else ""
    return _share_left(own, where)


def texts_agree(material: Material) -> Finding:
    """H5: agreement within arms of the rises of validation loss on the first two texts: Kendall's τ over pairs of runs.

    Finished own-text runs that did not diverge. A rise is from step 0 to the last step at which every run of the arm
    has a loss on both texts. Only runs of one arm are compared, so that what all texts share with the learning rate or
    the model is no agreement.
    """
    own = own_text(material.runs)
    own = own[own["ended_by"].notna() & (divergence(own) == np.inf)]
    texts = list(dict.fromkeys(text for data in own["data"] for text in split_at_commas(data)))[:2]
    if len(texts) < 2:
        return missing("needs finished own-text runs with validation loss on two texts")
    rises = _rises(own, material.steps, texts)
    if rises.empty:
        return missing(f"needs arms of two seeds with losses on {' and '.join(texts)} at step 0 and a later step")
    first, second = (rises[text].to_numpy(dtype=float) for text in texts)
    agreement, p_exact = within_arms(first, second, rises["arm"].to_numpy(), rises["seed"].to_numpy())
    by_arm = rises.groupby("arm")[texts].mean()
    ratio = (by_arm[texts[1]] / by_arm[texts[0]]).to_numpy(dtype=float)
    note = f"{len(by_arm)} arms; a rise on {texts[1]} is × {np.median(ratio):.2g} of that on {texts[0]} "
    note += f"(arms: {ratio.min():.2g} to {ratio.max():.2g})"
    interval = agreement.interval(lambda value: min(1.0, max(-1.0, value)))
    direction = int(np.sign(agreement.value or 0))
    found = _finding(agreement, interval, 0.0, MIN_AGREEMENT, 1, direction, rises, note)
    p_for = p_exact if found.p_for is None else max(found.p_for, p_exact)
    # Where all seeds agree or all disagree there is no t-test.
    p_against = (p_exact if direction < 0 else 1.0) if found.p_against is None else found.p_against
    return Finding(found.effect, p_for, p_against, direction, len(rises), found.num_seeds, note)


def within_arms(first: Floats, second: Floats, arms: Labels, seeds: Labels) -> tuple[Estimate, float]:
    """Kendall's τ over the pairs of runs that share an arm, over seeds; and its exact p-value with runs as units."""
    arm_N = np.unique(np.asarray(arms), return_inverse=True)[1]
    is_pair = np.triu(arm_N[:, None] == arm_N, 1)
    order = np.sign(first[:, None] - first) * np.sign(second[:, None] - second) * is_pair

    def tau(mask: Bools) -> float | None:
        both = np.outer(mask, mask)
        num = int((is_pair & both).sum())
        return float(order[both].sum()) / num if num else None

    # The number of pairs in the opposite order: of n runs in random order, a sum of uniform numbers 0 … i.
    chance = np.ones(1)
    for size in np.bincount(arm_N):
        for i in range(1, int(size)):
            chance = np.convolve(chance, np.full(i + 1, 1 / (i + 1)))
    balance = np.abs(is_pair.sum() - 2 * np.arange(len(chance)))
    return over_seeds(tau, seeds), float(min(1.0, chance[balance >= abs(order.sum()) - 1e-9].sum()))


def _rises(own: Frame, steps: Frame, texts: list[str]) -> Frame:
    """A row a trajectory: arm, seed, and the rise on each text, in arms of two trajectories or more."""
    names = {f"val_nll_nats[{text}]": text for text in texts}
    losses = steps.reindex(columns=["run", "step", *names]).rename(columns=names)
    losses = losses[losses["run"].isin(own["run"])].astype({"step": int, **dict.fromkeys(texts, float)})
    losses = losses.assign(trajectory=losses["run"].map(own.set_index("run")["trajectory"]))
    # One trajectory may have its losses on the two texts from two runs.
    losses = losses.groupby(["trajectory", "step"])[texts].first().dropna()
    rows = own.assign(arm=condition(own, ("data", "eval.", "stop.", *JUDGING))).drop_duplicates("trajectory")
    rows = rows.set_index("trajectory")[["arm", "seed"]]
    losses = losses.reset_index().join(rows, on="trajectory")
    num_in_arm = losses.groupby("arm")["trajectory"].transform("nunique")
    is_common = losses.groupby(["arm", "step"])["trajectory"].transform("nunique") == num_in_arm
    losses = losses[is_common & (num_in_arm > 1)].sort_values("step")
    ends = losses.groupby("trajectory").agg({"step": ["first", "last"], **{text: ["first", "last"] for text in texts}})
    ends = ends[(ends["step", "first"] == 0) & (ends["step", "last"] > 0)]
    return rows.loc[ends.index].assign(**{text: ends[text, "last"] - ends[text, "first"] for text in texts})


def _collapsed(material: Material) -> Frame:
    """Finished own-text runs that collapsed totally, judged by their own samples: probes call it a window later."""
    own = own_text(material.runs)
    own = own[own["collapse.source"] == "stream"]
    names = ["total_collapse_step", "last_step", "train_nll_first", "train_nll_last"]
    own = own.assign(**{name: own.reindex(columns=[name])[name].astype("Float64") for name in names})
    return own[own[names].notna().all(axis=1) & (divergence(own) == np.inf)]


def _share_left(own: Frame, where: str) -> Finding:
    if own.empty:
        return missing("needs finished own-text runs that reached total collapse" + ("" if where else " and went on"))
    share = (own["left"] / own["train_nll_first"]).astype(float)
    value = np.log(np.maximum(share, _LEAST_SHARE) / ALMOST_ZERO_SHARE)
    arm = condition(own, ("data", "eval.", "stop.", *JUDGING))
    mean, used, words = _mean_of_arms(own.assign(value=value, share=share), arm)
    note = f"{int((used['share'] < ALMOST_ZERO_SHARE).sum())} of {len(used)} runs are below a tenth, {where}{words}"
    note += f"; plain mean {with_ends(arm_mean(used['share'].to_numpy(), used['arm'], used['seed'])[0].interval())}"
    effect = mean.interval(lambda logarithm: ALMOST_ZERO_SHARE * math.exp(logarithm))
    direction = 1 if (mean.value or 0) < 0 else -1
    return _finding(mean, effect, 0.0, 0.0, -1, direction, used, note)


def _mean_of_arms(rows: Frame, arm: Frame) -> tuple[Estimate, Frame, str]:
    """The mean of the arms' means of `value`, the runs used, and how many were not."""
    rows = rows.assign(arm=arm)
    mean, used = arm_mean(rows["value"].to_numpy(dtype=float), rows["arm"], rows["seed"])
    left_out = int((~used).sum())
    return mean, rows[used], f" ({left_out} left out: one seed has their arm)" if left_out else ""


def _finding(
    mean: Estimate, effect: Interval, empty: float, smallest: float, sign: int, direction: int, used: Frame, note: str
) -> Finding:
    """The finding of a t-test; `sign` is 1 where the claim is of values above the empty one, else -1."""
    is_short = mean.value is not None and sign * (mean.value - smallest) < 0
    p_for, p_against = mean.p_value(empty), mean.p_value(smallest)
    p_against = p_against if is_short or p_against is None else 1.0
    return Finding(effect, p_for, p_against, direction, len(used), used["seed"].nunique(), note)
