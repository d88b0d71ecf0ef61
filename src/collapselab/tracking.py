"""Sends a run's records and samples to an experiment tracker too: trackio, wandb or tensorboard (the extra `track`).

The run directory stays the record; no failure of a tracker ends or changes a run.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, nearest
from collapselab.records import Record, flatten
from collapselab.visible import visible

PROJECT = "collapselab"
SAMPLE_EVERY = 10  # steps between two samples that are sent; the last step's is sent too
MAX_SAMPLE_CHARS = 4_000
_notices = logging.getLogger(__name__)


class Tracker(ABC):
    """A place that takes numbers and texts by step."""

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None: ...

    @abstractmethod
    def sample(self, step: int, text: str) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...


@final
class Dashboard(Tracker):
    """trackio or wandb, which have one interface: numbers by step, and the samples as one table at the end."""

    def __init__(self, module: str, config: RunConfig, name: str, resume: Mapping[str, object]) -> None:
        self._library: Any = importlib.import_module(module)
        settings = dict(flatten(config.model_dump(mode="json")))
        self._run: Any = self._library.init(project=PROJECT, name=name, config=settings, **resume)
        self._samples: list[list[object]] = []

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def sample(self, step: int, text: str) -> None:
        self._samples.append([step, text])

    def finish(self) -> None:
        if self._samples:
            self._run.log({"samples": self._library.Table(columns=["step", "text"], data=self._samples)})
        self._run.finish()


@final
class TensorBoard(Tracker):
    """Event files in the folder `tensorboard` of the run directory."""

    def __init__(self, folder: Path) -> None:
        writer: Any = importlib.import_module("torch.utils.tensorboard")
        self._writer: Any = writer.SummaryWriter(str(folder / "tensorboard"))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def sample(self, step: int, text: str) -> None:
        # TensorBoard reads Markdown: indented, a text is shown as it is.
        self._writer.add_text("sample", "\n".join(f"    {line}" for line in text.split("\n")), step)

    def finish(self) -> None:
        self._writer.close()


def _trackio(config: RunConfig, folder: Path) -> Tracker:
    return Dashboard("trackio", config, _id(config, folder), {"resume": "allow", "embed": False})


def _wandb(config: RunConfig, folder: Path) -> Tracker:
    return Dashboard("wandb", config, folder.name, {"id": _id(config, folder), "resume": "allow"})


def _id(config: RunConfig, folder: Path) -> str:
    """The same whenever a run goes on, and another for the same settings in another directory."""
    return f"{folder.resolve().name}-{config.run_id}"


# By name: the package, and what makes the tracker of a run in a directory.
TRACKERS: dict[str, tuple[str, Callable[[RunConfig, Path], Tracker]]] = {
    "trackio": ("trackio", _trackio),
    "wandb": ("wandb", _wandb),
    "tensorboard": ("tensorboard", lambda config, folder: TensorBoard(folder)),
}


def check_trackers(names: Sequence[str]) -> None:
    """Checks that these trackers are known and installed.

    Raises:
        InputError: one is not.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"unknown tracker {name!r}", nearest(name, TRACKERS))
        if importlib.util.find_spec(TRACKERS[name][0]) is None:
            raise InputError(f"the tracker {name} is not installed", f"pip install {TRACKERS[name][0]}")


@contextmanager
def tracked(names: Sequence[str], config: RunConfig, folder: Path) -> Generator[Callable[[Record], None]]:
    """A listener (`on_record`) that sends records to these trackers; one that fails is dropped, with a warning.

    Args:
        names: of `TRACKERS`; none is possible.
        config: the run.
        folder: its directory.

    Raises:
        InputError: a tracker is unknown or not installed.
    """
    check_trackers(names)
    trackers: dict[str, Tracker] = {}
    last: list[Record] = []

    def attempt(name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            trackers.pop(name, None)
            _notices.warning("the tracker %s failed and gets nothing more; the run goes on: %s", name, error)

    def begin() -> None:
        for name in names if not last else ():  # with the first record: a run that is refused leaves nothing anywhere
            attempt(name, lambda name=name: trackers.update({name: TRACKERS[name][1](config, folder)}))

    def listen(record: Record) -> None:
        begin()
        last[:] = [record]
        values = _finite(record)
        for name, tracker in list(trackers.items()):
            attempt(name, lambda tracker=tracker: tracker.numbers(record.step, values))
        if record.step % SAMPLE_EVERY == 0:
            send_sample(record)

    def send_sample(record: Record) -> None:
        for name, tracker in list(trackers.items()):
            text = visible(record.samples[0].text[:MAX_SAMPLE_CHARS]) if record.samples else ""
            attempt(name, lambda tracker=tracker, text=text: tracker.sample(record.step, text))

    try:
        yield listen
    finally:
        if last and last[0].step % SAMPLE_EVERY:
            send_sample(last[0])
        for name, tracker in list(trackers.items()):
            attempt(name, tracker.finish)


def _finite(record: Record) -> dict[str, float]:
    """The finite numbers of a record, those of a text as `val_nll_nats/austen`; truth values as 0 and 1."""
    known = {name: value for name, value in record.values.items() if isinstance(value, (int, float)) and name != "step"}
    return {name.replace("[", "/").rstrip("]"): float(value) for name, value in known.items() if math.isfinite(value)}
