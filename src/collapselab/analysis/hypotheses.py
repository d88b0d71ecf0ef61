"""The paper's claims with their verdicts, from the frames of any runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from collapselab.analysis import evidence
from collapselab.analysis.evidence import Finding, Material
from collapselab.analysis.intervals import Interval, holm
from collapselab.rundir.frames import Runs

Verdict = Literal["holds", "does not hold", "undecided"]
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Hypothesis:
    """A claim and what the runs say of it; what is unknown is `None`.

    `low` and `high` are the ends of the effect's 95 % interval. `p_value` is two-sided, and `p_adjusted` is Holm's over
    all hypotheses that have one. `num_runs` and `num_seeds` count what the test used. `note` says what is missing, or
    what else one should know.
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
    num_runs: int
    num_seeds: int
    verdict: Verdict
    note: str


@dataclass(frozen=True)
class _Claim:
    claim: str
    test: str
    effect_name: str
    find: Callable[[Material], Finding]


_TREND = "log-rank test for trend, stratified by the other settings, seeds as clusters"
_PER_SIZE = "hazard ratio of onset per doubling of parameters"
_CLAIMS = {
    "H1": _Claim(
        "Validation loss rises from the first steps on",
        "t-test over seeds",
        "rise of validation loss by step 10, nats per token",
        evidence.early_rise,
    ),
    "H2": _Claim(
        "A higher learning rate means earlier onset",
        _TREND,
        "hazard ratio of onset per doubling of the learning rate",
        evidence.rate_hastens,
    ),
    "H3": _Claim(
        "Training loss on own text goes to almost 0 as the model collapses",
        "t-test over seeds against .10",
        "share of the training loss left at the last step",
        evidence.own_loss_vanishes,
    ),
    "H4": _Claim("A larger model collapses sooner, at equal learning rate", _TREND, _PER_SIZE, evidence.size_hastens),
    "H4b": _Claim(
        "A larger model collapses sooner, at equal update size",
        _TREND,
        _PER_SIZE,
        evidence.size_hastens_at_equal_updates,
    ),
    "H5": _Claim(
        "The second text shows the same pattern",
        "Kendall's rank test over arms, exact",
        "rank agreement τ of arms between the texts",
        evidence.texts_agree,
    ),
    "H6": _Claim(
        "The same loop on real text, and on another model's text, does not collapse",
        "log-rank test against own text, stratified, the larger p of the two controls",
        "share of control runs that collapse",
        evidence.controls_do_not_collapse,
    ),
}


def judge(runs: Runs) -> tuple[Hypothesis, ...]:
    """The hypotheses H1 to H6 with their verdicts, in order; each is there, if only to say which runs it lacks.

    The rule, fixed in advance; what is claimed, tested and bounded is in `evidence`, a function a claim:

    - *does not hold*: the 95 % interval lies short of the smallest effect that would bear the claim out, or the effect
      is the opposite of the claim with an adjusted p below .05;
    - *holds*: otherwise, if the effect is as claimed with an adjusted p below .05;
    - *undecided*: otherwise, and always with one seed or without the runs that the claim needs.

    Only runs with equal settings but those studied are compared, so that runs of several sweeps and tiers can be given
    together. Unfinished runs count as far as they got.
    """
    material = evidence.gather(runs)
    findings = [_with_two_seeds(claim.find(material)) for claim in _CLAIMS.values()]
    adjusted = holm([finding.p_value for finding in findings])
    return tuple(map(_hypothesis, _CLAIMS, findings, adjusted))


def _hypothesis(key: str, finding: Finding, p_adjusted: float | None) -> Hypothesis:
    claim, effect = _CLAIMS[key], finding.effect
    return Hypothesis(
        key=key,
        claim=claim.claim,
        test=claim.test,
        effect_name=claim.effect_name,
        effect=effect.estimate,
        low=effect.low,
        high=effect.high,
        p_value=finding.p_value,
        p_adjusted=p_adjusted,
        num_runs=finding.num_runs,
        num_seeds=finding.num_seeds,
        verdict=_verdict(finding, p_adjusted),
        note=finding.note,
    )


def _verdict(finding: Finding, p_adjusted: float | None) -> Verdict:
    is_significant = p_adjusted is not None and p_adjusted < SIGNIFICANCE
    if finding.is_refuted or (is_significant and finding.direction < 0):
        return "does not hold"
    return "holds" if is_significant and finding.direction > 0 else "undecided"


def _with_two_seeds(finding: Finding) -> Finding:
    """The finding, without interval and p-value if it rests on one seed: that says nothing of the next one."""
    if finding.num_seeds != 1:
        return finding
    effect = finding.effect
    return replace(
        finding,
        effect=Interval(effect.estimate, None, None, effect.level, effect.n),
        p_value=None,
        is_refuted=False,
        note=f"one seed; {finding.note}",
    )
