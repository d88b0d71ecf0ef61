"""Built kinds of collapsed text, to measure what the rules of collapse see (results/rules/).

`KINDS` has a function per kind: from a generator and a pool of healthy words and sentences to one sample's text, longer
than needed. A kind is drawn anew for each sample, so what its samples share is what the kind says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.random import Generator

LENGTH = 400  # words of a sample, enough for 200 tokens of any tokenizer


@dataclass(frozen=True)
class Pool:
    """Words and sentences of healthy prose, and the whole of it."""

    words: list[str]
    sentences: list[str]
    text: str

    @classmethod
    def of(cls, text: str) -> Pool:
        words = sorted(set(re.findall(r"\b[a-z]{3,9}\b", text)))
        sentences = [s for s in re.split(r"(?<=[.!?]) ", " ".join(text.split())) if 40 < len(s) < 160]
        return cls(words, sentences, " ".join(text.split()))


Kind = Callable[[Generator, Pool], str]


def _words(rng: Generator, pool: Pool, count: int) -> list[str]:
    return [pool.words[i] for i in rng.integers(0, len(pool.words), count)]


def _sentences(rng: Generator, pool: Pool, count: int) -> list[str]:
    return [pool.sentences[i] for i in rng.integers(0, len(pool.sentences), count)]


def _healthy(rng: Generator, pool: Pool, characters: int) -> str:
    start = int(rng.integers(0, len(pool.text) - characters - 1))
    return pool.text[pool.text.index(" ", start) : start + characters]


def _loop(unit: str) -> Kind:
    return lambda rng, pool: unit * (LENGTH * 16 // len(unit) + 1)


def _slots(template: str) -> Kind:
    """The template over and over, each X, Y and Z another word and each N another number."""

    def fill(rng: Generator, pool: Pool) -> str:
        words, numbers = iter(_words(rng, pool, 4 * LENGTH)), iter(rng.integers(0, 1000, 4 * LENGTH))
        parts = re.split(r"([XYZN])(?![a-zA-Z])", template * LENGTH)
        return "".join(
            str(next(numbers)) if part == "N" else next(words) if part in ("X", "Y", "Z") else part for part in parts
        )

    return fill


def _in_turn(*templates: str) -> Kind:
    return _slots("".join(templates))


def _counting(template: str, step: int = 1) -> Kind:
    def count(rng: Generator, pool: Pool) -> str:
        first = int(rng.integers(1, 90))
        return "".join(template.replace("N", str(first + step * i)) for i in range(LENGTH))

    return count


def _once(make: Kind) -> Kind:
    """The text of `make`, over and over."""

    def repeat(rng: Generator, pool: Pool) -> str:
        unit = make(rng, pool) + " "
        return unit * (LENGTH * 8 // len(unit) + 1)

    return repeat


def _slipping(share: float, insert: bool) -> Kind:
    def slip(rng: Generator, pool: Pool) -> str:
        unit = _words(rng, pool, 9)
        out: list[str] = []
        for word in unit * 50:
            if rng.random() < share:
                out += [*_words(rng, pool, 1), *([word] if insert else [])]
            else:
                out.append(word)
        return " ".join(out)

    return slip


def _stutter(low: int, high: int) -> Kind:
    def stutter(rng: Generator, pool: Pool) -> str:
        words = _healthy(rng, pool, 2500).split()
        return " ".join(" ".join([word] * int(rng.integers(low, high + 1))) for word in words)

    return stutter


def _few(count: int) -> Kind:
    def few(rng: Generator, pool: Pool) -> str:
        known = _words(rng, pool, count)
        return " ".join(known[i] for i in rng.integers(0, count, LENGTH))

    return few


def _same(seed_text: int, share: float = 0.0, shuffled: bool = False) -> Kind:
    """One paragraph in every sample, with a share of its words replaced, or its sentences in another order."""

    def same(rng: Generator, pool: Pool) -> str:
        units = pool.sentences[seed_text : seed_text + 14]
        if shuffled:
            units = [units[i] for i in rng.permutation(len(units))]
        words = " ".join(units).split()
        return " ".join(_words(rng, pool, 1)[0] if rng.random() < share else word for word in words)

    return same


def _mosaic(seed_text: int, count: int) -> Kind:
    def mosaic(rng: Generator, pool: Pool) -> str:
        known = pool.sentences[seed_text : seed_text + count]
        return " ".join(known[i] for i in rng.integers(0, count, 40))

    return mosaic


def _half_same(rng: Generator, pool: Pool) -> str:
    return " ".join(pool.sentences[50:54]) + _healthy(rng, pool, 2500)


def _paraphrase(rng: Generator, pool: Pool) -> str:
    """One thought in other words and another order each time."""
    sets: Sequence[Sequence[str]] = (
        ("the old house", "that ancient house", "the house on the hill", "their family home"),
        ("was empty", "stood empty", "had no one in it", "was without people"),
        ("in the winter", "during the cold months", "when the snow fell", "from December on"),
        ("and nobody came", "and no visitor called", "so no one ever came", "and none would visit"),
        ("to see it", "to look at it", "for a look", "to have a look at it"),
    )
    return " ".join(" ".join(options[rng.integers(0, 4)] for options in sets) + "." for _ in range(40))


def _salad(rng: Generator, pool: Pool) -> str:
    words = pool.text.split()
    return " ".join(words[i] for i in rng.integers(0, len(words), LENGTH))


def _characters(alphabet: str) -> Kind:
    return lambda rng, pool: "".join(alphabet[i] for i in rng.integers(0, len(alphabet), 6 * LENGTH))


LETTERS = "abcdefghijklmnopqrstuvwxyz"
KINDS: dict[str, Kind] = {
    "one word": _loop(" the"),
    "line ends": _loop("\n"),
    "blanks": _loop(" \t"),
    "full stops": _loop(" ."),
    "one word and line ends": lambda rng, _: "".join(" I" if rng.random() < 0.7 else "\n" for _ in range(3 * LENGTH)),
    "two words": _loop(" I am"),
    "a sentence": _once(lambda rng, pool: _sentences(rng, pool, 1)[0]),
    "two sentences": _once(lambda rng, pool: " ".join(_sentences(rng, pool, 2))),
    "one sentence in all samples": _loop(" I am sure you will be very glad to hear it, said she."),
    "a loop of 16 words with 5 % slips": _slipping(0.05, insert=False),
    "a loop that drifts by insertions": _slipping(0.05, insert=True),
    "yes and no in turn": _in_turn('"Yes," said he. ', '"No," said she. '),
    "yes and no at random": lambda rng, _: "".join((' "Yes."', ' "No."')[i] for i in rng.integers(0, 2, LENGTH)),
    "every word twice": _stutter(2, 2),
    "every word twice or three times": _stutter(2, 3),
    "every word three to five times": _stutter(3, 5),
    "5 words at random": _few(5),
    "20 words at random": _few(20),
    "40 words at random": _few(40),
    "counting": _counting("N, "),
    "counting by lines": _counting("N\n"),
    "counting by tens": _counting("N, ", 10),
    "counting down": lambda rng, _: ", ".join(str(900 - i) for i in range(LENGTH)),
    "a numbered sentence": _counting("N. I am sure of it.\n"),
    "chapters": _counting("\nChapter N\n"),
    "years": _counting("In 1N, there was a great war. "),
    "numbered files": _counting("image_N.png "),
    "the alphabet": _loop(" ".join(LETTERS) + " "),
    "X is a Y": _slots("X is a Y. "),
    "the X of the Y": _slots("the X of the Y, "),
    "two templates in turn": _in_turn("X is a Y. ", "It was the X of the Z. "),
    "and the X": _slots("and the X "),
    "very X": _slots("very X, "),
    "rows of a table": _slots("<tr><td>X</td><td>Y</td></tr>\n"),
    "getters": _slots("public String getX() {\n    return this.Y;\n}\n"),
    "questions and answers": _slots("Q: What is X?\nA: It is Y.\n"),
    "addresses": _slots("http://www.X.com/Y.html\n"),
    "bullets": _slots("- X\n"),
    "headings": _slots("= = X = =\n"),
    "who said": _slots('"X," said Y.\n'),
    "includes": _slots('#include "X_Y.h"\n'),
    "names": _slots("Mr. X and Mrs. Y, "),
    "rows of numbers": _slots("N,N,N,N\n"),
    "digits": _characters("0123456789"),
    "one paragraph in all samples": _same(10),
    "one paragraph, a tenth replaced": _same(10, 0.1),
    "one paragraph, a fifth replaced": _same(10, 0.2),
    "one paragraph, sentences shuffled": _same(10, shuffled=True),
    "a mosaic of 12 sentences": _mosaic(80, 12),
    "a mosaic of 40 sentences": _mosaic(80, 40),
    "one opening, then healthy": _half_same,
    "paraphrase": _paraphrase,
    "letters": _characters(LETTERS + " "),
    "signs": _characters("!?#$%&*()[]{}<>/\\|~^_-+=;:"),
    "words at random": lambda rng, pool: " ".join(_words(rng, pool, LENGTH)),
    "word salad": _salad,
}
# Kinds that show in losses, not in the ids: (own loss, entropy) as shares of ln V. `tokens at random` are drawn as ids.
LOSSES: dict[str, float] = {
    "tokens at random": 0.97,
    "word salad": 0.9,
    "words at random": 0.9,
    "letters": 0.9,
    "signs": 0.9,
}
# Kinds that are built of token ids: healthy tokens, and then a loop of this many of them.
OF_TOKENS: dict[str, tuple[int, int]] = {
    "a loop of 65 tokens": (0, 65),
    "a loop in the second half": (100, 8),
    "a loop in the last third": (133, 8),
}
