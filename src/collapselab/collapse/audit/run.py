"""The audit of a corpus: batches of texts judged on all cores, taken in order, counted; memory does not grow."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from collapselab.collapse.audit.batches import Options, Parts, judged_in_order
from collapselab.collapse.audit.human import nearest_length
from collapselab.collapse.audit.likeness import Copies, Kept, Likeness, Openings, likeness
from collapselab.collapse.audit.samples import Judge, Judged
from collapselab.collapse.audit.steps import Steps
from collapselab.collapse.audit.tally import Tally, onset_of
from collapselab.collapse.audit.texts import Bad, Text, step_field
from collapselab.collapse.audit.whole import Whole, judge_whole
from collapselab.collapse.rules import MIN_TOKENS
from collapselab.errors import InputError
from collapselab.inputs.corpus import Corpus

POOL_TOKENS = 200
MAX_GROUPS, BAD_KEPT, WORST_PER_KIND, WORST_CHARACTERS = 1000, 20, 3, 20_000


@dataclass(frozen=True)
class Sample:
    """A text that was judged: its place, its number in the corpus (from 1), its row's text and its verdict."""

    place: str
    number: int
    text: Text
    judged: Judged


@dataclass
class Audit:
    """What was found in a corpus. `flags`: 1 for a degenerate text, 0 for another, of all judged ones in order.

    `numbers`: their numbers in the corpus. `lengths`: how many of them have each `human.nearest_length`. `paths`: rows
    by the field that held their text. `short`: texts of 20 to 99 tokens, which `tally` counts too. `pools`: texts under
    20 tokens, judged together.
    """

    window: int
    tally: Tally = field(default_factory=Tally)
    short: Tally = field(default_factory=Tally)
    pools: Tally = field(default_factory=Tally)
    by: dict[str, Tally] = field(default_factory=dict[str, Tally])
    paths: Counter[str] = field(default_factory=Counter[str])
    lengths: Counter[int] = field(default_factory=Counter[int])
    num_texts: int = 0
    num_tokens: int = 0
    num_pooled: int = 0
    num_bad: int = 0
    bad: list[Bad] = field(default_factory=list[Bad])
    flags: bytearray = field(default_factory=bytearray)
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    step_field: str | None = None
    is_ordered: bool = False
    worst: list[Sample] = field(default_factory=list[Sample])
    likeness: Likeness | None = None
    whole: Whole | None = None

    @property
    def onset_row(self) -> int | None:
        """The number of the text from which on the corpus is degenerate (`tally.onset_of`)."""
        index = onset_of(self.flags)
        return None if index is None else self.numbers[index]


def audit(
    corpus: Corpus,
    judge: Judge,
    options: Options,
    *,
    each: Callable[[Sample], None] | None = None,
    progress: Callable[[Audit], None] | None = None,
    reference: Kept | None = None,
) -> tuple[Audit, Kept]:
    """The audit of a corpus, and the texts kept of it, which may be another audit's `reference`.

    Args:
        corpus: the files.
        judge: the rules, with a tokenizer.
        options: see there.
        each: called for each text, in order, once it was judged.
        progress: called after each batch.
        reference: texts to compare the whole corpus with.

    Raises:
        InputError: a file cannot be read, no row has a text, `--by` has too many values; with `strict`, a row is bad.
    """
    if options.window < MIN_TOKENS:
        raise InputError(
            f"windows need at least {MIN_TOKENS} tokens to be judged, received {options.window}", "the default is 200"
        )
    taken = _Taken(judge, options, each)
    for items in judged_in_order(corpus, judge, options):
        taken.take(items)
        if progress is not None:
            progress(taken.audit)
    return taken.finish(reference), taken.kept


class _Taken:
    """What was counted so far, and the state that judging in order needs."""

    def __init__(self, judge: Judge, options: Options, each: Callable[[Sample], None] | None) -> None:
        self.judge, self.options, self.each = judge, options, each
        self.audit, self.kept = Audit(options.window), Kept()
        self.copies, self.openings = Copies(), Openings()
        self.steps = Steps(judge.thresholds) if options.stream else None
        self._pool: list[tuple[str, Judged]] = []
        self._worst: dict[str, list[tuple[float, int, int, Sample]]] = {}
        self._token, self._file = 0, ""

    def take(self, items: list[tuple[Text | Bad, Parts]]) -> None:
        audit = self.audit
        for text, parts in items:
            if isinstance(text, Bad):
                audit.num_bad += 1
                audit.bad += [text] if len(audit.bad) < BAD_KEPT else []
                continue
            if audit.num_texts == 0:
                audit.step_field = step_field(text.row.record)
                audit.is_ordered = text.row.is_prose or self.options.stream or audit.step_field is not None
            audit.paths[text.path] += 1
            for place, judged in parts:
                self._take_one(text, self._place(text, place, len(judged.ids)), judged)

    def _place(self, text: Text, part: str, length: int) -> str:
        if not text.row.is_prose:
            return ", ".join(piece for piece in (text.row.full_place, part) if piece)
        if text.row.file != self._file:
            self._file, self._token = text.row.file, 0
        self._token += length
        place = f"tokens {self._token - length}-{self._token - 1}"
        return f"{self._file}, {place}" if self._file else place

    def _take_one(self, text: Text, place: str, judged: Judged) -> None:
        audit = self.audit
        if self.steps is not None and not text.row.is_prose:
            judged = replace(judged, verdict=self.steps.judge(judged, text.own_nll_nats))
        audit.num_texts += 1
        audit.num_tokens += len(judged.ids)
        sample = Sample(place, audit.num_texts, text, judged)
        if judged.verdict.degenerate is None:
            self._pool_one(sample)
        self._count(sample)
        self.kept.add(judged.ids)
        self.copies.add(judged.text.encode() if judged.text is not None else judged.ids.tobytes())
        if judged.text is not None:
            self.openings.add(judged.text)
        if self.each is not None:
            self.each(sample)

    def _count(self, sample: Sample) -> None:
        audit, verdict = self.audit, sample.judged.verdict
        audit.tally.add(verdict)
        if verdict.degenerate is not None and len(sample.judged.ids) < MIN_TOKENS:
            audit.short.add(verdict)
        if verdict.degenerate is not None:
            audit.flags.append(verdict.degenerate)
            audit.numbers.append(sample.number)
            audit.lengths[nearest_length(len(sample.judged.ids))] += 1
        if sample.text.by is not None:
            if sample.text.by not in audit.by and len(audit.by) == MAX_GROUPS:
                raise InputError(
                    f"--by {self.options.by} has more than {MAX_GROUPS} values", "name a field with fewer values"
                )
            audit.by.setdefault(sample.text.by, Tally()).add(verdict)
        if verdict.degenerate:
            heap = self._worst.setdefault(verdict.kind or "", [])
            repeated = sample.judged.metrics["seq_rep_4"]
            share = round(repeated, 2) if isinstance(repeated, float) else 0.0
            heapq.heappush(heap, (share, len(sample.judged.ids), -sample.number, _without_bulk(sample)))
            if len(heap) > WORST_PER_KIND:
                heapq.heappop(heap)

    def _pool_one(self, sample: Sample) -> None:
        """Texts too short to be judged alone are judged together."""
        self.audit.num_pooled += 1
        self._pool.append((sample.place, sample.judged))
        if sum(len(judged.ids) for _, judged in self._pool) >= POOL_TOKENS:
            self._judge_pool()

    def _judge_pool(self) -> None:
        texts = [judged.text for _, judged in self._pool]
        joined = "\n".join(text for text in texts if text is not None) if None not in texts else None
        content = joined if joined is not None else [int(t) for _, judged in self._pool for t in judged.ids]
        (together,) = self.judge.judge([content])
        self.audit.pools.add(together.verdict)
        self._pool = []

    def finish(self, reference: Kept | None) -> Audit:
        audit = self.audit
        if audit.num_texts == 0:
            if not audit.bad:
                raise InputError("there is no row to judge", "write one JSON object, or one line of CSV, for each text")
            rule = f"no row has a text that can be judged: {audit.bad[0].place} {audit.bad[0].reason}"
            raise InputError(rule, "name the field with the generated text: --field a.b[0].c")
        if self._pool:
            self._judge_pool()
        decode = self.judge.decode if self.judge.ids_are_known or "token_ids" not in audit.paths else None
        audit.likeness = likeness(self.kept, self.copies, self.openings, decode)
        audit.whole = judge_whole(self.kept.ids, audit.likeness, self.judge, audit.is_ordered, reference)
        ranked = sorted((entry for heap in self._worst.values() for entry in heap), key=lambda entry: entry[:3])
        audit.worst = [sample for *_, sample in reversed(ranked)]
        return audit


def _without_bulk(sample: Sample) -> Sample:
    """The sample without its record, and with the start of a long text."""
    text = sample.judged.text
    judged = replace(sample.judged, text=None if text is None else text[:WORST_CHARACTERS])
    return replace(
        sample, judged=judged, text=replace(sample.text, row=replace(sample.text.row, record=None), content="")
    )
