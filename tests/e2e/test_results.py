"""The tables of results/ are what the packed records beside them say."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest

from collapselab import load_runs
from collapselab.report.table_files import to_csv
from collapselab.report.tables import TABLES

RESULTS = Path(__file__).parents[2] / "results"


ARCHIVES = {
    "builtin": ("records",),
    "sampler": ("records", "records-line", "records-sizes", "records-coarse"),
    "safeguards": ("records", "records-recovery", "records-silent", "records-dose", "records-smollm2"),
    "smollm2": (
        "records",
        "records-prompts",
        "records-controls",
        "records-cross",
        "records-pure",
        "records-more-seeds",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_each_table_follows_from_the_records(name: str, tmp_path: Path) -> None:
    for stem in ARCHIVES[name]:
        with tarfile.open(RESULTS / name / f"{stem}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    runs = load_runs(tmp_path)
    kept = [path for path in sorted((RESULTS / name / "figures").glob("*.csv")) if path.stem in TABLES]
    assert kept, "no table is kept beside the records"
    for path in kept:
        table = TABLES[path.stem].build(runs)
        assert table is not None, f"{path.stem}: the records have no data for it"
        again = tmp_path / path.name
        again.write_text(to_csv(table), encoding="utf-8")
        # Sums differ between machines in their last digits.
        pd.testing.assert_frame_equal(pd.read_csv(again), pd.read_csv(path), rtol=1e-6, obj=f"{name}: {path.stem}")
