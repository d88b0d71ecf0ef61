"""Batches of texts judged on all cores: encoded, measured and judged in threads, and handed back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from collapselab.collapse.audit.samples import Judge, Judged
from collapselab.collapse.audit.texts import Bad, Text, batches
from collapselab.collapse.rules import MIN_TOKENS, SampleVerdict
from collapselab.engine.repetition import repeated_shares
from collapselab.inputs.corpus import Corpus
from collapselab.rundir.machine import num_cores

MAX_WORKERS = 4  # encoding uses all cores by itself; more workers only hold more batches in memory
MAX_TOKENS = 32_768  # of one text: longer ones are judged in parts, since the search for loops grows with the square
Parts = list[tuple[str, Judged]]


@dataclass(frozen=True)
class Options:
    """What is asked for: tokens a window of plain text, the field, what to group by, whether rows are a run's steps."""

    window: int = 200
    field: str | None = None
    by: str | None = None
    strict: bool = False
    stream: bool = False


def judged_in_order(corpus: Corpus, judge: Judge, options: Options) -> Iterator[list[tuple[Text | Bad, Parts]]]:
    """The batches of a corpus, judged on all cores, in order: each item with its judged parts.

    Raises:
        InputError: as `texts.batches`.
    """
    workers = min(num_cores(), MAX_WORKERS)
    pending: deque[Future[list[tuple[Text | Bad, Parts]]]] = deque()
    with ThreadPoolExecutor(workers, "audit") as pool:
        try:
            for batch in batches(corpus, options.field, options.by, strict=options.strict):
                pending.append(pool.submit(_judge_batch, batch, judge, options.window))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _judge_batch(batch: list[Text | Bad], judge: Judge, window: int) -> list[tuple[Text | Bad, Parts]]:
    """Each item with its judged parts: one, or several for a stretch of plain text and for a very long text."""
    texts = [item for item in batch if isinstance(item, Text)]
    if texts and texts[0].row.is_prose:
        return [(texts[0], _judge_stretch(texts[0], judge, window))]
    encoded = judge.encode([text.content for text in texts])
    pieces = [
        (i, start, ids[start : start + MAX_TOKENS])
        for i, ids in enumerate(encoded)
        for start in range(0, max(1, len(ids)), MAX_TOKENS)
    ]
    known = [text.content if isinstance(text.content, str) else None for text in texts]
    contents = [
        known[i] if len(encoded[i]) <= MAX_TOKENS or known[i] is None else judge.decode(ids.tolist())
        for i, _, ids in pieces
    ]
    parts: list[Parts] = [[] for _ in texts]
    for (i, start, ids), judged in zip(pieces, judge.judge_ids([p[2] for p in pieces], contents), strict=True):
        place = f"tokens {start}-{start + len(ids) - 1}" if len(encoded[i]) > MAX_TOKENS else ""
        parts[i].append((place, judged))
    of_texts = iter(parts)
    return [(item, next(of_texts) if isinstance(item, Text) else []) for item in batch]


def _judge_stretch(text: Text, judge: Judge, window: int) -> Parts:
    """The windows of a plain text; one most of whose 4-grams stand in the 8 windows before it is a `template`."""
    (ids,) = judge.encode([text.content])
    thresholds = judge.thresholds
    windows = [ids[start : start + window] for start in range(0, len(ids), window)]
    shares = repeated_shares(ids, window, thresholds.window * window)
    parts: Parts = []
    for judged, share in zip(
        judge.judge_ids(windows, [judge.decode(w.tolist()) for w in windows]), shares, strict=True
    ):
        verdict = judged.verdict
        if len(judged.ids) >= MIN_TOKENS and share >= thresholds.template_share:
            verdict = SampleVerdict(True, (*verdict.reasons, "template"), verdict.kind or "template")
        parts.append(("", replace(judged, verdict=verdict)))
    return parts
