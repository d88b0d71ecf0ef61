"""What a figure and a table of a report are. Each has a file of its own in `figures` or `tables`, and a line there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import altair as alt
import pandas as pd

from collapselab.rundir.frames import Runs

NOT_DRAWN = "Not drawn: "

Selected = TypeVar("Selected")


@dataclass(frozen=True)
class Figure(Generic[Selected]):
    """A figure of any runs.

    `select` finds what is shown, or returns `None` where the runs do not have it; then `missing` says what is missing.
    `chart` draws it. `words` say what is seen, with its numbers: they are the caption and the text alternative.
    """

    title: str
    select: Callable[[Runs], Selected | None]
    chart: Callable[[Selected], alt.TopLevelMixin]
    words: Callable[[Selected], str]
    missing: str

    def draw(self, runs: Runs) -> alt.TopLevelMixin | None:
        """The figure of these runs as an Altair chart; `None` where they do not have what it needs."""
        selected = self.select(runs)
        return None if selected is None else self.chart(selected)

    def caption(self, runs: Runs) -> str:
        """What the figure of these runs shows, or what they lack."""
        selected = self.select(runs)
        return NOT_DRAWN + self.missing if selected is None else self.words(selected)


@dataclass(frozen=True)
class Table:
    """A table of any runs: `build` returns `None` where the runs do not have what it needs.

    The columns of the frame are its headings. Unknown cells are `None` or NaN; text is as it was written, so that
    whoever prints it must escape it (`table_files`).
    """

    title: str
    build: Callable[[Runs], pd.DataFrame | None]
