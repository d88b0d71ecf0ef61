"""Writes docs/settings.md, the reference of all settings, from the configuration itself.

python tools/settings_reference.py
"""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from collapselab.config.base import Settings
from collapselab.config.identity import NOT_IDENTITY
from collapselab.config.overrides import settings
from collapselab.config.schema import RunConfig

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
INTRODUCTION = """# Settings

Written by `python tools/settings_reference.py`; a test checks that it is current.

A run has a complete configuration: a preset or a TOML file, with settings changed on the command line by their dotted
names (`collapselab run demo --optim.lr 1e-4 --seed 1`). Write an absent value as `none`. Unknown names are refused.
`--dry-run` prints all settings as a TOML file that `run` accepts. The run's id is a hash of all settings except
{exceptions}, which change none of its numbers. The defaults are those of the
preset `paper`, except for its model (`gpt2`) and its texts (`wikitext-2,ptb`).
"""


def reference() -> str:
    """The page: a table for each section of the configuration."""
    sections: dict[str, list[str]] = {}
    for name, field in settings():
        section, _, _ = name.rpartition(".")
        sections.setdefault(section, []).append(_row(name, field))
    exceptions = ", ".join(f"`{name}`" for name in NOT_IDENTITY)
    return INTRODUCTION.format(exceptions=exceptions) + "".join(_section(name, rows) for name, rows in sections.items())


def _section(name: str, rows: list[str]) -> str:
    model: Any = RunConfig.model_fields[name].annotation if name else RunConfig
    assert issubclass(model, Settings), name
    about = (model.__doc__ or "").strip()
    header = "| setting | values | default | meaning |\n|---|---|---|---|\n"
    return f"\n## {name or 'The run'}\n\n{about}\n\n{header}" + "".join(rows)


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", _values(field), f"`{_shown(field.default)}`", field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _values(field: FieldInfo) -> str:
    """The type in words with its bounds, or the values allowed."""
    bounds = " and ".join(_bound(rule) for rule in field.metadata if type(rule) in SIGNS)
    return " ".join(part for part in (_type(field.annotation), bounds) if part)


def _bound(rule: Any) -> str:
    sign, attribute = SIGNS[type(rule)]
    return f"{sign} {getattr(rule, attribute):g}"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(
            _type(part) for part in sorted(get_args(annotation), key=lambda part: part is not type(None))
        )
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        if parts[0] not in (str, float):
            return "safeguards, separated by commas"
        return "texts, separated by commas" if parts[-1] is Ellipsis else f"{len(parts)} numbers, separated by a comma"
    return {int: "whole number", float: "number", bool: "true, false", str: "text", type(None): "none"}[annotation]


def _shown(value: object) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_shown(part) for part in value) or "none"
    if isinstance(value, str):
        return value or '""'
    return f"{value:g}"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
