"""The experiment: evaluate θ_t, write s_t, forward s_t, judge it, stop or update; step after step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from collapselab.collapse.course import CollapseState, advance, advance_losses
from collapselab.collapse.judging import observe, replay, verdict_values, with_losses
from collapselab.config.schema import Stop
from collapselab.records import Record, Sample, Value
from collapselab.safeguards import Safeguard, objective_of
from collapselab.step.batches import Batch, StepStats
from collapselab.step.measure import Metric, Stopwatch, loss_values, sample_values
from collapselab.step.parts import Parts
from collapselab.step.sources import probe, start, training_batch, training_text


def online_loop(
    parts: Parts,
    history: Sequence[Record] = (),
    metrics: Mapping[str, Metric] | None = None,
    safeguards: Sequence[Safeguard] = (),
) -> Iterator[Record]:
    """Records of the online loop, one for each step.

    Record t describes the weights θ_t after t updates: its losses, its samples, and the gradient taken at θ_t. When it
    arrives, the update has been made and the model has θ_{t+1}; only after the last record, which says why the run
    stopped, it still has θ_t.

    Args:
        parts: of the run; the learner's weights are those after `len(history)` updates.
        history: the records so far of a run that goes on.
        metrics: further metrics of a sample's token ids, by the name they get in the records.
        safeguards: what acts on text, objective and weights, in this order.

    Reference: Herel & Mikolov 2024, Figure 1.
    """
    config, learner = parts.config, parts.learner
    is_own_text = config.train.source == "own"
    state = replay(history, config.collapse, learner.vocab_size)
    if history and history[-1].values["stop"] is not None:
        return
    learner.weights_changed()  # since they were built, perhaps
    for step in itertools.count(len(history)):
        clock = Stopwatch()
        values: dict[str, Value] = {"step": step}

        if step % config.eval.every == 0:
            values |= loss_values("val", parts.losses(step))
        clock.lap("evaluate")

        text = training_text(parts, step)
        for safeguard in safeguards:
            text = safeguard.text(step, learner, text)
        probes, untouched = probe(parts, step), start(parts, step)
        clock.lap("generate")

        batch = training_batch(parts, text, step)
        losses = learner.nll(batch)
        values |= {"train_nll_nats": losses.mean.item(), "entropy_nats": text.entropy_nats}
        objective = objective_of(step, learner, losses, safeguards)
        if safeguards:
            values["objective_nats"] = objective.item()
        clock.lap("update")

        samples = [Sample(tuple(ids), learner.tokenizer.decode(ids)) for ids in text.samples]
        samples += [Sample(tuple(ids), learner.tokenizer.decode(ids), "probe") for ids in probes]
        samples += [Sample(tuple(ids), learner.tokenizer.decode(ids), "start") for ids in untouched]
        values |= sample_values(text.samples, metrics or {})
        seen = observe(state, values, samples, config.collapse, learner.tokenizer, is_own_text=is_own_text)
        former, state = state, advance(state, seen, config.collapse)
        stop = stop_reason(state, config.stop)
        values |= verdict_values(seen.verdict) | {"degenerate_share": state.degenerate_share, "stop": stop}
        clock.lap("measure")

        onset_is_news = state.onset_step is not None and former.onset_step is None
        if stop is not None and step % config.eval.every:
            values |= loss_values("val", parts.losses(step))
        if parts.full_plans and (step % config.eval.full_every == 0 or onset_is_news or stop is not None):
            values |= loss_values("full", parts.full_losses())
        clock.lap("evaluate")

        stats = None if stop is not None else _update(parts, batch, objective, step, safeguards)
        values |= {
            "grad_norm": None if stats is None else stats.grad_norm,
            "update_norm": None if stats is None else stats.update_norm,
            "relative_update_norm": None if stats is None else stats.relative_update_norm,
        }
        # The last evaluation and the update's norms are known only now; a norm that is not finite ends the next step.
        state = advance_losses(state, with_losses(seen, values))
        values["loss_state"] = state.loss_state
        for safeguard in safeguards if stop is None else ():
            safeguard.after_step(step, learner, state)
        clock.lap("update")
        yield Record(step, values | clock.seconds, tuple(samples))
        if stop is not None:
            return


def stop_reason(state: CollapseState, rules: Stop) -> str | None:
    """Why a run ends at this step: `collapsed`, `diverged` or `budget`; `None` goes on."""
    if rules.on_divergence and state.diverged_step is not None:
        return "diverged"
    if rules.on_collapse and state.is_totally_collapsed:
        return "collapsed"
    return "budget" if state.step == rules.max_steps else None


def _update(parts: Parts, batch: Batch, objective: Tensor, step: int, safeguards: Sequence[Safeguard]) -> StepStats:
    """`steps_per_sequence` updates on one batch, the first on the objective at hand; the figures are the last one's."""
    config, learner = parts.config, parts.learner
    if config.optim.reset_each_step:
        learner.forget()
    stats = learner.update(objective)
    for _ in range(config.train.steps_per_sequence - 1):
        stats = learner.update(objective_of(step, learner, learner.nll(batch), safeguards))
    return stats
