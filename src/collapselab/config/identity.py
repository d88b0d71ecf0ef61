"""Which runs are the same: a hash of the settings that affect the numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from collapselab.records import flatten

# Settings that change how a run is executed but none of its numbers: not part of its identity.
# (Engine and threads may change the last bits of a sum, as another machine does.)
NOT_IDENTITY = ("checkpoint_every_s", "keep_checkpoints", "engine", "threads", "stop.max_seconds")

# Settings added later, with what was done before they existed: at that value a run keeps the id it had then.
LATER: Mapping[str, object] = {
    "generate.begin_token": None,
    "loop.kind": "online",
    "stop.after_collapse": 0,
    "metrics.every": 8,
    "metrics.samples": 16,
    "metrics.reference": None,
    "metrics.contexts_every": 0,
    "metrics.first_model": False,
    "safeguards": [],
    "optim.lora_rank": None,
    "sampling.top_n_sigma": None,
    "sampling.repetition_penalty": 1.0,
    "sampling.no_repeat_ngram": None,
}


def identity(settings: Mapping[str, Any]) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the settings that affect the numbers, in one fixed form."""
    return hashlib.sha256(json.dumps(_numerical(settings), sort_keys=True).encode()).hexdigest()[:12]


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name; those that came after a config.json was written stand for what was done then."""
    flat = dict(flatten(settings))
    return flat | {name: value for name, value in LATER.items() if name not in flat}


def _numerical(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        path = prefix + name
        is_as_before = path in LATER and value == LATER[path]
        inner = _numerical(cast(Mapping[str, Any], value), f"{path}.") if isinstance(value, dict) else value
        if path not in NOT_IDENTITY and not is_as_before and inner != {}:
            kept[name] = inner
    return kept
