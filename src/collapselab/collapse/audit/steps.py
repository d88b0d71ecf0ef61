"""Records that are the steps of one run, in order: what a sample's predecessors and its loss say."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from collapselab.collapse.audit.samples import Judged
from collapselab.collapse.rules import MIN_TOKENS, SampleVerdict, judge_step
from collapselab.collapse.start import Start
from collapselab.config.schema import Collapse


class Steps:
    """Judges each sample with the window before it; the first `start_samples` samples are what it is compared with.

    A start of which half is degenerate already is none.
    """

    def __init__(self, thresholds: Collapse) -> None:
        self._thresholds = thresholds
        self._earlier: deque[tuple[int, ...]] = deque(maxlen=thresholds.window - 1)
        self._first: list[tuple[int, ...]] = []
        self._num_broken = 0
        self._start: Start | None = None

    def judge(self, judged: Judged, own_nll_nats: float | None) -> SampleVerdict:
        """The verdict on the next sample."""
        ids, verdict = tuple(judged.ids.tolist()), judged.verdict
        found = judge_step([ids], [verdict], list(self._earlier), own_nll_nats, self._thresholds, start=self._start)
        self._earlier.append(ids)
        if self._start is None and len(self._first) < self._thresholds.start_samples and len(ids) >= MIN_TOKENS:
            self._first.append(ids)
            self._num_broken += found.degenerate is True
            is_healthy = 2 * self._num_broken < self._thresholds.start_samples
            if len(self._first) == self._thresholds.start_samples and is_healthy:
                self._start = Start(self._thresholds, None, tuple(self._first))
        if found.degenerate is None:
            return verdict
        return replace(verdict, degenerate=found.degenerate, reasons=found.reasons, kind=found.kind)
