"""The experiment: evaluate θ_t, write s_t, forward s_t, judge it, stop or update; turn after turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from collapselab.collapse.course import CollapseState, advance, advance_losses
from collapselab.config.schema import Stop
from collapselab.randomness import rng
from collapselab.records import Record, Sample, Value
from collapselab.step.batches import Batch, StepStats, batch_nll, make_batch, update
from collapselab.step.measure import Metric, Stopwatch, loss_values, observation, replay, sample_values, verdict_values
from collapselab.step.parts import Setup
from collapselab.step.sources import probe, training_sequences, training_text


def online_loop(
    setup: Setup, history: Sequence[Record] = (), metrics: Mapping[str, Metric] | None = None
) -> Iterator[Record]:
    """Records of the online loop: record t describes the model after t updates; the last one says why it stopped.

    Args:
        setup: the parts of the run; its weights are those after `len(history)` updates.
        history: the records so far of a run that goes on.
        metrics: further metrics of a sample's token ids, by the name they get in the records.

    Reference: Herel & Mikolov 2024, Figure 1.
    """
    config, learner = setup.config, setup.learner
    state = replay(history, config.collapse, learner.vocab_size)
    if history and history[-1].values["stop"] is not None:
        return
    setup.weights_changed()  # a checkpoint may have been restored
    for step in itertools.count(len(history)):
        clock = Stopwatch()
        values: dict[str, Value] = {"step": step}

        if step % config.eval.every == 0:
            values |= loss_values("val", setup.losses(step))
        clock.lap("evaluate")

        text = training_text(setup, step)
        probes = probe(setup, step)
        clock.lap("generate")

        batch = _batch(setup, training_sequences(setup, text), text.num_prompt, step)
        loss = _loss(setup, batch)
        values |= {"train_nll_nats": loss.item(), "entropy_nats": text.entropy_nats}
        clock.lap("update")

        samples = [Sample(tuple(ids), learner.tokenizer.decode(ids)) for ids in text.samples]
        samples += [Sample(tuple(ids), learner.tokenizer.decode(ids), "probe") for ids in probes]
        values |= sample_values(text.samples, metrics or {})
        is_own = config.train.source == "own"
        values |= verdict_values(state, values, samples, config.collapse, learner.tokenizer, is_own_text=is_own)
        former, state = state, advance(state, observation(step, values, samples, config.collapse), config.collapse)
        values |= {"degenerate_share": state.degenerate_share, "stop": stop_reason(state, config.stop)}
        clock.lap("measure")

        onset_is_news = state.onset_step is not None and former.onset_step is None
        if values["stop"] is not None and step % config.eval.every:
            values |= loss_values("val", setup.losses(step))
        if setup.full_plans and (step % config.eval.full_every == 0 or onset_is_news or values["stop"] is not None):
            values |= loss_values("full", setup.full_losses())
        clock.lap("evaluate")

        stats = None if values["stop"] is not None else _update(setup, batch, loss)
        values |= {
            "grad_norm": None if stats is None else stats.grad_norm,
            "update_norm": None if stats is None else stats.update_norm,
            "relative_update_norm": None if stats is None else stats.relative_update_norm,
        }
        # The last evaluation and the update's norms are known only now; a norm that is not finite ends the next step.
        state = advance_losses(state, observation(step, values, samples, config.collapse))
        values["loss_state"] = state.loss_state
        clock.lap("update")
        yield Record(step, values | clock.seconds, tuple(samples))
        if stats is None:
            return


def stop_reason(state: CollapseState, rules: Stop) -> str | None:
    """Why a run ends at this step: `collapsed`, `diverged` or `budget`; `None` goes on."""
    if rules.on_divergence and state.diverged_step is not None:
        return "diverged"
    if rules.on_collapse and state.is_totally_collapsed:
        return "collapsed"
    return "budget" if state.step == rules.max_steps else None


def _batch(setup: Setup, sequences: Sequence[Sequence[int]], num_prompt: int, step: int) -> Batch:
    windows = [rng(setup.config.seed, "window", step, i) for i in range(len(sequences))]
    return make_batch(sequences, num_prompt, setup.config.train, windows, setup.config.device)


def _loss(setup: Setup, batch: Batch) -> Tensor:
    return batch_nll(setup.trained, batch)


def _update(setup: Setup, batch: Batch, loss: Tensor) -> StepStats:
    """`steps_per_sequence` updates on one batch, the first on the given loss; the norms are those of the last one."""
    config = setup.config
    with setup.weights_in_use:  # a checkpoint may still be reading them
        if config.optim.reset_each_step:
            setup.optimizer.state.clear()
        stats = _one_update(setup, loss)
        for _ in range(config.train.steps_per_sequence - 1):
            stats = _one_update(setup, _loss(setup, batch))
    return stats


def _one_update(setup: Setup, loss: Tensor) -> StepStats:
    """The only place where the weights change, so the engines are told here."""
    stats = update(setup.trained, setup.optimizer, loss, setup.config.optim.clip, setup.kernels)
    setup.weights_changed()
    return stats
