"""Run directories made up for tests, written as the package itself writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from collapselab.collapse.words import Status
from collapselab.config.schema import RunConfig
from collapselab.records import SCHEMA_VERSION, Record, Sample
from collapselab.rundir.layout import RunDir, write_json
from collapselab.rundir.record_writer import RecordWriter


def write_run(
    path: Path,
    config: RunConfig,
    steps: int | Sequence[Record] = 3,
    *,
    summary: Mapping[str, object] | None = None,
    status: Status | None = None,
    environment: Mapping[str, object] | None = None,
) -> Path:
    """A run of these records, or of so many plain ones; it is finished if it has a summary."""
    rundir = RunDir(path)
    path.mkdir(parents=True)
    identity = {"schema": SCHEMA_VERSION, "run_id": config.run_id}
    write_json(rundir.config, identity | {"config": config.model_dump(mode="json")})
    write_json(rundir.user, {"schema": SCHEMA_VERSION, "asked_for": {}})
    if environment is not None:
        write_json(rundir.env, {"schema": SCHEMA_VERSION, **environment})
    records = [plain_record(step) for step in range(steps)] if isinstance(steps, int) else steps
    writer = RecordWriter(rundir)
    for record in records:
        writer.append(record)
    writer.close()
    rundir.write_status(status or ("running" if summary is None else "finished"), records[-1].step if records else None)
    if summary is not None:
        write_json(rundir.summary, identity | dict(summary))
    return path


def plain_record(step: int) -> Record:
    """A step of half a second; the first is not judged, and only the third is degenerate."""
    values = {"step": step, "train_nll_nats": 3.0 - step, "degenerate": None if step == 0 else step == 2}
    values |= {"degenerate_share": 0.25, "seconds_generate": 0.3, "seconds_update": 0.2, "seconds_evaluate": None}
    return Record(step, values, (Sample((step, 5), "NaN"),))
