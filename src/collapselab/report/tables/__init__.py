"""Every table of a report by its key, in the order of the page. Files, page and docs follow this list."""

from __future__ import annotations

from collapselab.report.entries import Table
from collapselab.report.tables import hypotheses, onset, resolved, runs, safeguards, samples, sensitivity

TABLES: dict[str, Table] = {
    "table-1": samples.TABLE,
    "table-2": resolved.TABLE,
    "runs": runs.TABLE,
    "onset": onset.TABLE,
    "hypotheses": hypotheses.TABLE,
    "sensitivity": sensitivity.TABLE,
    "safeguards": safeguards.TABLE,
}
