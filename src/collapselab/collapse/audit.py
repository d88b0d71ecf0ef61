"""An audit of any text: which samples of a file are degenerate, by which rules. Knows no tokenizer and no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collapselab.collapse.rules import MIN_TOKENS, SampleVerdict, count_visible, judge_sample, judge_step, unspaced
from collapselab.config.schema import Collapse
from collapselab.errors import InputError
from collapselab.inputs.text_files import TEXT_FIELDS, read_passages
from collapselab.metrics import repetition_metrics
from collapselab.metrics.repetition import ngrams
from collapselab.metrics.shares import clopper_pearson
from collapselab.records import Value

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Diagnosis:
    """One sample: where it stands ("tokens 0-199", "line 3"), its ids, verdict and metrics."""

    place: str
    token_ids: tuple[int, ...]
    verdict: SampleVerdict
    metrics: Mapping[str, Value]


@dataclass(frozen=True)
class Audit:
    """All samples of a file, and the share that is degenerate of those long enough to be judged.

    `interval` is Clopper-Pearson's at 95 %; it and `degenerate_share` are `None` if no sample could be judged.
    """

    samples: tuple[Diagnosis, ...]
    num_judged: int
    num_degenerate: int
    degenerate_share: float | None
    interval: tuple[float, float] | None
    kinds: Mapping[str, int]


def diagnose(
    path: Path,
    encode: Encode,
    decode: Decode | None,
    thresholds: Collapse,
    window: int = 200,
    *,
    field: str | None = None,
    ids_are_known: bool = True,
    stream: bool = False,
) -> Audit:
    """The audit of a file: plain text in windows of `window` tokens, or one sample per JSON record.

    Windows are disjoint; what is left at the end is a sample too. A window is a `template` if at least
    `template_share` of its 4-grams stand in the `thresholds.window` windows before it, taken as one text. A record's
    `token_ids` go before its text.

    Args:
        path: the file, or a pipe, read until its writer ends; `-` is standard input.
        encode: from text to token ids.
        decode: from token ids to text; `None`: the white-space rule is skipped.
        thresholds: the rules' settings.
        window: tokens a window of plain text, at least 100: shorter samples cannot be judged.
        field: of JSON records, the one with the text; default: the first that is known (`text_files.TEXT_FIELDS`).
        stream: JSON records are the steps of one run, in order: a sample may be a `template` of one in the window
            before it, or `frozen` by the loss in its record (`train_nll_nats` or `nll_nats`).
        ids_are_known: whether `decode` can read the `token_ids` of a file; if not, they are judged without it.

    Raises:
        InputError: what `text_files.read_passages` refuses, or a window under 100.
    """
    if window < MIN_TOKENS:
        raise InputError(
            f"windows need at least {MIN_TOKENS} tokens to be judged, received {window}", "the default is 200"
        )
    samples: list[Diagnosis] = []
    losses: list[float | None] = []
    for passage in read_passages(path, field, ("token_ids", *TEXT_FIELDS), pipes=True):
        losses.append(passage.own_nll_nats)
        if isinstance(passage.content, list):
            known = decode if ids_are_known else None
            samples.append(diagnose_ids(passage.place or "", passage.content, known, thresholds))
            continue
        ids = encode(passage.content)
        if passage.place is None:
            samples += _diagnose_stream(ids, decode, thresholds, window)
        else:
            samples.append(diagnose_ids(passage.place, ids, decode, thresholds))
    is_records = len(losses) == len(samples)
    return audit(tuple(_as_steps(samples, losses, thresholds) if stream and is_records else samples))


def _as_steps(
    samples: Sequence[Diagnosis], losses: Sequence[float | None], thresholds: Collapse
) -> Iterator[Diagnosis]:
    for i, (sample, own_nll) in enumerate(zip(samples, losses, strict=True)):
        earlier = [before.token_ids for before in samples[max(0, i - thresholds.window + 1) : i]]
        found = judge_step([sample.token_ids], [sample.verdict], earlier, own_nll, thresholds)
        yield replace(sample, verdict=SampleVerdict(found.degenerate, found.reasons, found.kind))


def diagnose_ids(place: str, ids: list[int], decode: Decode | None, thresholds: Collapse) -> Diagnosis:
    """The diagnosis of one sample."""
    metrics = repetition_metrics(ids)
    if decode is None:
        return Diagnosis(place, tuple(ids), judge_sample(ids, thresholds, None, metrics), metrics)
    verdict = judge_sample(
        ids, thresholds, count_visible(ids, decode), metrics, text=decode(ids), unspaced=unspaced(ids, decode)
    )
    return Diagnosis(place, tuple(ids), verdict, metrics)


def audit(samples: tuple[Diagnosis, ...]) -> Audit:
    """The totals of samples already diagnosed."""
    judged = [sample.verdict for sample in samples if sample.verdict.degenerate is not None]
    kinds = Counter(verdict.kind for verdict in judged if verdict.kind is not None)
    num_degenerate = sum(verdict.degenerate is True for verdict in judged)
    return Audit(
        samples=samples,
        num_judged=len(judged),
        num_degenerate=num_degenerate,
        degenerate_share=num_degenerate / len(judged) if judged else None,
        interval=clopper_pearson(num_degenerate, len(judged)),
        kinds=dict(kinds.most_common()),
    )


def _diagnose_stream(ids: list[int], decode: Decode | None, thresholds: Collapse, window: int) -> Iterator[Diagnosis]:
    shares = _repeated_shares(ids, window, thresholds.window * window)
    for start, share in zip(range(0, len(ids), window), shares, strict=True):
        part = ids[start : start + window]
        found = diagnose_ids(f"tokens {start}-{start + len(part) - 1}", part, decode, thresholds)
        verdict = found.verdict
        if len(part) >= MIN_TOKENS and share >= thresholds.template_share:
            verdict = SampleVerdict(True, (*verdict.reasons, "template"), verdict.kind or "template")
        yield replace(found, verdict=verdict)


def _repeated_shares(ids: list[int], window: int, looked_back: int) -> Iterator[float]:
    """Of each window, the share of 4-grams that stand in the `looked_back` tokens before it."""
    grams = list(ngrams(ids, 4))
    latest: dict[tuple[int, ...], int] = {}
    num_known = 0
    for start in range(0, len(ids), window):
        for place in range(num_known, max(num_known, start - 3)):  # the grams that end before the window
            latest[grams[place]] = place
        num_known = max(num_known, start - 3)
        earliest = max(0, start - looked_back)
        own = grams[start : start + window - 3]
        yield sum(latest.get(gram, -1) >= earliest for gram in own) / len(own) if own else 0.0
