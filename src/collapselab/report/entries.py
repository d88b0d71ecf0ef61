"""The types of figures and tables. Each has its own file in `figures` or `tables`, and one line in the list there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import altair as alt
import pandas as pd

from collapselab.rundir.frames import Runs

NOT_DRAWN = "Not drawn: "

Selected = TypeVar("Selected")


class Section(NamedTuple):
    """A part of the page: its heading, and what its figures have in common."""

    heading: str
    words: str


SECTIONS: dict[str, Section] = {
    "figures": Section("Figures", ""),
    "sampler": Section(
        "The sampler",
        "What a sampler draws from may be sharper than the model's own distribution (freeze: the text ends in "
        "repetition), the model's itself (drift), or flatter (melt: the text ends in noise).",
    ),
    "safeguards": Section(
        "What prevents collapse",
        "A safeguard is worth its cost if it delays collapse by more than shorter steps would, and does better than "
        "pure sampling, which costs nothing.",
    ),
}


@dataclass(frozen=True)
class Figure(Generic[Selected]):
    """A figure of any runs.

    `select` returns what is shown, or `None` if the runs lack it; `missing` then says what is missing. `chart` draws
    it. `words` describe the figure with its numbers, as caption and as text alternative. `section`: where on the page.
    """

    title: str
    select: Callable[[Runs], Selected | None]
    chart: Callable[[Selected], alt.TopLevelMixin]
    words: Callable[[Selected], str]
    missing: str
    section: Literal["figures", "sampler", "safeguards"] = "figures"

    def draw(self, runs: Runs) -> alt.TopLevelMixin | None:
        """The figure of these runs as an Altair chart; `None` if they lack what it needs."""
        selected = self.select(runs)
        return None if selected is None else self.chart(selected)

    def caption(self, runs: Runs) -> str:
        """A description of the figure of these runs, or what they lack for it."""
        selected = self.select(runs)
        return NOT_DRAWN + self.missing if selected is None else self.words(selected)


@dataclass(frozen=True)
class Table:
    """A table of any runs: `build` returns `None` if the runs lack what it needs.

    The columns of the frame are its headings. Unknown cells are `None` or NaN. Text is unescaped, so every
    output must escape it (`table_files`).
    """

    title: str
    build: Callable[[Runs], pd.DataFrame | None]
