"""Reproductions of the paper for different machines: a tier is a set of sweeps, for any number of seeds.

docs/reproduce.md says what each part is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, nearest
from collapselab.sweep.grid import PlannedRun, Sweep, expand, rebase
from collapselab.sweep.sampler import sampler_map

if TYPE_CHECKING:  # pandas takes a third of a second, which --help need not wait for
    from collapselab.rundir.frames import Runs

EQUAL_UPDATES = "equal-updates"
CONTROL_MODELS = {"builtin:pico": "builtin:nano", "builtin:nano": "builtin:micro"}  # and the other model of each


@dataclass(frozen=True)
class Tier:
    """What a reproduction runs: sweeps by name, and models to be compared at equal update size afterwards.

    `sized` are those models, the reference first. `sized_rates` are the learning rates of the reference at which the
    others are matched to it. The others' rates are computed, so the sweeps run each model at each of these rates.
    """

    sweeps: Mapping[str, Sweep]
    sized: Sequence[str] = ()
    sized_rates: Sequence[float] = ()


def builtin(num_seeds: int | None, *, quick: bool) -> Tier:
    """The shipped models on the two novels: five learning rates by four sizes, controls, equal updates."""
    changes = {"model": "builtin:micro", "data": "austen,moby-dick"}
    base = override(presets.paper(), changes | {"stop.max_steps": 1500, "eval.every": 10, "eval.full_every": 0})
    if not quick:
        return _builtin(base, num_seeds or 5)
    return _builtin_quick(base, num_seeds or 3)


def _builtin(base: RunConfig, num_seeds: int) -> Tier:
    seeds, rates = tuple(range(num_seeds)), (1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4)
    models = ("builtin:mini", "builtin:micro", "builtin:nano", "builtin:pico")
    high = {"optim.lr": rates[-2:], "seed": seeds}
    return Tier(
        {
            "own-text": Sweep(base, {"optim.lr": rates, "model": models, "seed": seeds}),
            "past-collapse": _past_collapse(base, 200, high | {"model": models[1:3]}),
            "controls": _controls(
                base, 200, "moby-dick", CONTROL_MODELS, {"optim.lr": (1.6e-4, 2.26e-4, 3.2e-4, 4.5e-4), "seed": seeds}
            ),
            "sampler-map": sampler_map(
                (0.8, 0.9, 1.0, 1.1, 1.2), {"sampling.top_k": (50,), "sampling.top_p": (0.9,)}, num_seeds
            ),
        },
        sized=("builtin:micro", "builtin:mini", "builtin:nano", "builtin:pico"),
        sized_rates=rates[1:4],
    )


def _builtin_quick(base: RunConfig, num_seeds: int) -> Tier:
    seeds, rates, models = tuple(range(num_seeds)), (8e-5, 1.6e-4, 3.2e-4), ("builtin:micro", "builtin:nano")
    return Tier(
        {
            "own-text": Sweep(base, {"optim.lr": rates, "model": models, "seed": seeds}),
            "past-collapse": _past_collapse(base, 100, {"optim.lr": rates[-1:], "model": models, "seed": seeds}),
            "controls": _controls(
                base, 100, "moby-dick", {"builtin:nano": "builtin:micro"}, {"optim.lr": rates[-1:], "seed": seeds}
            ),
            "sampler-map": rebase(sampler_map((0.8, 1.0, 1.2), {}, num_seeds), {"stop.max_steps": 150}),
        },
        sized=models,
        sized_rates=rates[-2:],
    )


def smollm2(num_seeds: int | None, *, quick: bool) -> Tier:
    """SmolLM2-135M at five learning rates, to total collapse or 400 steps, evaluated on the paper's two texts."""
    seeds = tuple(range(num_seeds or (2 if quick else 3)))
    changes = {"model": "smollm2-135m", "numerics": "fast", "stop.max_steps": 400}
    base = override(presets.paper(), changes | {"eval.every": 5, "eval.full_every": 0})
    rates = (1.6e-4, 8e-5) if quick else (1.6e-4, 8e-5, 4e-5, 2e-5, 1e-5)
    own = Sweep(base, {"optim.lr": rates, "seed": seeds})
    if quick:
        return Tier({"own-text": own})
    return Tier({"own-text": own, "past-collapse": _past_collapse(base, 60, {"optim.lr": rates[:1], "seed": seeds})})


def gpt2(num_seeds: int | None, *, quick: bool) -> Tier:
    """The paper's models: GPT-2 at five learning rates, four sizes at two of them, controls, equal updates."""
    seeds = tuple(range(num_seeds or (2 if quick else 3)))
    base = override(presets.paper(), {"eval.full_every": 0} if quick else {})
    rates = (4e-5, 8e-5) if quick else (5e-6, 1e-5, 2e-5, 4e-5, 8e-5)
    own = Sweep(base, {"optim.lr": rates, "seed": seeds})
    if quick:
        return Tier({"own-text": own})
    models = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
    high = {"optim.lr": rates[-2:], "seed": seeds}
    return Tier(
        {
            "own-text": own,
            "sizes": Sweep(base, {"model": models, "optim.lr": (2e-5, 4e-5), "seed": seeds}),
            "past-collapse": _past_collapse(base, 300, {"optim.lr": rates[-1:], "seed": seeds}),
            "controls": _controls(base, 300, "wikitext-2:train", {"gpt2": "gpt2-medium"}, high),
        },
        sized=models,
        sized_rates=(2e-5, 4e-5),
    )


TIERS: dict[str, Callable[..., Tier]] = {"builtin": builtin, "smollm2": smollm2, "gpt2": gpt2}


def load_tier(name: str, num_seeds: int | None = None, *, quick: bool = False, device: str = "cpu") -> Tier:
    """A tier by its name, for any number of seeds and a device.

    Raises:
        InputError: an unknown name, or fewer seeds than one.
    """
    if name not in TIERS:
        raise InputError(f"unknown tier {name!r}", nearest(name, TIERS))
    if num_seeds is not None and num_seeds < 1:
        raise InputError(f"--seeds must be at least 1, received {num_seeds}", "two or more give intervals")
    tier, changes = TIERS[name](num_seeds, quick=quick), {"device": device, "keep_checkpoints": False}
    return replace(tier, sweeps={part: rebase(sweep, changes) for part, sweep in tier.sweeps.items()})


def plan(sweeps: Mapping[str, Sweep]) -> dict[str, list[PlannedRun]]:
    """The runs of some sweeps, by the name of the sweep; a run of an earlier sweep is left out of later ones."""
    seen: set[str] = set()
    planned: dict[str, list[PlannedRun]] = {}
    for name, sweep in sweeps.items():
        planned[name] = [run for run in expand(sweep) if run.config.run_id not in seen]
        seen.update(run.config.run_id for run in planned[name])
    return planned


def equal_updates(tier: Tier, runs: Runs) -> Sweep:
    """The sweep in which the updates of the other `sized` models are as large as the reference's.

    Their learning rates come from the runs of the tier's sweeps (`comparisons.equal_update_rates`).

    Raises:
        InputError: the runs of a model at one of the rates are missing.
    """
    from collapselab.analysis.comparisons import equal_update_rates

    return _sized(tier, equal_update_rates(runs, tier.sized, tier.sized_rates))


def about_equal_updates(tier: Tier) -> Sweep:
    """A stand-in for `equal_updates` before the rates are known: as many runs of the same models."""
    return _sized(tier, {(model, rate): rate for rate in tier.sized_rates for model in tier.sized[1:]})


def _sized(tier: Tier, rates: Mapping[tuple[str, float], float]) -> Sweep:
    own = next(iter(tier.sweeps.values()))
    listed = [{"model": model, "optim.lr": rate} for (model, _), rate in rates.items()]
    return Sweep(own.base, {"seed": own.grid["seed"]}, listed=listed)


def _past_collapse(base: RunConfig, num_steps: int, grid: Mapping[str, Sequence[object]]) -> Sweep:
    """Runs that do not stop at total collapse, to see how far the loss on own text falls (H3)."""
    return Sweep(override(base, {"stop.on_collapse": False, "stop.max_steps": num_steps}), grid)


def _controls(
    base: RunConfig, num_steps: int, text: str, others: Mapping[str, str], grid: Mapping[str, Sequence[object]]
) -> Sweep:
    """The same loop on five texts: own, real, another model's, a frozen copy's, own text shuffled (H6, H6b).

    `others` has the other model by model. All are judged in the same way, by probes. The training text is not used for
    evaluation.
    """
    data = tuple(name for name in base.data if name != text)
    probes: dict[str, object] = {"collapse.source": "probe", "collapse.probe_every": 5, "collapse.probe_samples": 8}
    sources = [
        {"model": model, **source}
        for model, other in others.items()
        for source in (
            {"train.source": "own"},
            {"train.source": "real", "train.real_text": text},
            {"train.source": "other", "train.other_model": other},
            {"train.source": "other", "train.other_model": model},
            {"train.source": "shuffled"},
        )
    ]
    return Sweep(override(base, {"data": data, "stop.max_steps": num_steps, **probes}), grid, listed=sources)
