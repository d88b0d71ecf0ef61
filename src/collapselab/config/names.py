"""The two spellings of a setting: `lr=1e-4` in Python, `--optim.lr 1e-4` on the command line."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping

from collapselab.config.overrides import settings
from collapselab.errors import InputError, nearest

OPTIONS = ("out", "resume", "fresh", "data_dir")  # of a run; they have one spelling
_CHANGE = re.compile(r'`(?:\*\*\{"([\w.]+)": ([^}`]+)\}|(\w+)=([^`]+))`')


def full_names(changes: Mapping[str, object]) -> dict[str, object]:
    """Settings by dotted name, from names that may lack the section: `lr` is `optim.lr`.

    Raises:
        InputError: a name is unknown, or several sections have it.
    """
    return {_full_name(name): value for name, value in changes.items()}


def _full_name(name: str) -> str:
    known = [*dict(settings()), "numerics"]
    found = [full for full in known if name in (full, _leaf(full))]
    if name in found:
        return name
    if not found:
        meant = [full for full, field in settings() if field.description == name.replace("_", " ")]  # learning_rate
        hint = f"did you mean {_leaf(meant[0])!r}?" if meant else nearest(name, map(_leaf, known))
        raise InputError(f"unknown setting {name!r}", hint)
    if len(found) > 1:
        raise InputError(f"{name!r} is the name of several settings", _one_of(found))
    return found[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _one_of(names: list[str]) -> str:
    return "give one in full: " + " or ".join(f'`**{{"{name}": …}}`' for name in names)


def as_flags(hint: str) -> str:
    """A hint as the command line spells it. Hints are written for Python: `out=…`, `resume=True`, `context=64`."""

    def flag(found: re.Match[str]) -> str:
        name, value = (found[1], found[2]) if found[1] else (found[3], found[4])
        try:
            name = name if name in OPTIONS else _full_name(name)
        except InputError:
            return found[0]  # no setting: something else stands in these quotes
        return f"--{name}" + ("" if value in ("True", "…") else f" {_word(value)}")

    return _CHANGE.sub(flag, hint)


def _word(value: str) -> str:
    """A Python value as a word of a shell."""
    return shlex.quote(str(ast.literal_eval(value))) if value[0] in "'\"" else value
