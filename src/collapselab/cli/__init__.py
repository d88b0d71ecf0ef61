"""The command line: the only part that parses arguments or prints."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

import tyro
from rich.console import Console

from collapselab.cli import benching, inspect, reporting, reproducing, running, sweeping
from collapselab.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, CollapselabError, InputError, nearest

COMMANDS: dict[str, Callable[..., None]] = {
    "run": running.run_command,
    "sweep": sweeping.sweep_command,
    "eval": inspect.evaluate,
    "diagnose": inspect.diagnose,
    "report": reporting.report,
    "reproduce": reproducing.reproduce,
    "bench": benching.bench,
    "models": inspect.models,
    "data": inspect.data,
    "presets": inspect.presets,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 2 the user's input, 75 interrupted and resumable, 1 anything else."""
    sys.exit(_dispatch(list(sys.argv[1:] if arguments is None else arguments)))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())  # noqa: T201
        return EXIT_DONE
    _show_notices()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice would stand in the middle of the display
    try:
        name, rest = arguments[0], arguments[1:]
        if name not in COMMANDS:
            raise InputError(f"unknown command {name!r}", nearest(name, COMMANDS))
        _call(name, rest)
    except CollapselabError as error:
        _tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        _tell(CollapselabError("stopped", "repeat the command; collapselab run goes on with --resume"))
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return EXIT_FAILED
    return EXIT_DONE


def _call(name: str, rest: list[str]) -> None:
    if name in ("run", "sweep"):
        # The settings of a run are many and are checked in one place: the configuration.
        flags, settings = running.split_settings(rest)
        if {"-h", "--help"} & set(flags):
            print(running.settings_help())  # noqa: T201
        config, prog = (tyro.conf.FlagCreatePairsOff,), f"collapselab {name}"
        if name == "run":
            running.run_command(tyro.cli(running.Options, prog=prog, args=flags, config=config), settings)
        else:
            sweeping.sweep_command(tyro.cli(sweeping.Options, prog=prog, args=flags, config=config), settings)
    else:
        tyro.cli(COMMANDS[name], prog=f"collapselab {name}", args=rest, config=(tyro.conf.FlagCreatePairsOff,))


def _show_notices() -> None:
    """Downloads say where a text comes from and under which licence."""
    logger = logging.getLogger("collapselab")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("collapselab: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: collapselab COMMAND [...]",
            "",
            "What happens to a language model that is trained on its own output, how soon, and what prevents it.",
            "",
            *lines,
            "",
            "collapselab COMMAND --help explains one command; collapselab run demo shows a collapse.",
        ]
    )


def _tell(error: CollapselabError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/] {_escaped(error.message)}")
    if error.hint:
        console.print(f"[bold]hint:[/] {_escaped(error.hint)}")


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
