"""Text for a terminal: generated text on one line, tables in a pipe."""

from __future__ import annotations

import re
import sys

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 140
LOSS_WORDS = {
    "degraded": "degraded: perplexity on human text is up by a tenth",
    "severe": "severe: perplexity on human text has doubled",
    "lost": "lost: worse than a uniform guess on human text",
    "diverged": "diverged: a loss or norm is not finite",
}


def stdout_console() -> Console:
    """For tables on standard output: as wide as the terminal, or wide enough for a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def one_line(text: str) -> str:
    """A text with blanks folded, line ends past the first shown as "⏎×n", and control characters as "�".

    A collapsed model may write nothing but line ends, which plain folding would hide. Escape sequences of a terminal
    lose their escape, so a sample cannot act on it.
    """
    shown = re.sub(r"\n(?:[ \t]*\n)+", lambda run: f" ⏎×{run[0].count(chr(10))} ", text)
    return "".join(c if c.isprintable() else "�" for c in " ".join(shown.split()))
