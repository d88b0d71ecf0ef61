"""Every setting of a run as an option of the command line, made from the configuration's own fields.

Values stay text here: `overrides.override` is the one place that converts and checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, make_dataclass
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic.fields import FieldInfo
from tyro.conf import arg

from collapselab.config.overrides import settings


def with_settings(options: type[Any], command: Callable[[Any, dict[str, str]], None]) -> Callable[..., None]:
    """`command(options, changes)` as tyro reads it; `changes` are the settings that were given, by dotted name."""

    def read(options: Any, settings: Any) -> None:
        command(options, given(settings))

    read.__annotations__ = {"options": _flat(options), "settings": _flat(_settings())}
    read.__doc__ = command.__doc__
    return read


def _settings() -> type[Any]:
    """A class with a field for each section, and the settings that have none in `general`."""
    sections: dict[str, list[Any]] = {"": [_option("numerics", "exact or fast: all three of numerics", "", "NAME")]}
    for name, info in settings():
        section, _, key = name.rpartition(".")
        default = f"(default: {_shown(info.get_default())})"
        sections.setdefault(section, []).append(_option(key, info.description or "", default, _metavar(info)))
    parts: list[Any] = []
    for section, fields in sections.items():
        kind = make_dataclass(section or "general", fields)
        parts.append((f"{section}_", Annotated[kind, arg(name=section)], field(default_factory=kind)))
    return make_dataclass("settings", parts)


def _option(name: str, meaning: str, default: str, metavar: str) -> tuple[Any, ...]:
    described = arg(help=meaning, help_behavior_hint=default, metavar=metavar)
    return name, Annotated[str | None, described], field(default=None)


def given(settings: Any) -> dict[str, str]:
    """The settings that were given, as text, by dotted name."""
    found: dict[str, str] = {}
    for section, values in cast(dict[str, Any], vars(settings)).items():
        texts = {key: value for key, value in cast(dict[str, str | None], vars(values)).items() if value is not None}
        found |= {f"{section.removesuffix('_')}.{key}".removeprefix("."): value for key, value in texts.items()}
    return found


def _flat(kind: type[Any]) -> Any:
    return Annotated[kind, arg(name="")]


def _metavar(info: FieldInfo) -> str:
    """The kind of a value, or its choices: {adamw,sgd}."""
    kinds = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not type(None)]
    choices = next((get_args(kind) for kind in (info.annotation, *kinds) if get_origin(kind) is Literal), ())
    if choices:
        return f"{{{','.join(choices)}}}"
    if get_origin(info.annotation) is tuple:
        return "LIST"
    return {"bool": "{true,false}", "int": "INT", "float": "NUMBER"}.get(getattr(kinds[0], "__name__", ""), "TEXT")


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, cast(tuple[object, ...], value))) or "none"
    return str(value) if value != "" else '""'
