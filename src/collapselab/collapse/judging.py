"""From samples to the verdict on a step, and from records back to it. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace

from collapselab.collapse.course import CollapseState, Observation, advance
from collapselab.collapse.rules import StepVerdict, judge_sample, judge_step, unspaced
from collapselab.collapse.start import Start
from collapselab.config.schema import Collapse
from collapselab.inputs.tokenizers import Tokenizer
from collapselab.records import Record, Sample, Value

_OWN_LOSSES = ("train_nll_nats", "entropy_nats")
_LOSSES_AND_NORMS = ("train_nll_nats", "val_nll_nats", "full_nll_nats", "grad_norm", "update_norm")


def observe(
    state: CollapseState,
    values: Mapping[str, Value],
    samples: Sequence[Sample],
    thresholds: Collapse,
    tokenizer: Tokenizer,
    *,
    is_own_text: bool,
) -> Observation:
    """What a step shows, judged by the samples that count: the training samples, or probes (`collapse.source`).

    After divergence nothing is judged: what weights that are not finite write is no collapse, and no health.

    Args:
        state: after the steps before.
        values: of the step so far: its losses, and the metrics of a single training sample.
        samples: of the step.
        thresholds: the rules' settings.
        tokenizer: tells which tokens are white space.
        is_own_text: the model wrote what it is trained on, so that its loss can say that it is frozen.
    """
    step = values["step"]
    assert isinstance(step, int), step
    record = Record(step, values)
    start = _start(samples, values, thresholds) if state.start is None else state.start
    seen = Observation(record.step, None, _judged(samples, thresholds), start=start)
    if seen.samples and state.diverged_step is None and are_finite(values):
        is_stream = thresholds.source == "stream"
        # The metrics of a single training sample are in the record already.
        shared = values if len(seen.samples) == 1 and is_stream else None
        verdicts = [
            judge_sample(
                ids, start.thresholds, tokenizer.count_visible(ids), shared,
                text=tokenizer.decode(ids), unspaced=unspaced(ids, tokenizer.decode),
            )
            for ids in seen.samples
        ]  # fmt: skip
        # Where a safeguard changed the training text, the loss on what the model wrote is recorded beside its loss.
        own = {name: record.number(name) if is_stream and is_own_text else None for name in _OWN_LOSSES}
        own_nll = record.number("own_nll_nats") if "own_nll_nats" in values else own["train_nll_nats"]
        verdict = judge_step(
            seen.samples, verdicts, state.earlier_samples(thresholds), own_nll, start.thresholds,
            entropy_nats=own["entropy_nats"], start=start, vocab_size=state.vocab_size,
        )  # fmt: skip
        seen = replace(seen, verdict=verdict)
    return with_losses(seen, values)


def with_losses(seen: Observation, values: Mapping[str, Value]) -> Observation:
    """The observation with the losses and norms that are known of its step by now."""
    val_nll = Record(seen.step, values).number("val_nll_nats")
    return replace(seen, val_nll_nats=val_nll, is_finite=are_finite(values))


def verdict_values(verdict: StepVerdict | None) -> dict[str, Value]:
    """The verdict on a step, as its record has it."""
    if verdict is None:
        return dict.fromkeys(field.name for field in fields(StepVerdict))
    return {**asdict(verdict), "reasons": list(verdict.reasons)}


def are_finite(values: Mapping[str, Value]) -> bool:
    """Whether all losses, on any text, and norms in a record are finite, as far as they are known."""
    known = [value for name, value in values.items() if name.partition("[")[0] in _LOSSES_AND_NORMS]
    return all(math.isfinite(value) for value in known if isinstance(value, float))


def replay(records: Sequence[Record], thresholds: Collapse, vocab_size: int | None) -> CollapseState:
    """The state that the records of a run lead to."""
    state = CollapseState(vocab_size)
    for record in records:
        state = advance(state, recorded(record, thresholds), thresholds)
    return state


def recorded(record: Record, thresholds: Collapse) -> Observation:
    """The observation that `observe` made of a step, from its record."""
    degenerate, reasons, kind = (record.values[name] for name in ("degenerate", "reasons", "kind"))
    assert degenerate is None or isinstance(degenerate, bool)
    assert kind is None or isinstance(kind, str)
    drop, share = record.number("entropy_drop_nats"), record.number("distinct_4_share")
    verdict = StepVerdict(degenerate, tuple(reasons) if isinstance(reasons, list) else (), kind, drop, share)
    start = _start(record.samples, record.values, thresholds) if record.step == 0 else None
    seen = Observation(record.step, verdict, _judged(record.samples, thresholds), start=start)
    return with_losses(seen, record.values)


def _judged(samples: Sequence[Sample], thresholds: Collapse) -> tuple[tuple[int, ...], ...]:
    role = "train" if thresholds.source == "stream" else "probe"
    return tuple(sample.token_ids for sample in samples if sample.role == role)


def _start(samples: Sequence[Sample], values: Mapping[str, Value], thresholds: Collapse) -> Start:
    """The start of a run, from its first record; where probes are judged, the first of them are compared with."""
    role = "start" if thresholds.source == "stream" else "probe"
    return Start.of([sample.token_ids for sample in samples if sample.role == role], values, thresholds)
