"""The run directory of a training that is watched: the files that report, explorer and progress read."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from collapselab.collapse.course import CollapseState, outcome
from collapselab.collapse.summary import samples_begin
from collapselab.collapse.warning import Alarm, warning_values
from collapselab.collapse.words import WATCHED, EndedBy
from collapselab.config.identity import identity
from collapselab.config.schema import Collapse, RunConfig
from collapselab.errors import InputError
from collapselab.records import SCHEMA_VERSION, Record, Sample
from collapselab.rundir.claim import check_foreign
from collapselab.rundir.environment import environment
from collapselab.rundir.layout import RunDir, read_json, read_lines, write_json
from collapselab.rundir.record_writer import RecordWriter

_LOSS = ("first", "first_se", "last", "last_se", "last_step", "best", "best_step")
_HEARTBEAT_S = 1.0  # status.json is replaced no more often: that takes a millisecond
NO_TEXT = "none"  # of `data`: nothing is known of human text, and readers expect a name


class MonitorDir:
    """A run directory that a monitor writes. Records may have gaps: a step is that of the training."""

    def __init__(self, path: Path, model: str, lr: float | None, thresholds: Collapse) -> None:
        """Claims the directory; records of an earlier part of this training stay until `keep_before`.

        Raises:
            InputError: it holds something else, or another process writes in it.
        """
        self._rundir, self._writer = RunDir(path), None
        self._records: list[Record] = []
        self._stack = ExitStack()
        self._told = -math.inf
        if self._rundir.holds_a_run():
            settings = cast(dict[str, Any], read_json(self._rundir.config)["config"])
            if settings.get("loop", {}).get("kind") != WATCHED:
                raise InputError(f"{path} holds a run that is no monitor's", "choose another directory with `out=…`")
        else:
            check_foreign(self._rundir)
        self._stack.enter_context(self._rundir.lock())
        settings = RunConfig(model=model, collapse=thresholds).model_dump(mode="json")
        settings |= {"data": [NO_TEXT], "loop": {"kind": WATCHED}}
        settings["optim"]["lr"] = lr
        content = {"schema": SCHEMA_VERSION, "run_id": identity(settings), "config": settings, "text_sha256": {}}
        write_json(self._rundir.config, content)
        write_json(self._rundir.env, {"schema": SCHEMA_VERSION, **environment()})

    @property
    def path(self) -> Path:
        return self._rundir.path

    def keep_before(self, step: int) -> list[Record]:
        """The records before this step, which stay; later ones are cut off, and new ones are appended."""
        samples: dict[int, list[Sample]] = {}
        for line in read_lines(self._rundir.samples):
            sample = Sample(tuple(line["token_ids"]), line["text"], line["role"])
            samples.setdefault(line["step"], []).append(sample)
        lines = [line for line in read_lines(self._rundir.steps) if line["step"] < step]
        self._records = [Record(line["step"], line, tuple(samples.get(line["step"], ()))) for line in lines]
        self._rundir.summary.unlink(missing_ok=True)
        self._writer = RecordWriter(self._rundir, self._records)
        return list(self._records)

    def append(self, record: Record) -> None:
        """Writes one record."""
        assert self._writer is not None
        self._writer.append(record)
        self._records.append(record)
        if time.monotonic() - self._told >= _HEARTBEAT_S:
            self._rundir.write_status("running", record.step)
            self._told = time.monotonic()

    def finish(
        self, state: CollapseState, alarms: tuple[Alarm, ...], ended_by: EndedBy, more: Mapping[str, object]
    ) -> None:
        """Writes summary.json and lets the directory go."""
        if self._writer is not None and self._records:
            self._writer.sync()
            more = {**warning_values((record.values for record in self._records), state.onset_step, alarms), **more}
            write_json(self._rundir.summary, self._summary(state, ended_by, more, self._writer.extents()))
            self._rundir.write_status("finished", self._records[-1].step)
        self.close()

    def close(self) -> None:
        """Lets the directory go; without `finish`, the run looks interrupted, and can be continued."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._stack.close()

    def _summary(
        self, state: CollapseState, ended_by: EndedBy, more: Mapping[str, object], extents: Mapping[str, object]
    ) -> dict[str, Any]:
        records: Sequence[Record] = self._records
        return {
            "schema": SCHEMA_VERSION,
            "run_id": read_json(self._rundir.config)["run_id"],
            "num_parameters": None,
            "vocab_size": state.vocab_size,
            "ended_by": ended_by,
            **asdict(outcome(state)),
            "train_nll_first": records[0].number("train_nll_nats"),
            "train_nll_last": records[-1].number("train_nll_nats"),
            "samples_begin": samples_begin(records) if any(record.samples for record in records) else {},
            "losses": [{"text": NO_TEXT, "protocol": NO_TEXT} | dict.fromkeys(_LOSS)],
            "seconds": {"measure": sum(record.number("seconds_measure") or 0.0 for record in records)},
            "num_steps": len(records),
            "records": dict(extents),
            **more,
        }
