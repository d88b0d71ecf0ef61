"""The metrics of several samples, alone and against a reference text: a line of the table for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from collapselab.metrics.diversity import (
    distinct_per_sample,
    distinct_pooled,
    ngram_entropy_nats,
    self_bleu,
    unique_sequences,
)
from collapselab.metrics.kinds import Metric, Window
from collapselab.metrics.lexical import heaps_exponent, mattr, mtld, zipf_least_squares, zipf_likelihood
from collapselab.metrics.reference import (
    NOVELTY_N,
    RANKS,
    lost_types,
    mass_ratio,
    missing_mass,
    novelty,
    vocabulary_coverage,
)
from collapselab.metrics.repetition import Ids
from collapselab.records import Number, Value


def _alone(function: Callable[[Sequence[Ids]], Value], number: Number) -> Metric:
    """A metric of the window's samples alone."""
    return Metric(lambda window: function(window.samples), number, "window")


def _compared(function: Callable[[Window], Value], number: Number) -> Metric:
    """A metric of the window's samples and what they are compared with."""
    return Metric(function, number, "window")


OF_WINDOW: dict[str, Metric] = {
    # --- several samples
    "unigram_entropy_nats": _alone(
        partial(ngram_entropy_nats, n=1),
        Number("nats", "entropy of the window's tokens, pooled", "entropy of tokens"),
    ),
    "bigram_entropy_nats": _alone(
        partial(ngram_entropy_nats, n=2),
        Number("nats", "entropy of the window's 2-grams, pooled", "entropy of 2-grams"),
    ),
    **{
        f"distinct_{n}_{way}": _alone(
            partial(function, n=n), Number("share", meaning.format(n=n), f"distinct {n}-grams, {shown}")
        )
        for n in (1, 2, 3, 4)
        for way, shown, function, meaning in (
            (
                "pooled",
                "all samples together",
                distinct_pooled,
                "distinct {n}-grams of the window's samples together / their {n}-grams",
            ),
            (
                "per_sample",
                "mean of the samples",
                distinct_per_sample,
                "distinct {n}-grams / {n}-grams, mean over the window's samples",
            ),
        )
    },
    "self_bleu": _alone(
        self_bleu, Number("share", "mean BLEU-4 of each of the window's samples against the others", "self-BLEU")
    ),
    "unique_sequences": _alone(
        unique_sequences, Number("share", "the window's samples that equal no earlier one", "unique samples")
    ),
    "mattr_50": _alone(
        mattr,
        Number("share", "distinct tokens / tokens, mean over stretches of 50 tokens", "distinct tokens in 50 (MATTR)"),
    ),
    "mtld": _alone(
        mtld,
        Number(
            "tokens",
            "mean length of stretches with distinct tokens / tokens above 0.72, both ways",
            "lexical diversity (MTLD)",
        ),
    ),
    "zipf_least_squares": _alone(
        zipf_least_squares,
        Number(
            "–",
            "s of frequency ~ rank^−s in the window, by least squares over 5000 ranks",
            "Zipf exponent, least squares",
        ),
    ),
    "zipf_likelihood": _alone(
        zipf_likelihood,
        Number("–", "the same s by maximum likelihood of the tokens' counts", "Zipf exponent, maximum likelihood"),
    ),
    "heaps_exponent": _alone(
        heaps_exponent, Number("–", "β of distinct tokens ~ tokens^β in the joined window", "Heaps exponent")
    ),
    # --- against a reference text
    **{
        f"mass_rank_{name}": _compared(
            lambda window, name=name: mass_ratio(window.samples, window.reference, name),
            Number(
                "ratio",
                f"share of the window's tokens of reference rank {ranks} / the reference's share",
                f"mass of tokens of rank {ranks}, sample / reference",
            ),
        )
        for name, ranks in RANKS.items()
    },
    "vocabulary_coverage": _compared(
        lambda window: vocabulary_coverage(window.samples, window.reference),
        Number(
            "share", "the reference's different tokens that the window has", "coverage of the reference's vocabulary"
        ),
    ),
    "lost_types": _compared(
        lambda window: lost_types(window.samples, window.start),
        Number("share", "different tokens of the untouched model's samples that the window lacks", "lost types"),
    ),
    "missing_mass": _alone(
        missing_mass, Number("share", "tokens that occur once in the window (Good–Turing)", "missing mass")
    ),
    **{
        f"novelty_{n}": _compared(
            lambda window, n=n: novelty(window.samples, window.reference, n),
            Number("share", f"the window's {n}-grams that the reference text does not have", f"novel {n}-grams"),
        )
        for n in NOVELTY_N
    },
}
