"""All metrics in one table, and the repetition metrics of a sample as `steps.jsonl` names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collapselab.metrics.diversity import distinct_per_sample, distinct_pooled, self_bleu
from collapselab.metrics.matches import match_lengths
from collapselab.metrics.repetition import (
    Ids,
    Loop,
    diversity,
    entropy_of_matches,
    find_loop,
    longest_repeat,
    lz_ratio,
    match_entropy_nats,
    rep_r,
    rep_w,
    seq_rep,
    top_token_share,
)
from collapselab.records import Value

__all__ = ["SAMPLES_METRICS", "SAMPLE_METRICS", "Metric", "SamplesMetric", "repetition_metrics"]


@dataclass(frozen=True)
class Metric:
    """A function of one sample's token ids, and what it measures."""

    function: Callable[[Ids], Value]
    description: str


@dataclass(frozen=True)
class SamplesMetric:
    """A function of several samples' token ids, and what it measures."""

    function: Callable[[Sequence[Ids]], Value]
    description: str


def _of_loop(read: Callable[[Loop], Value], *, tolerant: bool = True) -> Callable[[Ids], Value]:
    def function(ids: Ids) -> Value:
        loop = find_loop(ids, tolerant=tolerant)
        return None if loop is None else read(loop)

    return function


SAMPLE_METRICS: dict[str, Metric] = {
    "seq_rep_1": Metric(lambda ids: seq_rep(ids, 1), "share of tokens that repeat an earlier one"),
    "seq_rep_2": Metric(lambda ids: seq_rep(ids, 2), "share of 2-grams that repeat an earlier one"),
    "seq_rep_3": Metric(lambda ids: seq_rep(ids, 3), "share of 3-grams that repeat an earlier one"),
    "seq_rep_4": Metric(lambda ids: seq_rep(ids, 4), "share of 4-grams that repeat an earlier one"),
    "diversity": Metric(diversity, "product of 1 - seq_rep_n, n = 2..4"),
    "rep_w": Metric(rep_w, "share of tokens that occur among the 16 before them"),
    "rep_r": Metric(rep_r, "share of tokens inside a bigram that occurs again"),
    "loop_period": Metric(_of_loop(lambda loop: loop.period), "period of the longest loop, in tokens"),
    "loop_span": Metric(
        _of_loop(lambda loop: loop.span), "tokens in the longest loop, allowing one slip per 64 tokens"
    ),
    "loop_copies": Metric(_of_loop(lambda loop: loop.copies), "copies in the longest loop"),
    "loop_at_end": Metric(_of_loop(lambda loop: loop.at_end), "the longest loop lasts to the sample's end"),
    "loop_span_strict": Metric(_of_loop(lambda loop: loop.span, tolerant=False), "the same without slips"),
    "match_entropy_nats": Metric(match_entropy_nats, "entropy per token from match lengths"),
    "lz_ratio": Metric(lz_ratio, "deflated size of the ids / their size"),
    "top_token_share": Metric(top_token_share, "the most frequent token's share"),
    "longest_repeat": Metric(longest_repeat, "length of the longest repeated substring, in tokens"),
}

SAMPLES_METRICS: dict[str, SamplesMetric] = {
    "self_bleu": SamplesMetric(self_bleu, "mean BLEU-4 of each sample against the others"),
} | {
    f"distinct_{n}_{way}": SamplesMetric(lambda samples, f=function, n=n: f(samples, n), f"distinct {n}-grams {how}")
    for n in (1, 2, 3, 4)
    for way, function, how in (
        ("pooled", distinct_pooled, "of all samples / n-grams of all samples"),
        ("per_sample", distinct_per_sample, "/ n-grams, mean over samples"),
    )
}


def repetition_metrics(ids: Ids) -> dict[str, Value]:
    """Every metric of `SAMPLE_METRICS` on one sample; match lengths and loops are computed once.

    CPU time measured on a Xeon core: 1.5 ms for 200 tokens, 5 ms for 1024.
    """
    lengths = match_lengths(ids)
    shared: dict[str, Value] = {
        "match_entropy_nats": entropy_of_matches(lengths),
        "longest_repeat": max(lengths) if lengths else None,
    }
    loop = find_loop(ids, tolerant=True)
    if loop is not None:
        shared |= {"loop_period": loop.period, "loop_span": loop.span}
        shared |= {"loop_copies": loop.copies, "loop_at_end": loop.at_end}
    return {name: shared[name] if name in shared else metric.function(ids) for name, metric in SAMPLE_METRICS.items()}
