"""Writes every figure and table of some runs to files."""

from __future__ import annotations

import logging
from pathlib import Path

from collapselab.report.drawing import DrawingError, Painter
from collapselab.report.figures import FIGURES
from collapselab.report.table_files import save_table
from collapselab.report.tables import TABLES
from collapselab.report.theme import save_with
from collapselab.report.writing import writing
from collapselab.rundir.frames import Runs

FIGURE_FORMATS = ("svg", "png", "pdf")


def write_files(runs: Runs, folder: Path) -> list[Path]:
    """Writes each figure as SVG, PNG and PDF, each table as CSV, Markdown and LaTeX, by its key; returns the paths.

    Leaves out figures and tables for which these runs have no data; and, with a warning, figures that cannot be drawn.

    Raises:
        RunFailed: a file cannot be written; files before it are complete, and an existing file of its name is kept.
    """
    paths: list[Path] = []
    undrawn: dict[str, list[str]] = {}
    with writing(folder), Painter() as painter:
        folder.mkdir(parents=True, exist_ok=True)
        for key, figure in FIGURES.items():
            chart = figure.draw(runs)
            try:
                paths += [] if chart is None else save_with(painter, chart, folder, key, FIGURE_FORMATS)
            except DrawingError as error:
                undrawn.setdefault(error.message, []).append(key)
        for key, table in TABLES.items():
            frame = table.build(runs)
            paths += [] if frame is None else save_table(frame, folder, key, table.title)
    for reason, keys in undrawn.items():
        logging.getLogger("collapselab").warning("figures not drawn (%s): %s", ", ".join(keys), reason)
    return paths
