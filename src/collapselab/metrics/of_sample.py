"""The metrics of one sample: a line of the table for each."""

from __future__ import annotations

from collections.abc import Callable

from collapselab.metrics.kinds import Metric
from collapselab.metrics.repetition import (
    Ids,
    Loop,
    diversity,
    find_loop,
    longest_repeat,
    lz_ratio,
    match_entropy_nats,
    rep_r,
    rep_w,
    seq_rep,
    top_token_share,
)
from collapselab.records import Number, Value


def _of_loop(read: Callable[[Loop], Value], *, tolerant: bool = True) -> Callable[[Ids], Value]:
    def function(ids: Ids) -> Value:
        loop = find_loop(ids, tolerant=tolerant)
        return None if loop is None else read(loop)

    return function


OF_SAMPLE: dict[str, Metric] = {
    "seq_rep_1": Metric(lambda ids: seq_rep(ids, 1), Number("share", "1 − distinct tokens / T", "repeated tokens")),
    "seq_rep_2": Metric(
        lambda ids: seq_rep(ids, 2), Number("share", "1 − distinct 2-grams / (T − 1)", "repeated 2-grams")
    ),
    "seq_rep_3": Metric(
        lambda ids: seq_rep(ids, 3), Number("share", "1 − distinct 3-grams / (T − 2)", "repeated 3-grams")
    ),
    "seq_rep_4": Metric(
        lambda ids: seq_rep(ids, 4),
        Number("share", "1 − distinct 4-grams / (T − 3)", "repeated 4-grams", "repetition", live="rep-4"),
    ),
    "diversity": Metric(diversity, Number("share", "(1 − seq_rep_2) (1 − seq_rep_3) (1 − seq_rep_4)", "diversity")),
    "rep_w": Metric(
        rep_w, Number("share", "tokens that also occur among the 16 before them", "tokens repeated within 16")
    ),
    "rep_r": Metric(
        rep_r, Number("share", "tokens in a bigram that occurs more than once", "tokens in repeated bigrams")
    ),
    "loop_period": Metric(
        _of_loop(lambda loop: loop.period),
        Number(
            "tokens",
            "period of the sample's longest loop, at most 64; one slip per 64 tokens is allowed; null: no loop",
            "period of the longest loop",
        ),
    ),
    "loop_span": Metric(
        _of_loop(lambda loop: loop.span),
        Number("tokens", "length of that loop, including its first copy", "length of that loop"),
    ),
    "loop_copies": Metric(
        _of_loop(lambda loop: loop.copies), Number("copies", "loop_span / loop_period", "copies in that loop")
    ),
    "loop_at_end": Metric(
        _of_loop(lambda loop: loop.at_end),
        Number("true, false", "whether that loop reaches the sample's end", "loop reaches the end"),
    ),
    "loop_span_strict": Metric(
        _of_loop(lambda loop: loop.span, tolerant=False),
        Number("tokens", "length of the longest loop without any slip", "longest loop without a slip"),
    ),
    "match_entropy_nats": Metric(
        match_entropy_nats,
        Number(
            "nats per token",
            "entropy estimated from the lengths of matches with the text before",
            "entropy of the sample (match lengths)",
            "entropy",
        ),
    ),
    "lz_ratio": Metric(lz_ratio, Number("ratio", "bytes of the deflated ids / bytes of the ids", "compressed size")),
    "top_token_share": Metric(
        top_token_share, Number("share", "tokens equal to the most frequent one", "most frequent token")
    ),
    "longest_repeat": Metric(
        longest_repeat,
        Number("tokens", "longest substring that occurs twice, overlap allowed", "longest repeated passage"),
    ),
}
