"""What runs say of each claim of the paper: effect, interval, p-value. `hypotheses` makes verdicts of it.

Every threshold here is decided in advance, not from the runs that are judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collapselab.analysis.comparisons import (
    CONTROL,
    JUDGING,
    LOOKING,
    condition,
    distinct,
    equal_update_sets,
    num_parameters,
    trajectory,
)
from collapselab.analysis.hazards import hazard_ratio, log_rank_trend
from collapselab.analysis.intervals import LEVEL, Interval, mean_interval, mean_test, rank_agreement, share_interval
from collapselab.analysis.survival import Frame, onset_times
from collapselab.config.schema import split_at_commas
from collapselab.rundir.frames import Runs

EARLY_STEPS, MIN_RISE_NATS = 10, 0.01
MIN_HAZARD_RATIO = 1.1
ALMOST_ZERO_SHARE = 0.10
MIN_RANK_AGREEMENT = 0.5
MAX_CONTROL_SHARE = 0.10
CONTROLS = {"real": "real text", "other": "another model's text"}


@dataclass(frozen=True)
class Material:
    """The runs' rows with `duration` and `is_event` (`survival.onset_times`), their steps, and the trajectories.

    `trajectories` are the distinct runs whose onset or censoring is known (`comparisons.distinct`).
    """

    runs: Frame
    steps: Frame
    trajectories: Frame


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim.

    `direction` is 1 where the effect is as claimed, -1 where it is the opposite, 0 where it is neither or unknown.
    `is_refuted`: the interval lies wholly short of the smallest effect that would bear the claim out.
    """

    effect: Interval
    p_value: float | None
    direction: int
    is_refuted: bool
    num_runs: int
    num_seeds: int
    note: str


def gather(runs: Runs) -> Material:
    """What all claims are judged from."""
    onsets: Frame = onset_times(runs)
    rows = runs.runs.assign(duration=onsets["duration"].to_numpy(), is_event=onsets["is_event"].to_numpy())
    return Material(rows, runs.steps, distinct(rows))


def early_rise(material: Material) -> Finding:
    """H1: the rise of validation loss from step 0 to the last evaluated one of the first ten steps before onset.

    On the first text, in nats per token, of own-text runs, before divergence. Each seed's mean over its arms is one
    value: t-test against 0. Refuted if the interval lies below .01 (one per cent of perplexity).
    """
    own = _own(material.runs).set_index("run")
    steps = material.steps.reindex(columns=["run", "step", "val_nll_nats"]).dropna()
    steps = steps[steps["run"].isin(own.index) & np.isfinite(steps["val_nll_nats"].astype(float))]
    end = steps["run"].map(np.minimum(own["duration"].where(own["is_event"], np.inf), _divergence(own)))
    early = steps[(steps["step"] >= 1) & (steps["step"] <= EARLY_STEPS) & (steps["step"] < end)]
    first = steps[steps["step"] == 0].set_index("run")["val_nll_nats"]
    rise = (early.sort_values("step").groupby("run")["val_nll_nats"].last() - first).dropna().astype(float)
    if rise.empty:
        return _missing("needs own-text runs with validation loss at step 0 and at an early step before onset")
    used = own.loc[rise.index]
    first_text = used["data"].map(split_at_commas).str[0]
    arm = condition(used.assign(data=first_text), ("stop.", *JUDGING))
    num_rising = int((rise.groupby(arm).mean() > 0).sum())
    note = f"rises in {num_rising} of {arm.nunique()} arms"
    by_seed = _seed_means(rise, used["seed"], arm)
    effect = mean_interval(by_seed)
    is_refuted = effect.high is not None and effect.high < MIN_RISE_NATS
    return _finding(effect, mean_test(by_seed, 0.0).p_value, effect.estimate, is_refuted, used, note)


def own_loss_vanishes(material: Material) -> Finding:
    """H3: the share of the loss on own text that is left at the last step (last/first), in runs to total collapse.

    Each seed's mean over its arms is one value: t-test against .10, below which the loss counts as almost 0. Refuted
    if the interval lies above .10. A run that stops at total collapse may end while its loss is still falling. So if
    some were to go on past it (`stop.on_collapse` false), they alone are judged, and the note has the share at total
    collapse of the others.
    """
    names = ["total_collapse_step", "train_nll_first", "train_nll_last"]
    own = _own(material.runs)
    values = own.reindex(columns=names).astype("Float64")
    own = own[values.notna().all(axis=1) & (_divergence(own) == np.inf)]
    if own.empty:
        return _missing("needs finished own-text runs that reached total collapse")
    share = (values["train_nll_last"] / values["train_nll_first"]).loc[own.index].astype(float)
    went_on = own["stop.on_collapse"] == False  # noqa: E712
    stopped = share[~went_on]
    own = own[went_on] if went_on.any() else own
    share = share.loc[own.index]
    by_seed = _seed_means(share, own["seed"], trajectory(own))
    effect, test = mean_interval(by_seed), mean_test(by_seed, ALMOST_ZERO_SHARE)
    is_refuted = effect.low is not None and effect.low > ALMOST_ZERO_SHARE
    support = None if test.statistic is None else -test.statistic
    note = f"{int((share < ALMOST_ZERO_SHARE).sum())} of {len(own)} collapsed runs end below a tenth"
    if went_on.any():
        past = (own["last_step"] - own["total_collapse_step"]).astype(float)
        note += f", {past.min():.0f} to {past.max():.0f} steps past total collapse"
        note += f"; a share of {stopped.mean():.2g} is left at it in {len(stopped)} others" if len(stopped) else ""
    else:
        note += ", at total collapse"
    return _finding(effect, test.p_value, support, is_refuted, own, note)


def rate_hastens(material: Material) -> Finding:
    """H2: the hazard ratio of onset per doubling of the learning rate.

    Own-text runs, compared where all else is equal: log-rank test for trend over log2 of the learning rate, by strata
    of the other settings, seeds as clusters. Refuted if the interval of the hazard ratio lies below 1.1.
    """
    own = _own(material.trajectories)
    missing = "needs own-text runs at two learning rates or more, other settings equal"
    return _onset_finding(own, np.log2(own["lr"].astype(float)), condition(own, (*LOOKING, "lr")), missing)


def size_hastens(material: Material) -> Finding:
    """H4: the hazard ratio of onset per doubling of the model's parameters, at equal learning rate. As H2."""
    own = _own(material.trajectories)
    missing = "needs own-text runs of two models or more, of known size, at equal learning rate and settings"
    return _onset_finding(own, np.log2(num_parameters(own)), condition(own, (*LOOKING, "model")), missing)


def size_hastens_at_equal_updates(material: Material) -> Finding:
    """H4b: the same hazard ratio among models whose learning rates make their early updates equally large.

    As H2, with the sets of `comparisons.equal_update_sets` as strata.
    """
    own = _own(material.trajectories)
    missing = (
        "needs own-text runs of two models or more whose `relative_update_norm` over the first ten steps agrees "
        "within a tenth, other settings equal"
    )
    return _onset_finding(own, np.log2(num_parameters(own)), equal_update_sets(own, material.steps), missing)


def texts_agree(material: Material) -> Finding:
    """H5: Kendall's rank agreement of arms between the first two texts, by the rise of validation loss on each.

    Finished own-text runs that did not diverge. The rise is from step 0 to the last step at which every run has a loss
    on both texts, and an arm's is the mean over its seeds. Exact test; refuted if the interval lies below .5 (three of
    four pairs in the same order). Arms, not seeds, are the units.
    """
    own = _own(material.runs)
    own = own[own["ended_by"].notna() & (_divergence(own) == np.inf)]
    texts = list(dict.fromkeys(text for data in own["data"] for text in split_at_commas(data)))[:2]
    if len(texts) < 2:
        return _missing("needs finished own-text runs with validation loss on two texts")
    names = {f"val_nll_nats[{text}]": text for text in texts}
    steps = material.steps.reindex(columns=["run", "step", *names]).rename(columns=names)
    steps = steps[steps["run"].isin(own["run"])]
    loss = steps.melt(["run", "step"], texts, "text", "loss").dropna().astype({"loss": float, "step": int})
    table = loss.pivot_table("loss", ["run", "text"], "step").dropna(axis=1)
    if len(table.columns) < 2 or table.columns[0] != 0:
        return _missing(f"needs losses on {' and '.join(texts)} at step 0 and a later one that all runs have")
    rise = (table.iloc[:, -1] - table.iloc[:, 0]).rename("rise").reset_index()
    arm = condition(own, ("data", "stop.", *JUDGING)).set_axis(own["run"])
    by_arm = rise.groupby([rise["run"].map(arm), "text"])["rise"].mean().unstack("text").reindex(columns=texts).dropna()
    if len(by_arm) < 2:
        return _missing(f"needs own-text runs of two arms or more with losses on {' and '.join(texts)}")
    agreement = rank_agreement(by_arm[texts[0]].tolist(), by_arm[texts[1]].tolist())
    used = own[own["run"].map(arm).isin(by_arm.index)]
    high = agreement.interval.high
    is_refuted = high is not None and high < MIN_RANK_AGREEMENT
    note = f"{len(by_arm)} arms, {' and '.join(texts)}, at step {table.columns[-1]}"
    return _finding(agreement.interval, agreement.p_value, agreement.interval.estimate, is_refuted, used, note)


def controls_do_not_collapse(material: Material) -> Finding:
    """H6: the share of control runs that collapse, of those seen for as long as own-text runs needed.

    Controls train on real text or on another model's text, beside own-text runs with all other settings equal. For
    each kind a log-rank test against the own-text runs, by strata of the other settings, seeds as clusters; the claim
    is about both, so the p-value is the larger one and the share the worse one. It is as claimed if controls collapse
    later and at most a tenth of them do; refuted if the exact interval of a share lies above a tenth.

    A control counts in the share if it collapsed, or was seen up to the last onset of the own-text runs beside it.
    Controls are judged by probes; where own-text runs were too, only those are compared with.
    """
    seen = distinct(material.runs, judged_by="probe")
    beside = seen.assign(stratum=condition(seen, (*LOOKING, *CONTROL)))
    beside = beside[beside["train.source"].isin(["own", *CONTROLS])]
    parts = {kind: _beside_own(beside, kind) for kind in CONTROLS}
    absent = [words for kind, words in CONTROLS.items() if parts[kind].empty]
    if absent:
        return _missing(f"needs runs on {' and on '.join(absent)} beside own-text runs that collapse, settings equal")
    tests = [
        log_rank_trend(part["duration"], part["is_event"], part["train.source"] == "own", part["stratum"], part["seed"])
        for part in parts.values()
    ]
    counts = {kind: _num_collapsed(part, kind) for kind, part in parts.items()}
    shares = [share_interval(*count) for count in counts.values()]
    worst = max(shares, key=lambda share: -1.0 if share.estimate is None else share.estimate)
    is_later = all(test.statistic is not None and test.statistic > 0 for test in tests)
    is_rare = all(share.estimate is not None and share.estimate <= MAX_CONTROL_SHARE for share in shares)
    is_refuted = any(share.low is not None and share.low > MAX_CONTROL_SHARE for share in shares)
    p_values = [test.p_value for test in tests if test.p_value is not None]
    p_value = max(p_values) if len(p_values) == len(tests) else None
    used = beside[beside["run"].isin([run for part in parts.values() for run in part["run"]])]
    note = "; ".join(f"{hits} of {n} collapse on {CONTROLS[kind]}" for kind, (hits, n) in counts.items())
    if (used.loc[used["train.source"] == "own", "collapse.source"] == "stream").any():
        note += "; own-text runs are judged by their training samples, controls by probes, which see onset later"
    return _finding(worst, p_value, 1.0 if is_later and is_rare else None, is_refuted, used, note)


def _onset_finding(frame: Frame, covariate: Frame, strata: Frame, missing: str) -> Finding:
    """Whether a covariate hastens onset within the strata in which it varies."""
    part = frame.assign(covariate=covariate, stratum=strata).dropna(subset=["covariate", "stratum"])
    part = part[part.groupby("stratum")["covariate"].transform("nunique") > 1]
    if part.empty:
        return _missing(missing)
    of_runs = (part["duration"].to_numpy(), part["is_event"].to_numpy(), part["covariate"].to_numpy())
    blocks = (part["stratum"].to_numpy(), part["seed"].to_numpy())
    trend, effect = log_rank_trend(*of_runs, *blocks), hazard_ratio(*of_runs, *blocks)
    high = effect.interval.high
    note = f"{int((~part['is_event']).sum())} of {len(part)} runs censored"
    if trend.statistic is None:
        note += f"; {trend.reason}"
    is_refuted = high is not None and high < MIN_HAZARD_RATIO
    return _finding(effect.interval, trend.p_value, trend.statistic, is_refuted, part, note)


def _beside_own(seen: Frame, kind: str) -> Frame:
    """The runs of a control and the own-text runs in the strata that have both, where an own-text run collapsed."""
    part = seen[seen["train.source"].isin(["own", kind])]
    is_own, stratum = part["train.source"] == "own", part["stratum"]
    is_probed = is_own & (part["collapse.source"] == "probe")
    part = part[~is_own | is_probed | ~is_probed.groupby(stratum).transform("any")]
    is_own, stratum = part["train.source"] == "own", part["stratum"]
    has_collapse = (is_own & part["is_event"]).groupby(stratum).transform("any")
    return part[has_collapse & (~is_own).groupby(stratum).transform("any")]


def _num_collapsed(part: Frame, kind: str) -> tuple[int, int]:
    """How many control runs collapsed, of how many that did or were seen for as long as own-text runs needed."""
    own_onset = part["duration"].where((part["train.source"] == "own") & part["is_event"])
    needed = own_onset.groupby(part["stratum"]).transform("max")
    control = part[(part["train.source"] == kind) & (part["is_event"] | (part["duration"] >= needed))]
    return int(control["is_event"].sum()), len(control)


def _own(frame: Frame) -> Frame:
    return frame[frame["train.source"] == "own"]


def _divergence(frame: Frame) -> Frame:
    """The step at which each run diverged; infinite where it did not, or that is unknown."""
    return frame.reindex(columns=["diverged_step"])["diverged_step"].astype("Float64").fillna(np.inf).astype(float)


def _seed_means(values: Frame, seed: Frame, arm: Frame) -> list[float]:
    """One value a seed: the mean over its arms."""
    return values.groupby([seed, arm]).mean().groupby(level=0).mean().tolist()


def _finding(
    effect: Interval, p_value: float | None, support: float | None, is_refuted: bool, used: Frame, note: str
) -> Finding:
    direction = 0 if support is None else (support > 0) - (support < 0)
    return Finding(effect, p_value, direction, is_refuted, len(used), used["seed"].nunique(), note)


def _missing(note: str) -> Finding:
    return Finding(Interval(None, None, None, LEVEL, 0), None, 0, False, 0, 0, note)
