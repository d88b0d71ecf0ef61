"""The paper's claims with their verdicts, from the frames of any runs: a claim is a function and a line in `CLAIMS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from collapselab.analysis import controls, losses, onsets
from collapselab.analysis.evidence import Finding, Material, gather
from collapselab.analysis.intervals import Interval, holm
from collapselab.rundir.frames import Runs

Verdict = Literal["holds", "does not hold", "undecided"]
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Claim:
    """A claim, how it is tested, what its effect is called, and the function that finds what runs say of it."""

    key: str
    claim: str
    test: str
    effect_name: str
    find: Callable[[Material], Finding]


@dataclass(frozen=True)
class Hypothesis:
    """A claim and what the runs say of it; what is unknown is `None`.

    `low` and `high` are the ends of the effect's 95 % interval. `p_value` is of the empty claim, two-sided, and
    `p_adjusted` is Holm's over all claims that have one; `p_against` is of the smallest effect that would bear the
    claim out, adjusted alike. `num_runs` (trajectories) and `num_seeds` count what the test used. `note` says what is
    missing, or what else one should know, and `footnote` the same effect by another method.
    """

    key: str
    claim: str
    test: str
    effect_name: str
    effect: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    p_against: float | None
    num_runs: int
    num_seeds: int
    verdict: Verdict
    note: str
    footnote: str


_SEEDS = "t-test over seeds, each left out in turn"
_MODELS = "t-test over models, by accelerated failure time, other settings equal"
_CONTROLS = "the larger p of log-rank against own text, other settings equal, and binomial against one half"
_SHARE = "share of control runs that collapse"
CLAIMS = (
    Claim(
        "H1",
        "Validation loss rises from the first steps on",
        _SEEDS,
        "rise of validation loss by step 10, nats per token",
        losses.early_rise,
    ),
    Claim(
        "H2",
        "A higher learning rate means earlier collapse",
        f"{_SEEDS}, by accelerated failure time, other settings equal",
        "time ratio of collapse per doubling of the learning rate",
        onsets.rate_hastens,
    ),
    Claim(
        "H3",
        "Training loss on own text is almost 0 at total collapse",
        f"{_SEEDS}, of log shares against .10",
        "share of the training loss left at total collapse",
        losses.loss_left_at_collapse,
    ),
    Claim(
        "H3b",
        "Training loss on own text goes to almost 0 past total collapse",
        f"{_SEEDS}, of log shares against .10",
        "share of the training loss left at the last step",
        losses.loss_left_past_collapse,
    ),
    Claim(
        "H4",
        "A larger model collapses faster at the same learning rate",
        _MODELS,
        "time ratio of collapse per doubling of parameters",
        onsets.size_hastens,
    ),
    Claim(
        "H4b",
        "A larger model collapses after a shorter path of its weights",
        _MODELS,
        "path ratio at collapse per doubling of parameters",
        onsets.size_shortens_path,
    ),
    Claim(
        "H5",
        "The second text shows the same pattern",
        f"{_SEEDS}, and exact within arms, the larger p",
        "rank agreement τ of the rises on the two texts, within arms",
        losses.texts_agree,
    ),
    Claim(
        "H6",
        "The same loop on real text, and on another model's text, does not collapse",
        _CONTROLS,
        _SHARE,
        partial(controls.controls_do_not_collapse, kinds=("real", "other")),
    ),
    Claim(
        "H6b",
        "The same loop on the text of a frozen copy of the same model does not collapse",
        _CONTROLS,
        _SHARE,
        partial(controls.controls_do_not_collapse, kinds=("frozen",)),
    ),
)


def judge(runs: Runs, claims: Sequence[Claim] = CLAIMS) -> tuple[Hypothesis, ...]:
    """The claims with their verdicts, in order; each is there, if only to say which runs it lacks.

    The rule, fixed in advance (docs/statistics.md); what is claimed, tested and bounded is a function a claim:

    - *does not hold*: the effect falls short of the smallest one that would bear the claim out, with an adjusted p
      below .05;
    - *holds*: otherwise, if the effect is as claimed with an adjusted p below .05;
    - *undecided*: otherwise, and always with one seed or without the runs that the claim needs.

    Only runs with equal settings but those studied are compared, so that runs of several sweeps and tiers can be given
    together. Unfinished runs count as far as they got.
    """
    material = gather(runs)
    findings = [_with_two_seeds(claim.find(material)) for claim in claims]
    p_for = holm([finding.p_for for finding in findings])
    p_against = holm([finding.p_against for finding in findings])
    return tuple(map(_hypothesis, claims, findings, p_for, p_against))


def _hypothesis(claim: Claim, finding: Finding, p_adjusted: float | None, p_against: float | None) -> Hypothesis:
    effect, is_borne_out = finding.effect, p_adjusted is not None and p_adjusted < SIGNIFICANCE
    verdict: Verdict = "holds" if is_borne_out and finding.direction > 0 else "undecided"
    if p_against is not None and p_against < SIGNIFICANCE:
        verdict = "does not hold"
    return Hypothesis(
        key=claim.key,
        claim=claim.claim,
        test=claim.test,
        effect_name=claim.effect_name,
        effect=effect.estimate,
        low=effect.low,
        high=effect.high,
        p_value=finding.p_for,
        p_adjusted=p_adjusted,
        p_against=p_against,
        num_runs=finding.num_runs,
        num_seeds=finding.num_seeds,
        verdict=verdict,
        note=finding.note,
        footnote=finding.footnote,
    )


def _with_two_seeds(finding: Finding) -> Finding:
    """The finding, without interval and p-values if it rests on one seed: that says nothing of the next one."""
    if finding.num_seeds != 1:
        return finding
    effect = finding.effect
    return replace(
        finding,
        effect=Interval(effect.estimate, None, None, effect.level, effect.n),
        p_for=None,
        p_against=None,
        note=f"one seed; {finding.note}",
    )
