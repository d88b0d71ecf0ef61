"""What all settings have in common: typed, frozen, unknown names refused; lists are written with commas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What differs from the defaults, so that a configuration is shown as one would write it."""
        default = type(self)()
        yield from ((name, value) for name, value in self if value != getattr(default, name))


def split_at_commas(text: str) -> tuple[str, ...]:
    """The parts of a text between commas, without blanks around them; `\\,` is a comma within a part."""
    parts = (part.replace("\\,", ",").strip() for part in re.split(r"(?<!\\),", text))
    return tuple(part for part in parts if part)


def join_with_commas(parts: Iterable[str]) -> str:
    """The text that `split_at_commas` takes apart again."""
    return ",".join(part.replace(",", "\\,") for part in parts)
