"""The values of a record: losses, metrics of the samples, times. Without torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Protocol as Interface

from collapselab.metrics import repetition_metrics
from collapselab.records import Value

Metric = Callable[[Sequence[int]], Value]


class MeasuredLoss(Interface):
    """What a record keeps of a loss (`evaluate.Loss`)."""

    @property
    def nll_nats(self) -> float: ...
    @property
    def se_nats(self) -> float | None: ...


class UpdateNorms(Interface):
    """What a record keeps of an update (`batches.StepStats`)."""

    @property
    def grad_norm(self) -> float: ...
    @property
    def update_norm(self) -> float: ...
    @property
    def relative_update_norm(self) -> float | None: ...


class Stopwatch:
    """Seconds by phase since it was made; phases may be visited more than once."""

    def __init__(self) -> None:
        self.seconds: dict[str, Value] = {}
        self._sums: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Adds the time since the last lap to a phase."""
        now = time.perf_counter()
        self._sums[phase] = self._sums.get(phase, 0.0) + now - self._last
        self.seconds[f"seconds_{phase}"] = self._sums[phase]
        self._last = now


def loss_values(prefix: str, losses: Mapping[str, MeasuredLoss]) -> dict[str, Value]:
    """`val_nll_nats[TEXT]` and `val_nll_se[TEXT]` of every text; for the first one also without its name."""
    values: dict[str, Value] = {}
    for name, loss in losses.items():
        if not values:
            values |= {f"{prefix}_nll_nats": loss.nll_nats, f"{prefix}_nll_se": loss.se_nats}
        values |= {f"{prefix}_nll_nats[{name}]": loss.nll_nats, f"{prefix}_nll_se[{name}]": loss.se_nats}
    return values


def update_values(updates: Sequence[UpdateNorms]) -> dict[str, Value]:
    """The norms of a step's last update; `None` where it made none."""
    names = ("grad_norm", "update_norm", "relative_update_norm")
    return {name: getattr(updates[-1], name) if updates else None for name in names}


def sample_values(samples: Sequence[Sequence[int]], metrics: Mapping[str, Metric]) -> dict[str, Value]:
    """Metrics of the training samples, by `mean_values`."""
    rows = [
        {"num_tokens": len(ids), **repetition_metrics(ids), **{name: f(ids) for name, f in metrics.items()}}
        for ids in samples
    ]
    return mean_values(rows)


def mean_values(rows: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """The metrics of several samples as a record has them: their means, and the longest loop of any of them."""
    if len(rows) == 1:
        return dict(rows[0])
    longest = max(rows, key=lambda row: row["loop_span"] or 0)
    return {name: longest[name] if name.startswith("loop_") else _mean([r[name] for r in rows]) for name in rows[0]}


def _mean(values: Sequence[Value]) -> Value:
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    return fmean(numbers) if numbers else None
