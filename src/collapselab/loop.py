"""The experiment: evaluate θ_t, write s_t, forward s_t, judge it, stop or update; step after step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from collapselab.collapse.course import CollapseState, advance, advance_losses
from collapselab.collapse.judging import observe, replay, verdict_values, with_losses
from collapselab.collapse.words import EndedBy
from collapselab.config.schema import Stop
from collapselab.records import Record, Role, Sample, Value
from collapselab.safeguards import Safeguard, made
from collapselab.safeguards.acting import Guarded
from collapselab.step.batches import Batch, StepStats
from collapselab.step.instruments import Instruments
from collapselab.step.measure import Metric, Stopwatch, loss_values, sample_values, update_values
from collapselab.step.parts import Parts
from collapselab.step.sources import probe, start, training_batch, training_text

Texts = list[list[int]]  # token ids of sequences


def online_loop(
    parts: Parts,
    history: Sequence[Record] = (),
    metrics: Mapping[str, Metric] | None = None,
    safeguards: Sequence[Safeguard] | None = None,
) -> Iterator[Record]:
    """Records of the online loop, one for each step.

    Record t describes the weights θ_t after t updates: its losses, its samples, and the gradient taken at θ_t. When it
    is yielded, the update has been made and the model has θ_{t+1}. Only after the last record, which says why the run
    stopped, does the model still have θ_t.

    Args:
        parts: the parts of the run; the learner's weights are those after `len(history)` updates.
        history: the records so far, if the run is resumed.
        metrics: further metrics of a sample's token ids, by their name in the records.
        safeguards: what acts on text, objective and weights, in this order; `None`: those of the configuration.

    Reference: Herel & Mikolov 2024, Figure 1.
    """
    config, learner = parts.config, parts.learner
    guarded = Guarded(learner, made(parts) if safeguards is None else safeguards)
    is_own_text = config.train.source == "own"
    state = replay(history, config.collapse, learner.vocab_size)
    path_length = (history[-1].number("path_length") or 0.0) if history else 0.0
    if history and history[-1].values["ended_by"] is not None:
        return
    instruments = Instruments(parts, history)
    learner.weights_changed()  # perhaps, since the engines were built
    for step in itertools.count(len(history)):
        clock = Stopwatch()
        values: dict[str, Value] = {"step": step}

        if step % config.eval.every == 0:
            values |= instruments.losses(step)
        clock.lap("evaluate")

        written = training_text(parts, step)
        text = guarded.text(step, written)
        probes, untouched = probe(parts, step), start(parts, step)
        clock.lap("generate")

        batch = training_batch(parts, text, step)
        losses = learner.nll(batch)
        values |= {"train_nll_nats": losses.mean.item(), **written.measures}
        objective = guarded.objective(step, losses)
        clock.lap("update")

        used = [] if text.samples == written.samples else text.samples
        by_role: dict[Role, Texts] = {"train": written.samples, "used": used, "probe": probes, "start": untouched}
        samples = _samples(parts, by_role)
        values |= sample_values(written.samples, metrics or {}) | guarded.own_loss(written, text)
        values |= instruments.measure(step, values, batch, samples)
        seen = observe(state, values, samples, config.collapse, learner.tokenizer, is_own_text=is_own_text)
        former, state = state, advance(state, seen, config.collapse)
        ended_by = stop_reason(state, config.stop)
        values |= verdict_values(seen.verdict) | {"degenerate_share": state.degenerate_share, "ended_by": ended_by}
        clock.lap("measure")

        onset_is_news = state.onset_step is not None and former.onset_step is None
        if ended_by is not None and step % config.eval.every:
            values |= instruments.losses(step)
        if parts.full_plans and (step % config.eval.full_every == 0 or onset_is_news or ended_by is not None):
            values |= loss_values("full", parts.full_losses())
        clock.lap("evaluate")

        guarded.before_update()
        updates = [] if ended_by is not None else _update(parts, batch, objective, step, guarded)
        values |= update_values(updates)
        # The last evaluation and the update's norms are known only now; a norm that is not finite ends the next step.
        state = advance_losses(state, with_losses(seen, values))
        values["loss_fate"] = state.loss_fate
        if ended_by is None:
            guarded.after_step(step, state)
        path_length += learner.start.relative(guarded.path(sum(u.update_norm for u in updates)))
        values |= guarded.values() | {"path_length": path_length, "displacement": learner.start.displacement()}
        clock.lap("update")
        yield Record(step, values | clock.seconds, tuple(samples))
        if ended_by is not None:
            return


def stop_reason(state: CollapseState, rules: Stop) -> EndedBy | None:
    """Why a run ends at this step; `None` if it continues."""
    if rules.on_divergence and state.diverged_step is not None:
        return "divergence"
    if rules.on_collapse and state.steps_past_collapse >= rules.after_collapse:
        return "collapse"
    return "budget" if state.step == rules.max_steps else None


def _samples(parts: Parts, by_role: Mapping[Role, Texts]) -> list[Sample]:
    """The sequences of a step with their text, their role, and where each token ends in the text."""
    samples: list[Sample] = []
    for role, texts in by_role.items():
        for ids in texts:
            text, ends = parts.learner.tokenizer.decode_with_ends(ids)
            samples.append(Sample(tuple(ids), text, role, ends))
    return samples


def _update(parts: Parts, batch: Batch, objective: Tensor, step: int, guarded: Guarded) -> list[StepStats]:
    """`steps_per_sequence` updates on one batch: the first on `objective`, later ones after a new forward pass."""
    config, learner = parts.config, parts.learner
    if config.optim.reset_each_step:
        learner.forget()
    updates = [learner.update(objective)]
    for _ in range(config.train.steps_per_sequence - 1):
        updates.append(learner.update(guarded.objective(step, learner.nll(batch))))
    return updates
