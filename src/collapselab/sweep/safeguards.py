"""Sweeps that ask what prevents collapse (docs/safeguards.md): each function returns one, and says what it is for.

At the rate of these sweeps the smallest model has its onset at step 40 or so without a safeguard.
"""

from __future__ import annotations

from collections.abc import Sequence

from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.config.safeguards import by_id
from collapselab.config.safeguards.by_settings import BY_OTHER_SETTINGS
from collapselab.config.schema import RunConfig
from collapselab.sweep.grid import Sweep

Arm = dict[str, object]
RATE, HORIZON, REAL_TEXT = 3.2e-4, 200, "moby-dick"
SEEDS = tuple(range(5))
# Of RATE; an arm of lr-control goes as far as the others in steps of this size, and so has an equal path length.
LR_SHARES = (0.7, 0.5, 0.25)
TOO_SLOW = ("sgd",)  # by other settings: it has a rate of its own, and is part of `safeguards_silent`


def safeguards() -> Sweep:
    """Each safeguard at its defaults and over its grid, beside none, pure sampling and lower rates; paired seeds.

    The first text is evaluated on and never trained on; real text comes from the second.

    Command: `collapselab sweep safeguards`.
    """
    arms: list[Arm] = [{"safeguards": "none"}]
    for kind in by_id().values():
        defaults: Arm = {}
        arms += [_arm(str(kind.model_validate(values))) for values in (defaults, *kind.grid)]
    for name, other in BY_OTHER_SETTINGS.items():
        if name not in ("lr-control", *TOO_SLOW):
            arms += [dict(other.changes), *({**other.changes, **values} for values in other.grid)]
    lower: list[Arm] = [{"optim.lr": RATE * share, "stop.max_steps": round(HORIZON / share)} for share in LR_SHARES]
    arms += lower
    return _paired(_base({"stop.after_collapse": 10}), arms)


def safeguards_smollm2() -> Sweep:
    """The best five of the smallest model on SmolLM2, beside none and pure sampling; two paired seeds.

    Best by the rules of docs/safeguards.md on the runs of `safeguards`: no onset, and the least rise of human loss at
    step 200, each kind once. At this rate SmolLM2 has its onset at step 15 or so.

    Command: `collapselab sweep safeguards-smollm2`.
    """
    base = override(
        presets.paper(),
        {"model": "smollm2-135m", "numerics": "fast", "data": "wikitext-2,ptb", "train.real_text": "ptb"}
        | {"optim.lr": 8e-5, "eval.every": 20, "eval.full_every": 0, "keep_checkpoints": False, "stop.max_steps": 40},
    )
    best = ("neon(w=0.25)", "trust-stop(steps=300)", "ema-teacher(weight=0.9)", "kl-anchor(beta=1)")
    arms: list[Arm] = [_arm("none"), dict(BY_OTHER_SETTINGS["pure-sampling"].changes), *map(_arm, best)]
    return Sweep(base, {"seed": (0, 1)}, listed=[*arms, {"optim.lora_rank": 4}])


def safeguards_recovery() -> Sweep:
    """What heals a collapsed model, and until when: three remedies, each begun so many steps past onset.

    Command: `collapselab sweep safeguards-recovery`.
    """
    remedies = [
        f"rollback(remedy={remedy}, past={past})"
        for remedy in ("restore", "negate", "real")
        for past in (0, 10, 30, 60)
    ]
    base = _base({"stop.on_collapse": False, "stop.max_steps": 180})
    return _paired(base, [_arm(remedy) for remedy in ("none", *remedies)])


def safeguards_silent() -> Sweep:
    """Onset against what the paper leaves open, one at a time: prompt, context, retokenising, window, batch, optimiser.

    Command: `collapselab sweep safeguards-silent`.
    """
    arms: Sequence[Arm] = [
        {},
        {"generate.prompt": "\n"},
        {"generate.prompt": "She said "},
        {"generate.prompt_tokens": 16},
        {"generate.context": 100, "generate.context_mode": "crop"},
        {"generate.max_new_tokens": 100},
        {"train.retokenise": True},
        {"train.window": 100},
        {"train.prompt_in_loss": True, "generate.prompt": "She said "},
        {"generate.batch_size": 4},
        {"train.steps_per_sequence": 2},
        {"optim.name": "sgd", "optim.lr": 0.03},
        {"optim.weight_decay": 0.0},
        {"optim.clip": None},
        {"optim.reset_each_step": True},
    ]
    return _paired(_base({"stop.max_steps": 150}), arms)


def safeguards_dose() -> Sweep:
    """Loss on human text after n steps on own text at each temperature: is there a benefit, and where does harm begin.

    A half of the steps at a half of the rate is not the same dose, so there are two rates. With neon, every 20 steps
    the weights go as far the other way.

    Command: `collapselab sweep safeguards-dose`.
    """
    temperatures = (0.6, 0.8, 0.9, 1.0, 1.1, 1.2)
    arms: list[Arm] = [{"sampling.temperature": t, "optim.lr": lr} for lr in (4e-5, 1.6e-4) for t in temperatures]
    arms += [{**_arm("neon"), "sampling.temperature": t, "optim.lr": 4e-5} for t in (0.8, 1.0, 1.2)]
    return _paired(_base({"eval.every": 5, "stop.on_collapse": False, "stop.max_steps": 60}), arms)


def _base(changes: Arm) -> RunConfig:
    """The smallest model and the paper's sampler. Losses every 20 steps: more would take longer than the steps."""
    usual: Arm = {"model": "builtin:pico", "data": "austen,moby-dick", "optim.lr": RATE, "train.real_text": REAL_TEXT}
    usual |= {"eval.every": 20, "eval.full_every": 0, "keep_checkpoints": False, "stop.max_steps": HORIZON}
    return override(presets.paper(), usual | changes)


def _arm(safeguards: str) -> Arm:
    return {"safeguards": safeguards}


def _paired(base: RunConfig, arms: Sequence[Arm]) -> Sweep:
    return Sweep(base, {"seed": SEEDS}, listed=arms)
