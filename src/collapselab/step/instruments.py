"""What a step records besides the loop's own numbers: diversity, tails, drift. No other number depends on it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from collapselab.metrics import BINS, Reference, Window, window_metrics
from collapselab.records import Record, Sample, Value
from collapselab.step.batches import Batch
from collapselab.step.measure import loss_values
from collapselab.step.parts import Parts


class Instruments:
    """The measurements of a run; what they remember is rebuilt from its records."""

    def __init__(self, parts: Parts, history: Sequence[Record] = ()) -> None:
        self._parts = parts
        self._window: deque[tuple[int, ...]] = deque(maxlen=parts.config.metrics.samples)
        self._start: list[tuple[int, ...]] = []
        self._num_since_start = 0
        self._first: Mapping[str, Value] = history[0].values if history else {}
        for record in history:
            self._take(record.step, record.samples)

    def losses(self, step: int) -> dict[str, Value]:
        """The losses on human text by the protocol of every step, and those on tokens by their frequency."""
        tally = TokenTally(self._parts.baseline.reference)
        first_text = self._parts.config.data[0]

        def on_tokens(name: str, targets_BT: Tensor, nll_BT: Tensor) -> None:
            if name == first_text:
                tally.add(targets_BT, nll_BT)

        values = loss_values("val", self._parts.losses(step, on_tokens)) | tally.values()
        if step == 0:
            self._first = values
        return values | {"tail_gap_nats": tail_gap(values, self._first)}

    def measure(
        self, step: int, values: Mapping[str, Value], batch: Batch, samples: Sequence[Sample]
    ) -> dict[str, Value]:
        """What is to be measured at this step.

        Args:
            step: its number; steps come in order.
            values: of the record so far.
            batch: what is trained on.
            samples: of the step.
        """
        config, baseline = self._parts.config, self._parts.baseline
        found: dict[str, Value] = {"effective_vocabulary": _exp(values["entropy_nats"])}
        if baseline.first_model is not None:
            nll, own_nll = baseline.first_model.nll_nats(batch), values["train_nll_nats"]
            assert isinstance(own_nll, float), own_nll
            found |= {"first_model_nll_nats": nll, "own_nll_gap_nats": nll - own_nll}
        if baseline.contexts is not None and step % config.metrics.contexts_every == 0:
            found |= baseline.contexts.values(self._parts.learner)
        self._take(step, samples)
        if self._is_due(step, samples) and len(self._window) == config.metrics.samples:
            # As long as the window has samples of the start, nothing of the start is lost.
            start = self._start if self._num_since_start >= len(self._window) else ()
            found |= window_metrics(Window(tuple(self._window), baseline.reference, start))
        return found

    def _take(self, step: int, samples: Sequence[Sample]) -> None:
        """Those that are judged, the untouched model's first."""
        judged = "train" if self._parts.config.collapse.source == "stream" else "probe"
        start = [sample.token_ids for sample in samples if sample.role == "start"]
        new = [sample.token_ids for sample in samples if sample.role == judged]
        self._window.extend([*start, *new])
        self._num_since_start += len(new)
        if step == 0:
            self._start = start or new
            self._num_since_start = len(new) if start else 0

    def _is_due(self, step: int, samples: Sequence[Sample]) -> bool:
        every = self._parts.config.metrics.every
        if self._parts.config.collapse.source == "probe":
            return every > 0 and any(sample.role == "probe" for sample in samples)
        return every > 0 and step % every == 0


class TokenTally:
    """Sums and numbers of the losses of single tokens, by the bin of their frequency."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._sums, self._counts = np.zeros(len(BINS)), np.zeros(len(BINS))

    def add(self, targets_BT: Tensor, nll_BT: Tensor) -> None:
        """Takes in tokens and their losses, both of one shape."""
        bins = self._reference.bins(targets_BT.flatten().numpy())
        self._sums += np.bincount(bins, nll_BT.double().flatten().numpy(), len(BINS))
        self._counts += np.bincount(bins, minlength=len(BINS))

    def values(self) -> dict[str, Value]:
        """The mean of each bin; `None` where there was no token."""
        pairs = zip(BINS, self._sums, self._counts, strict=True)
        return {f"nll_nats_rank_{name}": float(total / count) if count else None for name, total, count in pairs}


def tail_gap(values: Mapping[str, Value], first: Mapping[str, Value]) -> float | None:
    """The rise of the loss since step 0 in the rarest bin that is known, minus the rise in the commonest.

    Above 0 where the model forgets the rare before the common. Competing definitions: the rise in the rarest bin alone,
    which every general loss raises. Undefined below two known bins.

    Reference: Shumailov et al. 2024 (the tails go first).
    """
    rises: list[float] = []
    for name in BINS:
        now, before = values.get(f"nll_nats_rank_{name}"), first.get(f"nll_nats_rank_{name}")
        if isinstance(now, float) and isinstance(before, float):
            rises.append(now - before)
    return rises[-1] - rises[0] if len(rises) > 1 else None


def _exp(nats: Value) -> float | None:
    return math.exp(nats) if isinstance(nats, float) else None
