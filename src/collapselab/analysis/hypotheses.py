"""The paper's claims with their verdicts, from the frames of any runs: a claim is a function and a line in `CLAIMS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from collapselab.analysis import controls, losses, onsets, sampler_line, sampler_pull, sampler_sizes
from collapselab.analysis.evidence import Finding, Material, gather, with_paper_sampler
from collapselab.analysis.intervals import Interval, holm
from collapselab.rundir.frames import Runs

Verdict = Literal["holds", "does not hold", "undecided"]
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Claim:
    """A claim, how it is tested, what its effect is called, and the function that finds what runs say of it.

    The paper's claims are on its own sampler: where runs differ in the sampler, the others are of no concern to a claim
    that is not `any_sampler`.
    """

    key: str
    claim: str
    test: str
    effect_name: str
    find: Callable[[Material], Finding]
    any_sampler: bool = False


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
_EQUIVALENCE = "two one-sided t-tests"
PAPER_CLAIMS = (
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
SAMPLER_CLAIMS = (
    Claim(
        "S1",
        "Without sharpening there is no onset within ten times the steps that temperature 0.8 needs",
        "exact binomial against one half",
        "share of pure runs without onset by ten times their partner's",
        sampler_line.pure_outlasts,
        any_sampler=True,
    ),
    Claim(
        "S2a",
        "In the freeze, onset goes as one over the learning rate",
        f"{_EQUIVALENCE}, by accelerated failure time, seeds left out in turn",
        "slope of log onset on log rate, between −1.25 and −0.8",
        sampler_pull.onset_by_rate,
        any_sampler=True,
    ),
    Claim(
        "S2b",
        "On the line of pure sampling, an onset, if any, goes as one over the square of the rate",
        f"{_EQUIVALENCE}, by accelerated failure time, seeds left out in turn",
        "slope of log onset on log rate, between −2.5 and −1.6",
        sampler_line.pure_onset_by_rate,
        any_sampler=True,
    ),
    Claim(
        "S3",
        "Onset is a constant over relative update norm times sharpening",
        "bootstrap over held-out arms",
        "median relative error of the law on held-out arms, at most 0.25",
        sampler_pull.law_predicts,
        any_sampler=True,
    ),
    Claim(
        "S4",
        "At equal sharpening and equal relative updates, onset does not depend on size",
        f"{_EQUIVALENCE} over models, by accelerated failure time",
        "time ratio of collapse per doubling of parameters, between 0.87 and 1.15",
        sampler_sizes.size_is_nothing,
        any_sampler=True,
    ),
    Claim(
        "S5a",
        "Batch size hardly matters in the freeze",
        f"{_EQUIVALENCE}, by accelerated failure time, seeds paired and left out in turn",
        "time ratio of batch 16 to batch 1, between 0.8 and 1.25",
        sampler_pull.batch_is_nothing,
        any_sampler=True,
    ),
    Claim(
        "S5b",
        "Batch size matters on the line of pure sampling",
        _SEEDS,
        "ratio of the rise in validation loss at one path length, batch 16 to batch 1, below 0.8",
        sampler_line.batch_matters_where_pure,
        any_sampler=True,
    ),
    Claim(
        "S6",
        "SmolLM2 behaves in the same way",
        "exact binomial against one half, and the entropy's slope below that of pure sampling",
        "share of pure runs without onset by ten times their partner's",
        sampler_line.smollm2_alike,
        any_sampler=True,
    ),
)
CLAIMS = (*PAPER_CLAIMS, *SAMPLER_CLAIMS)


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
    usual = with_paper_sampler(material)
    findings = [_with_two_seeds(claim.find(material if claim.any_sampler else usual)) for claim in claims]
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
