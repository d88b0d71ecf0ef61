"""Checkpoints: weights and optimiser state, complete or absent, the last two kept.

A checkpoint is a folder `checkpoint/<step>/` with `model.safetensors`, `optimizer.safetensors` and `state.json`;
with its `config.json` and `tokenizer.json` it is also a model folder that `--model` and `transformers` read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from collapselab.errors import InputError
from collapselab.files import open_regular, remove_folder, sync, temporary_name
from collapselab.inputs.models import LoadedModel
from collapselab.records import SCHEMA_VERSION, Record
from collapselab.rundir.layout import RunDir, UnknownSchema, disk_errors, read_json, write_json
from collapselab.rundir.record_writer import check_extents

NUM_KEPT = 2
WEIGHTS, MOMENTS, OTHERS = "model.safetensors", "optimizer.safetensors", "safeguards.safetensors"


class Saved(Protocol):
    """A model whose weights and optimiser state a checkpoint holds (`step.learner.Learner`)."""

    loaded: LoadedModel

    def weights(self) -> dict[str, Tensor]: ...
    def moments(self) -> dict[str, Tensor]: ...
    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None: ...
    def reading(self) -> AbstractContextManager[None]: ...


class Stateful(Protocol):
    """Something else whose state a checkpoint holds (`safeguards.Safeguard`)."""

    def tensors(self) -> dict[str, Tensor]: ...
    def restore(self, tensors: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds, by reference: its model, and tensors by name for each of its files."""

    loaded: LoadedModel
    tensors: dict[str, dict[str, Tensor]]


def contents(model: Saved, others: Sequence[Stateful] = ()) -> Contents:
    """The state as it is now; the tensors are those in memory, and change when the model is updated."""
    tensors = {WEIGHTS: model.weights(), MOMENTS: model.moments()}
    kept = {f"{i}|{name}": value for i, other in enumerate(others) for name, value in other.tensors().items()}
    return Contents(model.loaded, tensors | ({OTHERS: kept} if kept else {}))


def save_checkpoint(
    folder: Path,
    contents: Contents,
    step: int,
    run_id: str,
    extents: Mapping[str, object],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Writes the state before step `step`, to a temporary name first; `extents` are those of the records then.

    `check` is called before it gets its name, and may refuse (`Lease.check`).

    Raises:
        RunFailed: the disk is full; earlier checkpoints stay.
    """
    final = folder / f"{step:08d}"
    if final.exists():
        return
    temporary = folder / temporary_name()
    with disk_errors(folder.parent):
        if not folder.exists():
            folder.mkdir()  # never its parents: a run directory that was renamed is not created again
            sync(folder.parent)
        for leftover in folder.glob("tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        contents.loaded.model.config.save_pretrained(temporary)
        (temporary / "tokenizer.json").write_text(contents.loaded.tokenizer.backend.to_str(), encoding="utf-8")
        for name, tensors in contents.tensors.items():
            _save_tensors(tensors, temporary / name, {"format": "pt"} if name == WEIGHTS else None)
        files = sorted(temporary.iterdir())
        for file in files:
            sync(file)
        identity = {"schema": SCHEMA_VERSION, "step": step, "run_id": run_id, "records": extents}
        write_json(temporary / "state.json", {**identity, "sha256": {file.name: _sha256(file) for file in files}})
        check()
        temporary.rename(final)
        sync(folder)
        for old in _complete(folder)[:-NUM_KEPT]:
            remove_folder(old)


def _save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    # safetensors makes files that only their owner can read; give them the mode of the files beside them (umask).
    path.chmod((path.parent / "tokenizer.json").stat().st_mode)


class BackgroundWriter:
    """Writes checkpoints in a thread, while the run evaluates and generates with the same weights.

    The thread is `reading` the model until it is done, and an update waits for that: nothing is copied, and a
    checkpoint costs time only if it takes longer than the part of a step before its update. Leaving the `with` block
    waits for the last one.
    """

    def __init__(
        self,
        folder: Path,
        model: Saved,
        run_id: str,
        others: Sequence[Stateful] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._run_id, self._check = folder, run_id, check
        self._model, self._others = model, others
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()

    def save(self, step: int, extents: Mapping[str, object]) -> None:
        """Starts to write the state before step `step`, which follows the records of these extents."""
        self.wait()
        reading = ExitStack()
        reading.enter_context(self._model.reading())
        now = contents(self._model, self._others)
        self._thread = threading.Thread(target=self._write, args=(reading, now, step, extents), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Waits until the current checkpoint is written.

        Raises:
            RunFailed: the disk is full.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _write(self, reading: ExitStack, contents: Contents, step: int, extents: Mapping[str, object]) -> None:
        with reading:
            try:
                save_checkpoint(self._folder, contents, step, self._run_id, extents, self._check)
            except BaseException as error:  # raised in the run's own thread
                self._error = error


@dataclass(frozen=True)
class Restored:
    """Where a run resumes: the records up to there, and the damage that was found."""

    records: list[Record]
    damage: list[str]


def load_checkpoint(rundir: RunDir, model: Saved, run_id: str, others: Sequence[Stateful] = ()) -> Restored:
    """Restores the newest usable checkpoint in place; without one, the run begins at step 0.

    A checkpoint is usable if it is intact, belongs to this run, and its records have not changed since it was written.
    Newer checkpoints are removed, so that they are written again.

    Raises:
        InputError: every checkpoint is damaged or belongs to another run, or a later version wrote one.
    """
    candidates, damage, records = _complete(rundir.checkpoints), list[str](), list[Record]()
    num_unusable = 0
    for candidate in reversed(candidates):
        try:
            state = _checked_state(candidate, run_id)
        except UnknownSchema:
            raise
        except (InputError, OSError) as error:
            damage.append(f"checkpoint {candidate.name}: {getattr(error, 'message', error)}")
            num_unusable += 1
            continue
        try:
            records = _records_before(rundir, state)
        except InputError as error:
            damage.append(error.message)
            continue
        _restore(candidate, model, others)
        break
    if candidates and num_unusable == len(candidates):
        raise InputError(
            f"all checkpoints in {rundir.checkpoints} are damaged: " + "; ".join(damage),
            "remove the folder `checkpoint` to run again from step 0 with `resume=True`",
        )
    with disk_errors(rundir.path):
        for candidate in candidates:
            if int(candidate.name) > len(records):
                remove_folder(candidate)
    return Restored(records, list(dict.fromkeys(damage)))


def _checked_state(folder: Path, run_id: str) -> dict[str, Any]:
    """The state.json of an intact checkpoint of this run."""
    state = read_json(folder / "state.json")
    if state.get("run_id") != run_id:
        raise InputError(f"it belongs to run {state.get('run_id')!r}, this is run {run_id}")
    if state.get("step") != int(folder.name):
        raise InputError(f"its state.json belongs to step {state.get('step')!r}")
    digests = state.get("sha256")
    if not isinstance(digests, dict) or not {WEIGHTS, MOMENTS} <= digests.keys():
        raise InputError("its state.json lists no checksums")
    for name, digest in cast(dict[str, object], digests).items():
        if _sha256(folder / name) != digest:
            raise InputError(f"its {name} has changed since it was written")
    return state


def _records_before(rundir: RunDir, state: Mapping[str, Any]) -> list[Record]:
    """The records that a checkpoint follows, which must be as they were when it was written."""
    extents = state.get("records")
    if not isinstance(extents, dict):  # written by a version that did not record them
        return rundir.read_records(state["step"])
    noted = cast(dict[str, Any], extents)
    check_extents(rundir, noted)
    return rundir.read_records(state["step"], noted[rundir.samples.name]["lines"])


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.name.isascii() and p.name.isdigit())


def _restore(folder: Path, model: Saved, others: Sequence[Stateful]) -> None:
    weights, present = load_file(folder / WEIGHTS), model.weights()
    if {name: p.shape for name, p in weights.items()} != {name: p.shape for name, p in present.items()}:
        raise InputError(
            f"checkpoint {folder} does not fit the model {model.loaded.name}",
            "the model has changed since the run began: restore the former one, or start over with `fresh=True`",
        )
    model.restore(weights, load_file(folder / MOMENTS))
    kept = load_file(folder / OTHERS) if (folder / OTHERS).exists() else {}
    for i, other in enumerate(others):
        mine = {name: value for name, value in kept.items() if name.startswith(f"{i}|")}
        other.restore({name.partition("|")[2]: value for name, value in mine.items()})


def _sha256(path: Path) -> str:
    with open(open_regular(path, os.O_RDONLY), "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
