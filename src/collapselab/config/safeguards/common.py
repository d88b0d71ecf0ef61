"""What the settings of all safeguards have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import model_validator

from collapselab.config.base import Settings

Point = Literal["text", "objective", "after_step"]


class SafeguardSettings(Settings):
    """What every safeguard has.

    `point`: where it acts in the loop. `off`: the values at which it does nothing. `grid`: the values that the sweep
    `safeguards` tries besides the defaults, each with the other settings it needs.
    """

    point: ClassVar[Point]
    source: ClassVar[str]
    off: ClassVar[Mapping[str, object]]
    grid: ClassVar[Sequence[Mapping[str, object]]] = ()

    @model_validator(mode="before")
    @classmethod
    def _none_is_a_word(cls, values: Any) -> Any:
        """TOML and the command line have no null."""
        if not isinstance(values, dict):
            return values
        given = cast(dict[str, object], values)
        return {name: None if value in ("none", "null") else value for name, value in given.items()}

    @property
    def name(self) -> str:
        """Its id."""
        return type(self).model_fields["id"].default

    @property
    def is_off(self) -> bool:
        return all(getattr(self, name) == value for name, value in self.off.items())

    @property
    def needs_real_text(self) -> bool:
        """Whether it reads `train.real_text`."""
        return False

    @property
    def values(self) -> dict[str, object]:
        """Its settings by name."""
        return {name: value for name, value in self if name != "id"}

    @property
    def changed(self) -> dict[str, object]:
        """The values that differ from the defaults."""
        default = type(self)()
        return {name: value for name, value in self if value != getattr(default, name)}

    def __str__(self) -> str:
        """As `parse` reads it."""
        values = ", ".join(f"{name}={_shown(value)}" for name, value in self.changed.items())
        return f"{self.name}({values})" if values else self.name


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
