"""The command line: the only part that parses arguments or prints."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import tyro
from rich.text import Text

from collapselab.cli import inspect, reporting, reproducing, running, sweeping
from collapselab.cli.faults import explained, show_traceback
from collapselab.cli.streams import OutputError, safe_streams
from collapselab.cli.text import note, plain, stderr_console, warn
from collapselab.config.names import as_flags
from collapselab.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, CollapselabError, InputError, nearest
from collapselab.rundir.environment import ensure_home

COMMANDS: dict[str, Callable[..., None]] = {
    "run": running.run_command,
    "sweep": sweeping.sweep_command,
    "eval": inspect.evaluate,
    "diagnose": inspect.diagnose,
    "report": reporting.report,
    "reproduce": reproducing.reproduce,
    "models": inspect.models,
    "data": inspect.data,
    "presets": inspect.presets,
}
MOVED = {"bench": "benchmarks are run in the repository: python -m benchmarks"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 2 the user's input, 75 interrupted and resumable, 1 anything else."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(guarded(partial(_carry_out, given), " ".join(["collapselab", *given[:1]])))


def guarded(command: Callable[[], None], name: str) -> int:
    """The exit code of a command: no stream ends it, what it says by the way is shown, and errors are explained.

    Args:
        command: parses its arguments and does its work.
        name: what the user called, for the message of an error that nobody foresaw.
    """
    ensure_home()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice would stand in the middle of the display
    with safe_streams(), _notices():
        return _exit_code(command, name)


def _exit_code(command: Callable[[], None], name: str) -> int:
    try:
        code = _ended(command)
        sys.stdout.flush()
        return code
    except OutputError as error:
        if not error.is_broken_pipe:
            _tell(error)
        return error.exit_code
    except CollapselabError as error:
        show_traceback(error)
        _tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        _tell(CollapselabError("stopped", "repeat the command; collapselab run goes on with --resume"))
        return EXIT_INTERRUPTED
    except Exception as error:
        show_traceback(error)
        _tell(explained(error, name))
        return EXIT_FAILED


def _ended(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as ended:  # help was shown, or the arguments were refused
        return ended.code if isinstance(ended.code, int) else EXIT_DONE
    return EXIT_DONE


def _carry_out(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())  # noqa: T201
    else:
        parse(arguments)()


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """The command that these arguments ask for, ready to be called.

    Raises:
        InputError: an unknown command.
        SystemExit: an unknown flag, a wrong value, a missing one (code 2), or --help (code 0); it has been printed.
    """
    name, rest = arguments[0], list(arguments[1:])
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}", MOVED.get(name) or nearest(name, COMMANDS))
    config, prog = (tyro.conf.FlagCreatePairsOff,), f"collapselab {name}"
    if name in ("run", "sweep"):
        # The settings of a run are many and are checked in one place: the configuration.
        flags, settings = running.split_settings(rest)
        if {"-h", "--help"} & set(flags):
            print(running.settings_help())  # noqa: T201
        options = running.Options if name == "run" else sweeping.Options
        return partial(COMMANDS[name], tyro.cli(options, prog=prog, args=flags, config=config), settings)
    command = COMMANDS[name]

    @wraps(command)
    def ready(*values: Any, **named_values: Any) -> Callable[[], None]:
        return partial(command, *values, **named_values)

    return tyro.cli(ready, prog=prog, args=rest, config=config)


class _Notices(logging.Handler):
    """Shows what the package says by the way: whose licence a text has, which figure is left out."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        warn(message) if record.levelno >= logging.WARNING else note(f"collapselab: {message}")


@contextmanager
def _notices() -> Generator[None]:
    logger, handler = logging.getLogger("collapselab"), _Notices()
    former = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former)


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
    console = stderr_console()
    console.print(Text.assemble(("error:", "bold red"), " ", plain(error.message)), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint:", "bold"), " ", plain(as_flags(error.hint))), soft_wrap=True)
