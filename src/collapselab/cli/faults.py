"""What nobody foresaw, as one message: a library's reason and what was being done, or that the fault is ours."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import collapselab
from collapselab.cli.streams import OutputError
from collapselab.cli.text import named, warn
from collapselab.errors import CollapselabError, is_shortage

DEBUG = "COLLAPSELAB_DEBUG"
_PACKAGE = Path(collapselab.__file__).parent


def explained(error: Exception, name: str) -> CollapselabError:
    """An error of a library, or of this package, for a person.

    It names what was being done (`errors.doing`; the command, where nothing was noted) and the reason. It is a fault
    of ours if it was raised in this package.
    """
    notes: list[str] = getattr(error, "__notes__", [])
    task = notes[0] if notes else name
    if is_shortage(error):
        return CollapselabError(f"{task}: out of memory", "choose a smaller model, or fewer or shorter samples")
    if isinstance(error, OSError):
        return CollapselabError(
            f"{task}: {reason(error)}", "see that the file or folder is there, readable and writable"
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("collapselab"):
        package = error.name.partition(".")[0]
        return CollapselabError(f"{task}: the package {package} is not installed", f"pip install {package}")
    last = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(last.filename)
    if path.is_relative_to(_PACKAGE) and not isinstance(error, RecursionError):
        place = f"{path.relative_to(_PACKAGE.parent)}, line {last.lineno}"
        return CollapselabError(
            f"{task}: a fault in collapselab itself: {reason(error)} ({place})",
            f"please report it, with the traceback that {DEBUG}=1 shows",
        )
    return CollapselabError(f"{task}: {reason(error)}", f"{DEBUG}=1 shows the traceback")


def reason(error: BaseException) -> str:
    """An error's kind and words, on one line."""
    if isinstance(error, CollapselabError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {os.fsdecode(error.filename)}"
    words = " ".join(str(error).split())
    name = type(error).__name__
    name = name if name != "error" else f"{type(error).__module__}.error"
    return f"{name}: {words}" if words else name


def show_traceback(error: BaseException) -> None:
    """Prints the traceback, if the environment asks for it."""
    if os.environ.get(DEBUG):
        lines = "".join(traceback.format_exception(error)).splitlines()
        print(*map(named, lines), sep="\n", file=sys.stderr)  # noqa: T201


@contextmanager
def only_warned(what: str) -> Generator[None]:
    """For what comes after the results: its failure is a warning, and no failure of the command."""
    try:
        yield
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, OutputError) and error.is_broken_pipe:
            return  # the reader has seen enough
        show_traceback(error)
        warn(f"{what}: {reason(error)}")
