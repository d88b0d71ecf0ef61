"""The settings of every safeguard, and how one is written in text: `kl-anchor(beta=0.5)`. Without torch.

What the source of a safeguard measured, and what ours adds, is said where it is carried out (`collapselab.safeguards`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import Field, ValidationError

from collapselab.config.safeguards.common import SafeguardSettings
from collapselab.config.safeguards.on_objective import (
    Dropout,
    EmaTeacher,
    EntropyBonus,
    Focal,
    KlAnchor,
    LabelSmoothing,
    OwnDpo,
    RealMix,
    TruncatedCe,
    Unlikelihood,
)
from collapselab.config.safeguards.on_text import Filter, GrowingBatch, Replay, TokenEdit, Verify
from collapselab.config.safeguards.on_weights import (
    Ema,
    Neon,
    Regulate,
    Rollback,
    Thermostat,
    TrustStop,
    WeightAnchor,
)
from collapselab.errors import InputError, nearest

__all__ = ["KINDS", "AnySafeguard", "SafeguardSettings", "by_id", "checked", "parse", "shown"]

LISTED = "collapselab safeguards lists them"
_ONE = r"[\w-]+(\s*\([^()]*\))?"

KINDS: tuple[type[SafeguardSettings], ...] = (
    RealMix, Replay, Filter, Verify, TokenEdit, GrowingBatch,
    KlAnchor, EntropyBonus, TruncatedCe, Focal, LabelSmoothing, Unlikelihood, OwnDpo, EmaTeacher, Dropout,
    WeightAnchor, Ema, Neon, TrustStop, Regulate, Thermostat, Rollback,
)  # fmt: skip
AnySafeguard = Annotated[
    RealMix | Replay | Filter | Verify | TokenEdit | GrowingBatch
    | KlAnchor | EntropyBonus | TruncatedCe | Focal | LabelSmoothing | Unlikelihood | OwnDpo | EmaTeacher | Dropout
    | WeightAnchor | Ema | Neon | TrustStop | Regulate | Thermostat | Rollback,
    Field(discriminator="id"),
]  # fmt: skip


def by_id() -> dict[str, type[SafeguardSettings]]:
    """The settings of each safeguard, by its id."""
    return {kind.model_fields["id"].default: kind for kind in KINDS}


def parse(text: str) -> list[dict[str, object]]:
    """The safeguards of a text such as `kl-anchor(beta=0.5, contexts=real), real-mix`, as TOML would have them.

    Raises:
        InputError: it is not written like that.
    """
    if text.strip().lower() in ("", "none"):
        return []
    if not re.fullmatch(rf"\s*{_ONE}(\s*,\s*{_ONE})*\s*", text):
        raise InputError(f"safeguards are written kl-anchor(beta=0.5), real-mix; received {text!r}", LISTED)
    return [{"id": name, **dict(_pairs(values))} for name, values in re.findall(r"([\w-]+)\s*(?:\(([^()]*)\))?", text)]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(str.strip, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"a safeguard's values are written name=value, received {part.strip()!r}", LISTED)
        yield name.strip(), value.strip()


def checked(values: object) -> object:
    """What `RunConfig.safeguards` is made of: text, or a list of tables, texts and settings; ids are checked.

    Raises:
        ValueError: an id that no safeguard has.
    """
    given = cast(Sequence[object], parse(values) if isinstance(values, str) else values)
    if not isinstance(given, (list, tuple)):
        return values
    entries = [entry for item in given for entry in (parse(item) if isinstance(item, str) else [item])]
    for entry in entries:
        name = cast(dict[str, object], entry).get("id") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and name not in by_id():
            raise ValueError(f"unknown safeguard\nhint: {nearest(str(name), by_id())}; {LISTED}")
    return entries


def shown(safeguards: Sequence[SafeguardSettings | Mapping[str, Any]]) -> str:
    """Safeguards, as settings or as a file has them, in one text, which `parse` reads; "none" if there are none."""
    return ", ".join(str(s) if isinstance(s, SafeguardSettings) else _of_file(s) for s in safeguards) or "none"


def _of_file(values: Mapping[str, Any]) -> str:
    kind = by_id().get(values["id"])
    try:
        return str(values if kind is None else kind.model_validate(values))
    except ValidationError:  # of another version
        return str(values)
