"""A command's arguments, read by tyro, which makes the help too; every mistake is an error in our form, with a hint."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import is_dataclass
from functools import partial, wraps
from typing import Any, get_args

import tyro

from collapselab.config.names import known_settings
from collapselab.config.spelling import meant
from collapselab.errors import EXIT_DONE, InputError

SHORT = ("-h", "-o")


def read(command: Callable[..., None], prog: str, arguments: Sequence[str], examples: Sequence[str]) -> partial[None]:
    """The command with these arguments, ready to be called.

    Raises:
        InputError: an unknown option, a missing value, or one that is no choice.
        SystemExit: --help, which has been printed.
    """
    _check_words(arguments, command, prog)

    @wraps(command)
    def ready(*values: Any, **named_values: Any) -> partial[None]:
        return partial(command, *values, **named_values)

    about = inspect.cleandoc(command.__doc__ or "").partition("\n\nArgs:")[0]
    shown = "\n".join([about, "", "Examples:", *(f"  {example}" for example in examples)]) if examples else about
    refused = io.StringIO()
    try:
        with redirect_stderr(refused):
            return tyro.cli(ready, prog=prog, args=arguments, description=shown, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as ended:
        if ended.code in (None, EXIT_DONE):
            raise
        raise InputError(_without_box(refused.getvalue()), f"{prog} --help") from None


def _check_words(arguments: Sequence[str], command: Callable[..., Any], prog: str) -> None:
    """Refuses options that the command does not have.

    Raises:
        InputError: such an option, with the one that was probably meant.
    """
    known = _options(command)
    for word in arguments:
        name, equals, value = word.partition("=")
        if word.startswith("--") and name != "--":
            if _plain(name) not in (*known, "help"):
                raise InputError(f"unknown option {name!r}", _hint(name, known, prog, value))
        elif re.match(r"-[A-Za-z]", word):
            if word not in SHORT:
                raise InputError(f"options begin with two dashes, received {name!r}", _hint(name, known, prog, value))
        elif equals and name.isidentifier() and meant(name, known):
            raise InputError(f"options begin with two dashes, received {word!r}", _hint(name, known, prog, value))


def _without_box(shown: str) -> str:
    """The words of tyro's message: without the box around it and the pointer to --help."""
    lines = [line.strip("│ ").strip() for line in shown.splitlines() if not line.startswith(("╭", "╰", "│ ──"))]
    kept = [line for line in lines if line and not line.startswith("For full helptext") and not line.endswith("--help")]
    return re.sub(r"Missing value for argument '([^']+)'\. Expected 1 values\.", r"\1 needs a value", " ".join(kept))


def _options(command: Callable[..., Any]) -> list[str]:
    """The options of a command, with underscores; settings by dotted name."""
    parameters = inspect.signature(command).parameters
    if "settings" not in parameters:
        return list(parameters)
    (options, _) = get_args(parameters["options"].annotation)
    assert is_dataclass(options), options
    return [*options.__dataclass_fields__, *known_settings()]


def _hint(name: str, known: Sequence[str], prog: str, value: str) -> str:
    found = [f"--{one} {value}".rstrip() for one in meant(_plain(name), known)]
    return f"did you mean {' or '.join(found)}?" if found else f"{prog} --help lists all options"


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
