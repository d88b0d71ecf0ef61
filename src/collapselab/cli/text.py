"""Text for a terminal: foreign strings on one line, notes, tables in a pipe, JSON."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from collapselab.records import dumps
from collapselab.visible import visible

WIDTH_WITHOUT_TERMINAL = 140
BARS = "▁▂▃▄▅▆▇█"


def stdout_console() -> Console:
    """For tables on standard output: as wide as the terminal, or wide enough for a file or a pipe."""
    return _console(sys.stdout, None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def stderr_console() -> Console:
    """For progress."""
    return _console(sys.stderr)


def _console(stream: object, width: int | None = None) -> Console:
    # Names and messages are no markup, and ":x:" in them is no emoji. With the stream given, Rich knows its encoding.
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)  # pyright: ignore[reportArgumentType]


def named(text: str) -> str:
    """A name or a message on one line, with control characters spelled out and line ends shown as "⏎"."""
    return visible(re.sub(r"\s*\n\s*", " ⏎ ", text)).replace("\t", " ")


def plain(text: str, style: str = "") -> Text:
    """A name or a message for a console; nothing in it is obeyed."""
    return Text(named(text), style)


def one_line(text: str) -> str:
    """A text with blanks folded, line ends past the first shown as "⏎×n", and control characters as "�".

    A collapsed model may write nothing but line ends, which plain folding would hide. Escape sequences of a terminal
    lose their escape, so a sample cannot act on it.
    """
    shown = re.sub(r"\n(?:[ \t]*\n)+", lambda run: f" ⏎×{run[0].count(chr(10))} ", text)
    return "".join(c if c.isprintable() else "�" for c in " ".join(shown.split()))


def table(*columns: str) -> Table:
    """A table without lines, whose cells are folded where they are too long."""
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def sparkline(values: Sequence[float | None]) -> str:
    """The values as a row of bars between their least and their greatest; unknown or non-finite ones are blank."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((v - low) * scale)] if v is not None and math.isfinite(v) else " " for v in values)


def note(message: str) -> None:
    """Says something beside the output; above a live display, where there is one."""
    print(named(message), file=sys.stderr, flush=True)  # noqa: T201


def warn(message: str) -> None:
    """Says what did not work, although the command goes on."""
    note(f"warning: {message}")


def print_json(value: object) -> None:
    """Prints JSON, in which characters that cannot be shown or encoded are escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    print("".join(_escaped(c, encoding) for c in dumps(value, indent=1)))  # noqa: T201


def print_json_line(value: object) -> None:
    """Prints JSON on one line, escaped as `print_json` does."""
    encoding = sys.stdout.encoding or "utf-8"
    line = dumps(value)
    print(line if line.isascii() and line.isprintable() else "".join(_escaped(c, encoding) for c in line))  # noqa: T201


def print_toml(text: str) -> None:
    """Prints TOML, in which characters that cannot be encoded are escapes: outside of its strings there are none."""
    encoding = sys.stdout.encoding or "utf-8"
    print("".join(c if c.encode(encoding, "ignore") else rf"\U{ord(c):08X}" for c in text), end="")  # noqa: T201


def _escaped(character: str, encoding: str) -> str:
    if character == "\n" or (character.isprintable() and character.encode(encoding, "ignore")):
        return character
    return json.dumps(character)[1:-1]
