"""The values of a record: losses, metrics of the samples, the verdict, times. Without torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Protocol as Interface

from collapselab.collapse.course import CollapseState, Observation, advance
from collapselab.collapse.rules import StepVerdict, judge_sample, judge_step
from collapselab.config.schema import Collapse
from collapselab.inputs.tokenizers import Tokenizer
from collapselab.metrics import repetition_metrics
from collapselab.records import Record, Sample, Value

_LOSSES_AND_NORMS = ("train_nll_nats", "val_nll_nats", "full_nll_nats", "grad_norm", "update_norm")

Metric = Callable[[Sequence[int]], Value]


class MeasuredLoss(Interface):
    """What a record keeps of a loss (`evaluation.Loss`)."""

    @property
    def nll_nats(self) -> float: ...
    @property
    def se_nats(self) -> float | None: ...


class Stopwatch:
    """Seconds by phase since its making; phases may be visited more than once."""

    def __init__(self) -> None:
        self.seconds: dict[str, Value] = {}
        self._sums: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Counts the time since the last lap to a phase."""
        now = time.perf_counter()
        self._sums[phase] = self._sums.get(phase, 0.0) + now - self._last
        self.seconds[f"seconds_{phase}"] = self._sums[phase]
        self._last = now


def loss_values(prefix: str, losses: Mapping[str, MeasuredLoss]) -> dict[str, Value]:
    """`val_nll_nats[TEXT]` and `val_nll_se[TEXT]` of every text, and of the first one also without its name."""
    values: dict[str, Value] = {}
    for name, loss in losses.items():
        if not values:
            values |= {f"{prefix}_nll_nats": loss.nll_nats, f"{prefix}_nll_se": loss.se_nats}
        values |= {f"{prefix}_nll_nats[{name}]": loss.nll_nats, f"{prefix}_nll_se[{name}]": loss.se_nats}
    return values


def sample_values(samples: Sequence[Sequence[int]], metrics: Mapping[str, Metric]) -> dict[str, Value]:
    """Metrics of the samples trained on: of several samples the mean, and the loop of the one with the longest."""
    rows = [
        {"num_tokens": len(ids), **repetition_metrics(ids), **{name: f(ids) for name, f in metrics.items()}}
        for ids in samples
    ]
    if len(rows) == 1:
        return rows[0]
    longest = max(rows, key=lambda row: row["loop_span"] or 0)
    return {name: longest[name] if name.startswith("loop_") else _mean([r[name] for r in rows]) for name in rows[0]}


def _mean(values: Sequence[Value]) -> Value:
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    return fmean(numbers) if numbers else None


def verdict_values(
    state: CollapseState,
    values: Mapping[str, Value],
    samples: Sequence[Sample],
    thresholds: Collapse,
    tokenizer: Tokenizer,
    *,
    is_own_text: bool,
) -> dict[str, Value]:
    """`degenerate`, `reasons` and `kind` of a step, from the samples that judge the model: its own, or probes.

    `is_own_text`: the model wrote what it is trained on, so that its loss can say that it is frozen. After divergence
    nothing is judged: what weights that are not finite write is no collapse, and no health.
    """
    judged = _judged(samples, thresholds)
    if not judged or state.diverged_step is not None or not are_finite(values):
        return {"degenerate": None, "reasons": None, "kind": None}
    # The metrics of a single training sample are in the record already.
    shared = values if len(judged) == 1 and thresholds.source == "stream" else None
    verdicts = [judge_sample(ids, thresholds, tokenizer.count_visible(ids), shared) for ids in judged]
    own_nll = values["train_nll_nats"] if thresholds.source == "stream" and is_own_text else None
    assert own_nll is None or isinstance(own_nll, float)
    step = judge_step(judged, verdicts, state.earlier_samples(thresholds), own_nll, thresholds)
    return {"degenerate": step.degenerate, "reasons": list(step.reasons), "kind": step.kind}


def are_finite(values: Mapping[str, Value]) -> bool:
    """Whether all losses, on any text, and norms in a record are finite, as far as they are known."""
    known = [value for name, value in values.items() if name.partition("[")[0] in _LOSSES_AND_NORMS]
    return all(math.isfinite(value) for value in known if isinstance(value, float))


def observation(step: int, values: Mapping[str, Value], samples: Sequence[Sample], thresholds: Collapse) -> Observation:
    """What a record says of collapse; it can be made again from the files of a run."""
    record = Record(step, values)
    judged = _judged(samples, thresholds)
    degenerate, reasons, kind = values["degenerate"], values["reasons"], values["kind"]
    assert degenerate is None or isinstance(degenerate, bool)
    assert kind is None or isinstance(kind, str)
    # Samples too short to judge say nothing: they are no healthy step.
    is_judged = degenerate is not None
    verdict = StepVerdict(degenerate, tuple(reasons) if isinstance(reasons, list) else (), kind) if is_judged else None
    return Observation(step, verdict, judged, record.number("val_nll_nats"), are_finite(values))


def replay(records: Sequence[Record], thresholds: Collapse, vocab_size: int | None) -> CollapseState:
    """The state that the records of a run lead to."""
    state = CollapseState(vocab_size)
    for record in records:
        state = advance(state, observation(record.step, record.values, record.samples, thresholds), thresholds)
    return state


def _judged(samples: Sequence[Sample], thresholds: Collapse) -> tuple[tuple[int, ...], ...]:
    role = "train" if thresholds.source == "stream" else "probe"
    return tuple(sample.token_ids for sample in samples if sample.role == role)
