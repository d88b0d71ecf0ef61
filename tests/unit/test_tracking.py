"""Trackers get every record and some samples; one that fails is dropped, and the run goes on."""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import collapselab
from collapselab import tracking
from collapselab.config.presets import demo
from collapselab.errors import InputError
from collapselab.records import Record, Sample
from collapselab.tracking import TRACKERS, tracked

QUICK = {"model": "builtin:pico", "max_steps": 2, "full_every": 0, "progress": False}


def record(step: int, text: str = "a text") -> Record:
    values = {"step": step, "train_nll_nats": 2.0, "val_nll_nats[austen]": 3.0, "grad_norm": math.inf, "kind": "loop"}
    return Record(step, values | {"degenerate": True, "entropy_nats": None}, (Sample((1, 2), text),))


class Board(ModuleType):
    """What trackio and wandb have in common."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int | None, dict[str, Any]]] = []
        self.num_finished = 0
        self.failing_step: int | None = None

    def init(self, **given: Any) -> Any:
        self.begun.append(given)
        return SimpleNamespace(log=self._log, finish=self._finish)

    def Table(self, columns: list[str], data: list[list[object]]) -> object:
        return (tuple(columns), [list(row) for row in data])

    def _log(self, values: dict[str, Any], step: int | None = None) -> None:
        if self.failing_step is not None and step == self.failing_step:
            raise ConnectionError("no network")
        self.logged.append((step, values))

    def _finish(self) -> None:
        self.num_finished += 1


@pytest.fixture(params=["trackio", "wandb"])
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Board:
    made = Board(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return made


def test_a_dashboard_gets_numbers_settings_and_samples(board: Board, tmp_path: Path) -> None:
    config = demo()
    with tracked([board.__name__], config, tmp_path / "run") as listen:
        for step in range(22):
            listen(record(step, f"text {step}\u202e" + "x" * 5000))
    (begun,) = board.begun
    assert begun["project"] == "collapselab"
    assert begun["config"]["optim.lr"] == config.optim.lr
    assert config.run_id in (begun["name"] + begun.get("id", ""))
    assert begun["resume"] == "allow"
    *numbers, (_, table) = board.logged
    assert [step for step, _ in numbers] == list(range(22))
    assert numbers[3][1] == {"train_nll_nats": 2.0, "val_nll_nats/austen": 3.0, "degenerate": 1.0}
    columns, rows = table["samples"]
    assert columns == ("step", "text")
    assert [step for step, _ in rows] == [0, 10, 20, 21]
    assert rows[1][1].startswith("text 10⟨U+202E⟩xxx")
    assert len(rows[1][1]) < 4100
    assert board.num_finished == 1


def test_a_tracker_that_fails_is_dropped(board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    board.failing_step = 2
    with caplog.at_level(logging.WARNING), tracked([board.__name__], demo(), tmp_path) as listen:
        for step in range(5):
            listen(record(step))
    assert [step for step, _ in board.logged] == [0, 1]
    assert [message for message in caplog.messages if "no network" in message] == [
        f"the tracker {board.__name__} failed and gets nothing more; the run goes on: no network"
    ]


def test_nothing_is_begun_without_a_record(board: Board, tmp_path: Path) -> None:
    with tracked([board.__name__], demo(), tmp_path):
        pass
    assert board.begun == []


def test_an_error_of_the_run_still_finishes_the_tracker(board: Board, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracked([board.__name__], demo(), tmp_path) as listen:  # noqa: PT012
        listen(record(0))
        raise KeyboardInterrupt
    assert board.num_finished == 1


def test_unknown_and_missing_trackers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown tracker 'tensorbord'") as error:
        collapselab.run("demo", tmp_path / "a", track=["tensorbord"], **QUICK)
    assert "tensorboard" in str(error.value.hint)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, (package, _) in TRACKERS.items():
        with pytest.raises(InputError, match=f"the tracker {name} is not installed") as error:
            tracking.check_trackers([name])
        assert error.value.hint == f"pip install {package}"
    assert not (tmp_path / "a").exists()


def test_a_run_with_a_tracker_has_the_same_records(board: Board, tmp_path: Path) -> None:
    plain = collapselab.run("demo", tmp_path / "plain", **QUICK)
    shown = collapselab.run("demo", tmp_path / "shown", track=[board.__name__], **QUICK)
    times = [name for name in collapselab.load_runs(plain.path).steps if name.startswith("seconds_")]
    first, second = (collapselab.load_runs(run.path).steps.drop(columns=["run", *times]) for run in (plain, shown))
    assert first.equals(second)
    assert len(board.logged) == 4


def test_tensorboard_writes_numbers_and_samples(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracked(["tensorboard"], demo(), tmp_path) as listen:
        for step in range(3):
            listen(record(step, "first\n\n<script>"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_nll_nats/austen")] == [(0, 3.0), (1, 3.0), (2, 3.0)]
    texts = events.Tensors("sample/text_summary")
    assert [e.step for e in texts] == [0, 2]
    assert texts[0].tensor_proto.string_val[0] == b"    first\n    \n    <script>"
