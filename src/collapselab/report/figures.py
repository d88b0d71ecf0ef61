"""The figures of a report, by name: each from any runs, as one Altair chart for the page, SVG, PNG and PDF."""

from __future__ import annotations

from collapselab.report.drawing import PNG_SCALE
from collapselab.report.run_figures import anatomy_figure, loss_figure
from collapselab.report.run_panels import MAX_RAW_STEPS
from collapselab.report.theme import save_figure, specification

__all__ = ["MAX_RAW_STEPS", "PNG_SCALE", "anatomy_figure", "loss_figure", "save_figure", "specification"]
