"""Verdicts on many texts at once: encoded together, measured in C, judged by the rules for their length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collapselab.collapse.rules import MIN_TOKENS, SampleVerdict, Seen, judge_seen
from collapselab.collapse.short import MIN_SHORT_TOKENS, judge_short
from collapselab.config.schema import Collapse
from collapselab.engine.repetition import repetition_of
from collapselab.inputs.text_fields import Content
from collapselab.records import Value

IdArray = NDArray[np.uint32]
EncodeAll = Callable[[list[str]], list[list[int]]]
Decode = Callable[[list[int]], str]
TOO_SHORT = f"under_{MIN_SHORT_TOKENS}_tokens"


@dataclass(frozen=True)
class Judged:
    """One text: its ids, its verdict (`degenerate` is `None` under 20 tokens), and the metrics that were judged.

    `text` is `None` where only ids of an unknown tokenizer are known.
    """

    ids: IdArray
    text: str | None
    verdict: SampleVerdict
    metrics: dict[str, Value]


class Judge:
    """The rules under one tokenizer.

    Args:
        encode_all: from texts to token ids, many at once.
        decode: from token ids to text.
        thresholds: the rules' settings.
        ids_are_known: whether `decode` can read `token_ids` of a file; if not, they are judged without their text.
    """

    def __init__(
        self, encode_all: EncodeAll, decode: Decode, thresholds: Collapse, *, ids_are_known: bool = True
    ) -> None:
        self.encode_all, self.decode, self.thresholds = encode_all, decode, thresholds
        self.ids_are_known = ids_are_known
        self._kinds = np.zeros(0, np.uint8)  # of tokens: 0 not yet seen, 1 visible, 2 white space, 3 blank

    def encode(self, contents: Sequence[Content]) -> list[IdArray]:
        """The ids of texts; ids stay as they are."""
        encoded = iter(self.encode_all([content for content in contents if isinstance(content, str)]))
        return [np.asarray(next(encoded) if isinstance(c, str) else c, np.uint32) for c in contents]

    def judge(self, contents: Sequence[Content]) -> list[Judged]:
        """The verdicts on texts or token ids."""
        texts = [content if isinstance(content, str) else None for content in contents]
        return self.judge_ids(self.encode(contents), texts)

    def judge_ids(self, samples: Sequence[IdArray], texts: Sequence[str | None]) -> list[Judged]:
        """The verdicts on ids, whose texts are known or can be decoded."""
        looks = [
            self._look(ids) if text is not None or self.ids_are_known else (ids, None)
            for ids, text in zip(samples, texts, strict=True)
        ]
        measured = repetition_of([ids for ids, _ in looks])
        judged: list[Judged] = []
        for ids, text, (unspaced, visible), metrics in zip(samples, texts, looks, measured, strict=True):
            if text is None and self.ids_are_known:
                text = self.decode(ids.tolist())
            verdict = self._verdict(len(ids), Seen(len(unspaced), metrics, visible, text))
            judged.append(Judged(ids, text, verdict, metrics))
        return judged

    def _verdict(self, num_tokens: int, seen: Seen) -> SampleVerdict:
        if num_tokens < MIN_SHORT_TOKENS:
            return SampleVerdict(None, (TOO_SHORT,))
        return judge_seen(seen, self.thresholds) if num_tokens >= MIN_TOKENS else judge_short(seen)

    def _look(self, ids: IdArray) -> tuple[IdArray, int]:
        """The ids with each run of blanks as one token (`rules.unspaced`), and the number of visible tokens."""
        kinds = self._kinds_of(ids)
        visible = int((kinds == 1).sum())
        is_blank = kinds == 3
        if not is_blank.any():
            return ids, visible
        is_again = np.zeros(len(ids), bool)
        is_again[1:] = is_blank[1:] & is_blank[:-1]
        return ids[~is_again], visible

    def _kinds_of(self, ids: IdArray) -> NDArray[np.uint8]:
        known = self._kinds
        if len(ids) and int(ids.max()) >= len(known):
            known = np.concatenate([known, np.zeros(int(ids.max()) + 1 - len(known) + 1024, np.uint8)])
        kinds = known[ids]
        if not kinds.all():
            for token in np.unique(ids[kinds == 0]).tolist():
                text = self.decode([token])
                known[token] = 1 if text.strip() else 2 if text.strip(" \t") else 3
            kinds = known[ids]
            self._kinds = known
        return kinds
