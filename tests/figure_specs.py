"""Figures as Vega-Lite, for tests: drawn once, and taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import altair as alt

from collapselab.report.figures import FIGURES
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs

Spec = dict[str, Any]
DRAWN: dict[tuple[str, int], tuple[Runs, str | None]] = {}


def rows_of(vega_lite: Spec) -> list[Spec]:
    return [row for rows in vega_lite["datasets"].values() for row in rows]


def parts(node: Any) -> Iterator[Spec]:
    """Every object of a specification."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from parts(part)


def drawn_or_none(key: str, runs: Runs) -> Spec | None:
    """A figure's specification, drawn once: Altair takes a quarter of a second for each."""
    if (key, id(runs)) not in DRAWN:
        chart = FIGURES[key].draw(runs)
        if chart is not None:
            with alt.data_transformers.enable("default", max_rows=None):
                chart.to_dict(validate=True)
        # The runs are kept, or others could have their identity.
        DRAWN[key, id(runs)] = runs, None if chart is None else json.dumps(specification(chart), allow_nan=False)
    text = DRAWN[key, id(runs)][1]
    return None if text is None else json.loads(text)


def drawn(key: str, runs: Runs) -> Spec:
    vega_lite = drawn_or_none(key, runs)
    assert vega_lite is not None
    return vega_lite
