"""What may keep a model from collapsing: it can act at three places in the loop, and keep a state.

A safeguard is a subclass of `Safeguard` that overrides some of these places; the others change nothing. Several act in
the order given, each on the result of the one before. `TABLE` has those that a configuration can name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from collapselab.safeguards.base import Safeguard, Shared
from collapselab.safeguards.dropout import Dropout
from collapselab.safeguards.ema import Ema, EmaTeacher
from collapselab.safeguards.entropy_bonus import EntropyBonus
from collapselab.safeguards.growing_batch import GrowingBatch
from collapselab.safeguards.kl_anchor import KlAnchor
from collapselab.safeguards.own_dpo import OwnDpo
from collapselab.safeguards.real_mix import RealMix
from collapselab.safeguards.replay import Replay
from collapselab.safeguards.rollback import Rollback
from collapselab.safeguards.selection import Filter, Verify
from collapselab.safeguards.steering import Regulate, Thermostat
from collapselab.safeguards.token_edit import TokenEdit
from collapselab.safeguards.token_losses import Focal, LabelSmoothing, TruncatedCe
from collapselab.safeguards.trust_stop import TrustStop
from collapselab.safeguards.unlikelihood import Unlikelihood
from collapselab.safeguards.weight_anchor import Neon, WeightAnchor
from collapselab.step.parts import Parts

__all__ = ["TABLE", "Safeguard", "made"]

# By id: from its settings (`config.safeguards`) and what all of them share to a safeguard.
TABLE: dict[str, Callable[[Any, Shared], Safeguard]] = {
    "real-mix": RealMix,
    "replay": Replay,
    "filter": Filter,
    "verify": Verify,
    "token-edit": TokenEdit,
    "growing-batch": GrowingBatch,
    "kl-anchor": KlAnchor,
    "entropy-bonus": EntropyBonus,
    "truncated-ce": TruncatedCe,
    "focal": Focal,
    "label-smoothing": LabelSmoothing,
    "unlikelihood": Unlikelihood,
    "own-dpo": OwnDpo,
    "ema-teacher": EmaTeacher,
    "dropout": Dropout,
    "weight-anchor": WeightAnchor,
    "ema": Ema,
    "neon": Neon,
    "trust-stop": TrustStop,
    "regulate": Regulate,
    "thermostat": Thermostat,
    "rollback": Rollback,
}


def made(parts: Parts) -> list[Safeguard]:
    """The safeguards of the configuration, for a learner with the weights that the run begins with.

    One that is set to do nothing does nothing.

    Raises:
        InputError: a judge that does not fit the model.
    """
    chosen = parts.config.safeguards
    return [Safeguard() if s.is_off else TABLE[s.id](s, Shared(parts, i)) for i, s in enumerate(chosen)]
