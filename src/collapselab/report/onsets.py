"""What the figures of onset share: runs that are compared in one panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from collapselab.analysis.survival import Frame
from collapselab.report.captions import medians_in_words
from collapselab.report.theme import curve_channels

GAP = 30  # between panels


@dataclass(frozen=True)
class OnsetPanel:
    """Rows of `groups.run_table`, and in their column `curve` what differs."""

    title: str
    table: Frame
    curves: Sequence[str]
    legend: str

    def channels(self) -> tuple[alt.Color, alt.StrokeDash]:
        return curve_channels(self.legend, self.curves)

    def medians(self, separator: str) -> str:
        """The median onset of each curve, for captions."""
        return f"{self.title}: {medians_in_words(self.table, self.legend, separator)}"
