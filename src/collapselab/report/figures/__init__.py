"""Every figure of a report by its key, in the order of the page. Files, page and docs follow this list."""

from __future__ import annotations

from typing import Any

from collapselab.report.entries import Figure
from collapselab.report.figures import (
    anatomy,
    arms,
    barcode,
    barcodes,
    loop,
    losses,
    onset_law,
    onset_rates,
    safeguard_costs,
    safeguard_dose,
    safeguard_open,
    safeguard_recovery,
    safeguard_survival,
    sampler_map,
    sizes,
    survival,
)

FIGURES: dict[str, Figure[Any]] = {
    "figure-1": loop.FIGURE,
    "figure-2": losses.ON_FIRST_TEXT,
    "figure-3": sizes.FIGURE,
    "figure-4": losses.ON_SECOND_TEXT,
    "survival-by-learning-rate": survival.BY_LEARNING_RATE,
    "survival-by-size": survival.BY_SIZE,
    "arms": arms.FIGURE,
    "anatomy": anatomy.FIGURE,
    "barcode": barcode.FIGURE,
    "sampler-map": sampler_map.FIGURE,
    "barcodes": barcodes.FIGURE,
    "onset-by-rate": onset_rates.FIGURE,
    "onset-law": onset_law.FIGURE,
    "figure-3-sharpening": sizes.AT_EQUAL_SHARPENING,
    "safeguard-survival": safeguard_survival.FIGURE,
    "safeguard-costs": safeguard_costs.FIGURE,
    "recovery": safeguard_recovery.FIGURE,
    "left-open": safeguard_open.FIGURE,
    "dose": safeguard_dose.FIGURE,
}
