"""How long runs will take, at most and as expected, and where the estimate comes from."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from collapselab.config.protocols import parse_protocol
from collapselab.config.schema import Generation, Optimizer, RunConfig, Sampling, Training
from collapselab.rundir.progress import Glance
from collapselab.sweep.resources import Share, num_parameters

# The guess for a model without timings: by order of magnitude, a server core of 2023 without matrix units.
SECONDS_PER_TOKEN = 2e-4  # overhead per written token
BYTES_PER_S = 10e9  # the weights are read once per written token, in float32
FLOPS_PER_THREAD = 100e9  # 2 operations per parameter for an evaluated token, 6 for a trained one

# Steps to total collapse at a learning rate of 1e-4, and the power of one over the rate with which they grow: medians
# of the runs on own text in results/builtin and results/smollm2.
COLLAPSE_AT = {
    "builtin:pico": (182, 0.84),
    "builtin:nano": (116, 0.80),
    "builtin:micro": (95, 0.73),
    "builtin:mini": (88, 0.76),
    "smollm2-135m": (30, 0.54),
}


def expected_collapse_step(config: RunConfig) -> int | None:
    """The step at which a run is expected to collapse totally; None if its model was not measured with its settings."""
    usual = (Sampling(), Generation(), Training(), Optimizer(lr=config.optim.lr))
    if (
        config.safeguards
        or config.model not in COLLAPSE_AT
        or (config.sampling, config.generate, config.train, config.optim) != usual
    ):
        return None
    steps, power = COLLAPSE_AT[config.model]
    return round(steps * (1e-4 / config.optim.lr) ** power)


def time_left(config: RunConfig, step: int, pace_s: float) -> tuple[float | None, float]:
    """Seconds from a step to the expected collapse, if that is still to come and ends the run, and to the last step.

    `pace_s` is the mean of the steps so far except the first, which evaluates whole texts and starts everything.
    """
    most_s = pace_s * (config.stop.max_steps - step)
    expected = expected_collapse_step(config) if config.stop.on_collapse else None
    if expected is None or not step < expected < config.stop.max_steps:
        return None, most_s
    return pace_s * (expected + config.stop.after_collapse - step), most_s


@dataclass(frozen=True)
class Estimate:
    """Times in seconds, without loading; None: unknown.

    `runs_s` is the time of each run to its last allowed step, in order; `most_s` is the time of all of them on the
    workers. `likely_s` is that time if the runs end as early, on average, as the finished ones. `basis` says where
    each estimate comes from, `is_guess` whether one was guessed from a model's size.
    """

    runs_s: tuple[float | None, ...]
    most_s: float | None
    likely_s: float | None
    basis: tuple[str, ...]
    is_guess: bool


def estimate(runs: Sequence[tuple[RunConfig, Glance]], share: Share) -> Estimate:
    """The time that runs still need, given the progress of each.

    Seconds per step come from those of the given runs that have the same model and the same work per step. For
    other models they are guessed from the number of parameters and tokens, without evaluations of the whole text; or
    they are unknown.
    """
    due = [(config, seen) for config, seen in runs if not seen.is_finished]
    known = _timings(runs)
    pace = {work: fmean(timings) for work, timings in known.items()}
    is_guess = False
    basis = [_told(work, len(known[work])) for work in known if work in {_work(config) for config, _ in due}]
    for config in {_work(config): config for config, _ in due if _work(config) not in pace}.values():
        guess, sentence = _guess(config, share)
        basis.append(sentence)
        if guess is not None:
            pace[_work(config)] = guess
            is_guess = True
    last = {_work(config): _mean_last_step(runs, _work(config)) for config, _ in due}
    most = [_remaining_s(config, seen, pace, config.stop.max_steps) for config, seen in runs]
    likely = [_remaining_s(config, seen, pace, last.get(_work(config))) for config, seen in runs]
    return Estimate(
        tuple(most), _together_s(most, share), _together_s(likely, share), tuple(dict.fromkeys(basis)), is_guess
    )


def _work(config: RunConfig) -> tuple[object, ...]:
    """What determines the time per step."""
    generate, evaluation = config.generate, config.eval
    writer = (config.train.source, config.train.other_model, config.train.steps_per_sequence)
    texts = (len(config.data), evaluation.protocol, evaluation.every, evaluation.full_every)
    precision = (config.engine, *config.numerics.model_dump().values())
    size = (generate.max_new_tokens, generate.batch_size, generate.context_mode)
    return (config.model, *size, *writer, *texts, *precision, config.safeguards)


def _timings(runs: Iterable[tuple[RunConfig, Glance]]) -> Mapping[tuple[object, ...], list[float]]:
    timings: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for config, seen in runs:
        if seen.seconds_per_step is not None:
            timings[_work(config)].append(seen.seconds_per_step)
    return timings


def _told(work: tuple[object, ...], num_runs: int) -> str:
    return f"{work[0]}: measured in {num_runs} {'run' if num_runs == 1 else 'runs'} here with the same work per step"


def _mean_last_step(runs: Iterable[tuple[RunConfig, Glance]], work: tuple[object, ...]) -> float | None:
    last = [seen.step for config, seen in runs if seen.is_finished and seen.step is not None and _work(config) == work]
    return fmean(last) if last else None


def _remaining_s(
    config: RunConfig, seen: Glance, pace: Mapping[tuple[object, ...], float], last_step: float | None
) -> float | None:
    if seen.is_finished:
        return 0.0
    if last_step is None or _work(config) not in pace:
        return None
    num_done = 0 if seen.step is None else seen.step + 1
    return max(0.0, last_step + 1 - num_done) * (seen.seconds_per_step or pace[_work(config)])


def _together_s(runs_s: Sequence[float | None], share: Share) -> float | None:
    """The time of all runs together, if each worker takes the next run as soon as it is free."""
    free_at_s = [0.0] * share.num_workers
    for run_s in runs_s:
        if run_s is None:
            return None
        heapq.heapreplace(free_at_s, free_at_s[0] + run_s)
    return max(free_at_s)


def _guess(config: RunConfig, share: Share) -> tuple[float | None, str]:
    """Seconds per step from size and tokens, and the sentence that explains it."""
    parameters, protocol = num_parameters(config.model), parse_protocol(config.eval.protocol.replace("context", "1024"))
    if parameters is None:
        return None, f"{config.model}: unknown (no run of it here, and its size is not known)"
    if protocol.kind != "windows" or protocol.argument is None:
        return None, (f"{config.model}: unknown (no run of it here, and {protocol.kind} depends on the text's length)")
    written = config.generate.max_new_tokens * config.generate.batch_size
    if config.collapse.source == "probe":
        written += config.collapse.probe_samples * config.collapse.probe_tokens // config.collapse.probe_every
    evaluated = protocol.n * protocol.argument * len(config.data) // config.eval.every
    trained = config.generate.max_new_tokens * config.generate.batch_size * config.train.steps_per_sequence
    arithmetic_s = parameters * (2 * evaluated + 6 * trained) / (FLOPS_PER_THREAD * share.num_threads)
    seconds = written * (SECONDS_PER_TOKEN + 4 * parameters / BYTES_PER_S) + arithmetic_s
    return seconds, (
        f"{config.model}: rough guess of {seconds:#.2g} s per step from {parameters:,} parameters and {written:,} "
        f"tokens written, {trained:,} trained on, {evaluated:,} evaluated; may be several times too high or too low"
    )
