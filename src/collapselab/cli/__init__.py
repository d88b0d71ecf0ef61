"""The command line: the only part that parses arguments or prints."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from importlib.metadata import version
from typing import Any

import tyro
from rich.text import Text

from collapselab.cli import auditing, inspect, reporting, reproducing, running, serving, sweeping, watching
from collapselab.cli.arguments import read
from collapselab.cli.faults import explained, show_traceback
from collapselab.cli.settings import with_settings
from collapselab.cli.streams import OutputError, safe_streams
from collapselab.cli.text import note, plain, stderr_console, warn
from collapselab.config.names import as_flags
from collapselab.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, CollapselabError, InputError, nearest
from collapselab.rundir.environment import ensure_home

COMMANDS: dict[str, Callable[..., None]] = {
    "run": with_settings(running.Options, running.run_command),
    "sweep": with_settings(sweeping.Options, sweeping.sweep_command),
    "eval": inspect.evaluate,
    "audit": auditing.audit,
    "diagnose": auditing.audit,
    "watch": watching.watch,
    "report": reporting.report,
    "serve": serving.serve,
    "reproduce": reproducing.reproduce,
    "models": inspect.models,
    "data": inspect.data,
    "presets": inspect.presets,
    "metrics": inspect.metrics,
    "safeguards": inspect.safeguards,
}
EXAMPLES = {
    "run": ("collapselab run demo", "collapselab run paper --model gpt2 --data wikitext-2,ptb --optim.lr 2e-5"),
    "sweep": ("collapselab sweep learning-rates --model gpt2 --dry-run", "collapselab sweep mine.toml --workers 4"),
    "eval": ("collapselab eval --model builtin:nano --data austen", "collapselab eval --model gpt2 --data ptb --json"),
    "audit": ("collapselab audit samples.jsonl", "collapselab audit completions/ --by step --max-share 0.05"),
    "diagnose": ("collapselab diagnose samples.jsonl", "collapselab diagnose book.txt --window 100 --json"),
    "watch": ("collapselab watch outputs/completions", "collapselab watch rollouts --tokenizer smollm2-135m --once"),
    "report": ("collapselab report runs", "collapselab report runs/a runs/b -o page.html --figures figures"),
    "safeguards": ("collapselab safeguards", "collapselab run demo --safeguards 'kl-anchor(beta=0.5), entropy-bonus'"),
    "serve": ("collapselab serve runs", "collapselab serve runs/sizes --port 9000"),
    "reproduce": ("collapselab reproduce --quick", "collapselab reproduce --tier smollm2 --dry-run"),
}
DESCRIPTION = "What happens to a language model that is trained on its own output."
# A thread that waits for another looks this often before it sleeps. OpenMP's own default is
# hardly faster on an idle machine, and takes up to 2.4 times as long on a busy one (docs/performance.md).
SPIN_ROUNDS = "1000"
# Python's collector of cycles goes through the modules of torch and transformers a hundred times while they load, and
# once more at the end; with less of it, a run of two steps takes 4.4 s, not 6.0 (results/performance/README.md).
COLLECT_AFTER = 10_000  # objects; Python's default is 700
MOVED = {"bench": "benchmarks are run in the repository: python -m benchmarks"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 2 the user's input, 75 interrupted and resumable, 1 anything else."""
    if arguments is None:  # the process is this command's alone
        gc.set_threshold(COLLECT_AFTER)
        atexit.register(gc.freeze)
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(guarded(partial(_execute, given), " ".join(["collapselab", *given[:1]])))


def guarded(command: Callable[[], None], name: str) -> int:
    """The exit code of a command: no stream ends it, its notices are shown, and errors are explained.

    Args:
        command: parses its arguments and does its work.
        name: what the user called, for the message of an error that nobody foresaw.
    """
    ensure_home()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice would break the display
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_ROUNDS)  # read when torch is loaded
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
        _tell(CollapselabError("stopped", "repeat the command; collapselab run continues with --resume"))
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


def _execute(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(f"collapselab {version('collapselab')}")  # noqa: T201
    elif not arguments or arguments[0] in ("-h", "--help") or arguments[0].startswith("--tyro-"):
        _of_all_commands(arguments or ["--help"])
    else:
        parse(arguments)()


def _of_all_commands(arguments: list[str]) -> None:
    """Help of all commands, or the completion of a shell."""
    shells = ("bash", "zsh", "tcsh")
    if arguments[0].startswith("--tyro-") and (len(arguments) < 2 or arguments[1] not in shells):
        raise InputError(
            f"completion is written for one of {', '.join(shells)}, received {' '.join(arguments[1:])!r}",
            "collapselab --tyro-write-completion bash FILE",
        )
    commands = {name: _in_short(command) for name, command in COMMANDS.items()}
    tyro.extras.subcommand_cli_from_dict(commands, prog="collapselab", description=DESCRIPTION, args=arguments)


def _in_short(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the first line of its help."""

    @wraps(command)
    def short(*values: Any, **named_values: Any) -> None:
        command(*values, **named_values)

    short.__doc__ = (command.__doc__ or "").strip().partition("\n")[0]
    return short


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """The command that these arguments ask for, ready to be called.

    Raises:
        InputError: an unknown command or option, a missing value, or one that is no choice.
        SystemExit: --help, which has been printed.
    """
    name, rest = arguments[0], list(arguments[1:])
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}", MOVED.get(name) or _meant_command(name))
    return read(COMMANDS[name], f"collapselab {name}", rest, EXAMPLES.get(name, ()))


def _meant_command(name: str) -> str:
    known = {"train": "run", "start": "run", "plot": "report", "evaluate": "eval"}
    return f"did you mean {known[name]!r}?" if name in known else nearest(name, COMMANDS)


class _Notices(logging.Handler):
    """Shows the package's notices: the licence of a text, a figure that is left out."""

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


def _tell(error: CollapselabError) -> None:
    console = stderr_console()
    console.print(Text.assemble(("error:", "bold red"), " ", plain(error.message)), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint:", "bold"), " ", plain(as_flags(error.hint))), soft_wrap=True)
