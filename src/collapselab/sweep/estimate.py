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

TOTAL_TO_ONSET = 1.66  # step of total collapse / step of onset: median of 210 runs of results/builtin, deciles 1.4, 2.5
CONTROLS = ("real", "other")  # what a run trains on that is not expected to collapse (H6)
OUTLIVED = 1.25  # a run that has not collapsed when expected: the step at which it is expected now / the present step


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


def expected_last_step(
    config: RunConfig, step: int, majority_step: int | None = None, total_step: int | None = None
) -> int | None:
    """The step at which a run is expected to end, from what is known at a step; None: nothing is.

    First as for other runs of its model at its learning rate. If those had collapsed by now, or there are none: total
    collapse comes 1.7 times as late as onset, which is some steps before most samples are degenerate. A run that
    outlives that too may go on for a quarter more.

    Args:
        config: the settings of the run.
        step: the last step so far.
        majority_step: the first step at which three quarters of the last samples were degenerate, if it has come.
        total_step: the first step at which all were.
    """
    if not config.stop.on_collapse:
        return config.stop.max_steps
    if total_step is not None:
        return min(config.stop.max_steps, max(step, total_step + config.stop.after_collapse))
    if config.train.source in CONTROLS:
        return config.stop.max_steps
    by_model = expected_collapse_step(config)
    onset = None if majority_step is None else max(1.0, majority_step - 0.75 * config.collapse.window)
    expected = [by_model, None if onset is None else TOTAL_TO_ONSET * onset]
    known = [total for total in expected if total is not None]
    if not known:
        return None
    total = next((total for total in known if total > step), OUTLIVED * step)
    return min(config.stop.max_steps, max(step, round(total + config.stop.after_collapse)))


def time_left(
    config: RunConfig, step: int, pace_s: float, majority_step: int | None = None, total_step: int | None = None
) -> tuple[float | None, float]:
    """Seconds from a step to the expected end, if one is expected, and to the last step.

    `pace_s` is the mean of the steps so far except the first, which evaluates whole texts and starts everything; for
    the others see `expected_last_step`.
    """
    last = expected_last_step(config, step, majority_step, total_step)
    expected_s = None if last is None else pace_s * (last - step)
    return expected_s, pace_s * (config.stop.max_steps - step)


@dataclass(frozen=True)
class Estimate:
    """Times in seconds, without loading; None: unknown.

    `runs_s` is the time of each run to its last allowed step, in order; `most_s` is the time of all of them on the
    workers. `likely_runs_s` and `likely_s` are those times if the runs end when they are expected to: as finished runs
    here of the same settings, or as runs of their model at their learning rate, or as finished runs of equal work, or
    at their last allowed step. `likely_s` is None if for more than half of the runs only that last is known. `basis`
    says where each estimate comes from, `is_guess` whether one was guessed from a model's size.
    """

    runs_s: tuple[float | None, ...]
    most_s: float | None
    likely_runs_s: tuple[float | None, ...]
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
    most = [_remaining_s(config, seen, pace, config.stop.max_steps) for config, seen in runs]
    likely_last = _likely_last_steps(runs)
    likely = [_remaining_s(config, seen, pace, last) for (config, seen), last in zip(runs, likely_last, strict=True)]
    num_expected = sum(run_s is not None for run_s in likely)
    together = [most_s if run_s is None else run_s for run_s, most_s in zip(likely, most, strict=True)]
    likely_s = _together_s(together, share) if 2 * num_expected >= len(runs) else None
    times = tuple(most), _together_s(most, share), tuple(likely), likely_s
    return Estimate(*times, tuple(dict.fromkeys(basis)), is_guess)


def _likely_last_steps(runs: Sequence[tuple[RunConfig, Glance]]) -> list[float | None]:
    """The step at which each run is expected to end; `None`: nothing is known of it."""
    ends: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for config, seen in runs:
        if seen.is_finished and seen.step is not None:
            for key in (_arm(config), _work(config)):
                ends[key].append(seen.step)
    found: list[float | None] = []
    for config, seen in runs:
        at = seen.step or 0
        alike, by_model, same_work = ends[_arm(config)], expected_last_step(config, at), ends[_work(config)]
        last = fmean(alike) if alike else by_model if by_model is not None else fmean(same_work) if same_work else None
        outlived = last is not None and not seen.is_finished and at >= last
        found.append(min(config.stop.max_steps, OUTLIVED * at) if outlived else last)
    return found


def _arm(config: RunConfig) -> tuple[object, ...]:
    """What determines, except for chance, when a run ends."""
    parts = (config.optim, config.sampling, config.train, config.generate, config.collapse, config.stop)
    return (*_work(config), *(part.model_dump_json() for part in parts))


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
