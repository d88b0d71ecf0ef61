"""Named sweeps: each function returns a complete sweep, and its docstring says what the sweep shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from collapselab.config import presets
from collapselab.config.overrides import load_toml
from collapselab.errors import InputError, nearest
from collapselab.sweep import safeguards, sampler
from collapselab.sweep.grid import Sweep, from_settings

SEEDS = (0, 1, 2)


def learning_rates() -> Sweep:
    """Figures 2 and 4 of the paper: losses against step for five learning rates, on both texts, with three seeds.

    The paper does not give its list of rates; this one is centred on the rate named in its appendix.

    Command: `collapselab sweep learning-rates` (GPT-2), or with `--model builtin:micro --data austen,moby-dick`.
    """
    return Sweep(presets.paper(), grid={"optim.lr": (5e-6, 1e-5, 2e-5, 4e-5, 8e-5), "seed": SEEDS})


def sizes() -> Sweep:
    """Figure 3 of the paper: onset of collapse against model size, with three seeds.

    Command: `collapselab sweep sizes`.
    """
    return Sweep(presets.paper(), grid={"model": ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"), "seed": SEEDS})


SWEEPS: dict[str, Callable[[], Sweep]] = {
    "learning-rates": learning_rates,
    "sizes": sizes,
    "sampler-map": sampler.sampler_map,
    "sampler-line": sampler.sampler_line,
    "sampler-sizes": sampler.sampler_sizes,
    "sampler-coarse": sampler.sampler_coarse,
    "sampler-sgd": sampler.sampler_sgd,
    "sampler-smollm2": sampler.sampler_smollm2,
    "safeguards": safeguards.safeguards,
    "safeguards-smollm2": safeguards.safeguards_smollm2,
    "safeguards-recovery": safeguards.safeguards_recovery,
    "safeguards-silent": safeguards.safeguards_silent,
    "safeguards-dose": safeguards.safeguards_dose,
}


def load(name: str) -> Sweep:
    """A named sweep, or that of a TOML file.

    Raises:
        InputError: it is neither, or the file describes no sweep.
    """
    if name in SWEEPS:
        return SWEEPS[name]()
    if not name.endswith(".toml"):
        raise InputError(f"unknown sweep {name!r}", nearest(name, SWEEPS) + "; or give a .toml file")
    return from_settings(load_toml(Path(name)))
