"""Evaluation protocols: which windows of a text are scored. Pure arithmetic on positions."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from collapselab.errors import InputError, nearest

MAX_WINDOWS = 100_000  # more take seconds to draw and hours to score
_FORMS = {
    "windows": "windows[100,100]: k=100 fixed random windows of n=100 tokens",
    "disjoint": "disjoint[1024]: the whole text in disjoint windows of 1024 tokens",
    "sliding": "sliding[1024,512]: window 1024, stride 512, each token scored once",
}


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end` of a text are read; those starting at `first_scored` are scored."""

    start: int
    end: int
    first_scored: int


@dataclass(frozen=True)
class Protocol:
    """How a text is scored; every published number names one.

    `windows[n,k]`: k fixed windows of n tokens, drawn once, the same at every step.
    `disjoint[n]`: the whole text in disjoint windows, every token except the first of each window scored once.
    `sliding[n,s]`: window n, stride s, each token except the text's first scored once, with up to n-1 of context.
    `+eot` puts the end-of-text token before each window, so that the window's first token is scored too.
    """

    kind: str
    n: int
    argument: int | None = None
    end_of_text_prefix: bool = False

    @property
    def name(self) -> str:
        inner = str(self.n) if self.argument is None else f"{self.n},{self.argument}"
        return f"{self.kind}[{inner}]" + ("+eot" if self.end_of_text_prefix else "")

    def windows(self, num_tokens: int, generator: np.random.Generator | None = None) -> list[Window]:
        """The windows of a text of `num_tokens` tokens.

        Args:
            num_tokens: length of the text.
            generator: draws the windows of `windows[n,k]`; the other protocols need none.

        Raises:
            InputError: the text is shorter than the protocol needs.
        """
        # With the prefix, a window's first token has a context (the prefix) and is scored.
        skip = 0 if self.end_of_text_prefix else 1
        needed = self.n if self.kind == "windows" else 2
        if num_tokens < needed:
            raise InputError(
                f"{self.name} needs a text of at least {needed} tokens, received {num_tokens}",
                "use a longer text or a smaller window",
            )
        if self.kind == "windows":
            assert generator is not None and self.argument is not None
            starts = generator.integers(0, num_tokens - self.n + 1, size=self.argument)
            return [Window(int(s), int(s) + self.n, int(s) + skip) for s in starts]
        if self.kind == "disjoint":
            starts = range(0, num_tokens, self.n)
            windows = [Window(s, min(s + self.n, num_tokens), s + skip) for s in starts]
            return [w for w in windows if w.end > w.first_scored]
        return _sliding(num_tokens, self.n, self.argument or self.n, skip)


def _sliding(num_tokens: int, n: int, stride: int, skip: int) -> list[Window]:
    windows, scored_to = [Window(0, min(n, num_tokens), skip)], min(n, num_tokens)
    while scored_to < num_tokens:
        end = min(scored_to + stride, num_tokens)
        windows.append(Window(max(0, end - n), end, scored_to))
        scored_to = end
    return windows


def parse_protocol(text: str) -> Protocol:
    """The protocol of a name such as `windows[100,100]`, `disjoint[1024]+eot` or `sliding[1024,512]`.

    Raises:
        InputError: an unknown kind, or numbers that are out of range.
    """
    match = re.fullmatch(r"\s*([a-z]+)\[(\d+)(?:,(\d+))?\](\+eot)?\s*", text)
    kind = match[1] if match else re.split(r"[\[\s]", text.strip())[0]
    if kind not in _FORMS:
        raise InputError(f"unknown evaluation protocol {text!r}", nearest(kind, _FORMS))
    if match is None or (match[3] is None) != (kind == "disjoint"):
        raise InputError(f"protocol {text!r} is not of the form of {kind}", f"for example {_FORMS[kind]}")
    n, argument = int(match[2]), int(match[3]) if match[3] else None
    if n < 2 or argument == 0 or (kind == "sliding" and argument is not None and argument >= n):
        raise InputError(
            f"protocol {text!r} leaves nothing to score in a window, or no context in a sliding window", _FORMS[kind]
        )
    if kind == "windows" and argument is not None and argument > MAX_WINDOWS:
        raise InputError(f"protocol {text!r} has more than {MAX_WINDOWS:,} windows", "disjoint[n] scores a whole text")
    return Protocol(kind, n, argument, match[4] is not None)
