"""Settings from the command line, from TOML files and from sweeps: by dotted name, with errors that say what to do."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from collapselab.config.base import Settings, split_at_commas
from collapselab.config.identity import flat_settings
from collapselab.config.safeguards import LISTED, by_id
from collapselab.config.schema import RunConfig
from collapselab.config.spelling import meant
from collapselab.errors import InputError, nearest
from collapselab.files import read_regular
from collapselab.records import flatten, loads


def settings(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its dotted name, in order."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from settings(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def override(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """A configuration with some settings changed, by dotted name; text values are converted.

    Raises:
        InputError: an unknown name (with the nearest known one) or a value that breaks a rule.
    """
    known = dict(settings())
    if "numerics" in changes:  # one word for the whole section; its parts may be changed besides
        config = validate({**config.model_dump(), "numerics": changes["numerics"]})
    values = config.model_dump()
    was_resolved = config.collapse.source == ("stream" if config.train.source == "own" else "probe")
    if "train.source" in changes and was_resolved:
        values["collapse"]["source"] = None  # resolved anew from the new training source
    for name, value in changes.items():
        name = name.replace("-", "_")
        if name == "numerics":
            continue
        if name not in known:
            raise InputError(f"unknown setting {name!r}", _did_you_mean(name))
        section, _, key = name.rpartition(".")
        target = values[section] if section else values
        target[key] = _from_text(value, known[name]) if isinstance(value, str) else value
    return validate(values)


def validate(values: Mapping[str, object]) -> RunConfig:
    """The configuration of nested values; a broken rule becomes an `InputError` that names setting, rule and value."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(*_explain(error)) from None


def load_toml(path: Path) -> dict[str, object]:
    """The settings of a TOML file by dotted name, and `preset` if it names one.

    Raises:
        InputError: no such file, or not TOML.
    """
    try:
        tree = tomllib.loads(read_regular(path).decode())
    except (OSError, ValueError, RecursionError) as error:  # tables nested without end; numbers of thousands of digits
        raise InputError(
            f"cannot read the settings file {path}: {error}", "give a TOML file, or a preset's name"
        ) from None
    return dict(flatten(tree))


def load_json(path: Path) -> dict[str, object]:
    """The settings of a JSON file, nested: of a run's config.json, or of a file with nothing else.

    Raises:
        InputError: no such file, no JSON object, or a run of an earlier version that lacks settings of today.
    """
    try:
        tree: object = loads(read_regular(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read the settings file {path}: {error}", "give the config.json of a run") from None
    content = cast(dict[str, object], tree) if isinstance(tree, dict) else {"config": None}
    inner = content.get("config", content)
    if not isinstance(inner, dict):
        raise InputError(f"cannot read the settings file {path}: no JSON object", "give the config.json of a run")
    found = cast(dict[str, object], inner)
    lacking = [name for name, _ in settings() if name not in flat_settings(found)] if "run_id" in content else []
    if lacking:
        raise InputError(
            f"{path} is of an earlier version, without {', '.join(lacking[:3])}",
            "repeat the run with that version (env.json names it), or give its settings to a preset of this one",
        )
    return found


def as_toml(config: RunConfig) -> str:
    """All settings as a TOML file, from which `presets.load` makes the same configuration."""
    lines = [f"# run id {config.run_id}"]
    tree = config.model_dump()
    safeguards = [("[safeguards]", values) for values in tree.pop("safeguards")]
    lines += [f"{name} = {_toml(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    sections = [(name, cast(dict[str, object], values)) for name, values in tree.items() if isinstance(values, dict)]
    for section, values in [*sections, *safeguards]:
        lines += ["", f"[{section}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    return "\n".join([*lines, ""])


def _toml(value: object) -> str:
    if value is None:
        return '"none"'  # TOML has no null; `override` reads it back
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, cast(tuple[object, ...], value)))}]"
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else rf"\U{ord(c):08X}" for c in quoted) + '"'
    return json.dumps(value)


def _did_you_mean(name: str) -> str:
    found = meant(name, dict(settings()))
    return f"did you mean {' or '.join(map(repr, found))}?" if found else "collapselab run --help lists every setting"


def _from_text(value: str, field: FieldInfo) -> object:
    optional = type(None) in get_args(field.annotation)
    if optional and value.lower() in ("none", "null"):
        return None
    is_list = get_origin(field.annotation) is tuple and get_args(field.annotation)[0] in (str, float)
    return split_at_commas(value) if is_list else value


def _explain(error: ValidationError) -> tuple[str, str]:
    known = dict(settings())
    first = error.errors()[0]
    if first["loc"][:1] == ("safeguards",):
        return _explain_safeguard([str(part) for part in first["loc"][2:]], first["msg"], first["input"])
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name!r}", _did_you_mean(name)
    rule = first["msg"].removeprefix("Value error, ")
    message, _, hint = rule.partition("\nhint: ")
    field = known.get(name)
    described = (
        f"{name}: {field.description}" if field and field.description else "collapselab run --help lists every setting"
    )
    return (f"{name}: {message}, received {first['input']!r}" if name else message), hint or described


def _explain_safeguard(place: list[str], message: str, received: object) -> tuple[str, str]:
    rule, _, hint = message.removeprefix("Value error, ").partition("\nhint: ")
    kind = by_id().get(place[0]) if place else None
    if kind is None:
        return f"safeguards: {rule}, received {received!r}", hint or LISTED
    fields = {name: field.description for name, field in kind.model_fields.items() if name != "id"}
    name = place[1] if len(place) > 1 else None
    if name is not None and name not in fields:
        return f"safeguard {place[0]} has no setting {name!r}", nearest(name, fields)
    hint = hint or (f"{name}: {fields[name]}" if name is not None else LISTED)
    return f"safeguard {place[0]}{'' if name is None else f': {name}'}: {rule}, received {received!r}", hint
