"""Checkpoints: weights and optimiser state, complete or absent, the last two kept.

A checkpoint is a folder `checkpoint/<step>/` with `model.safetensors`, `optimizer.safetensors` and `state.json`;
with its `config.json` and `tokenizer.json` it is also a model folder that `--model` and `transformers` read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from collapselab.errors import InputError
from collapselab.files import open_regular, remove_folder, sync, temporary_name
from collapselab.inputs.models import LoadedModel
from collapselab.records import SCHEMA_VERSION, Record
from collapselab.rundir.layout import NewerSchema, RunDir, disk_errors, read_json, write_json
from collapselab.rundir.record_writer import check_extents

NUM_KEPT = 2


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds, by reference: the tensors of weights and of the optimiser by name, and their model."""

    loaded: LoadedModel
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]


def contents(loaded: LoadedModel, optimizer: torch.optim.Optimizer) -> Contents:
    """The state as it is now; the tensors are those of the model, and change when it is updated.

    Gathered while nothing else uses the model: a forward pass in bfloat16 puts copies in the place of its parameters.
    """
    return Contents(loaded, _weights(loaded), _optimizer_tensors(loaded, optimizer))


def save_checkpoint(folder: Path, contents: Contents, step: int, run_id: str, extents: Mapping[str, object]) -> None:
    """Writes the state before step `step`, to a temporary name first; `extents` are those of the records then.

    Raises:
        RunFailed: the disk is full; earlier checkpoints stay.
    """
    final = folder / f"{step:08d}"
    if final.exists():
        return
    temporary = folder / temporary_name()
    with disk_errors(folder.parent):
        if not folder.exists():
            folder.mkdir()  # never its parents: a run directory that was renamed is not made anew
            sync(folder.parent)
        for leftover in folder.glob("tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        contents.loaded.model.config.save_pretrained(temporary)
        (temporary / "tokenizer.json").write_text(contents.loaded.tokenizer.backend.to_str(), encoding="utf-8")
        _save_tensors(contents.weights, temporary / "model.safetensors", {"format": "pt"})
        _save_tensors(contents.moments, temporary / "optimizer.safetensors")
        files = sorted(temporary.iterdir())
        for file in files:
            sync(file)
        identity = {"schema": SCHEMA_VERSION, "step": step, "run_id": run_id, "records": extents}
        write_json(temporary / "state.json", {**identity, "sha256": {file.name: _sha256(file) for file in files}})
        temporary.rename(final)
        sync(folder)
        for old in _complete(folder)[:-NUM_KEPT]:
            remove_folder(old)


def _save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    # safetensors leaves them to their owner alone; what lies beside them has the mode the user wants (umask).
    path.chmod((path.parent / "tokenizer.json").stat().st_mode)


class BackgroundWriter:
    """Writes checkpoints in a thread, while the run evaluates and writes with the same weights.

    The thread holds `weights_in_use` until it is done, and an update waits for that: nothing is copied, and a
    checkpoint costs time only if it takes longer than what a step does before its update. Leaving the `with` block
    waits for the last one.
    """

    def __init__(
        self,
        folder: Path,
        loaded: LoadedModel,
        optimizer: torch.optim.Optimizer,
        run_id: str,
        weights_in_use: threading.Lock,
    ) -> None:
        self._folder, self._run_id = folder, run_id
        self._loaded, self._optimizer = loaded, optimizer
        self._weights_in_use = weights_in_use
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
        """Begins to write the state before step `step`, which follows the records of these extents."""
        self.wait()
        self._weights_in_use.acquire()
        now = contents(self._loaded, self._optimizer)
        self._thread = threading.Thread(target=self._write, args=(now, step, extents), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until what was begun is written.

        Raises:
            RunFailed: the disk is full.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _write(self, contents: Contents, step: int, extents: Mapping[str, object]) -> None:
        try:
            save_checkpoint(self._folder, contents, step, self._run_id, extents)
        except BaseException as error:  # told in the run's own thread
            self._error = error
        finally:
            self._weights_in_use.release()


@dataclass(frozen=True)
class Restored:
    """Where a run goes on: the records up to there, and what was found damaged on the way."""

    records: list[Record]
    damage: list[str]


def load_checkpoint(rundir: RunDir, loaded: LoadedModel, optimizer: torch.optim.Optimizer, run_id: str) -> Restored:
    """Restores the newest usable checkpoint in place; without one, the run begins at step 0.

    Usable is one that is intact, of this run, and whose records are as they were when it was written. Newer ones are
    removed, so that they are written again.

    Raises:
        InputError: every checkpoint is damaged or of another run, or a later version wrote one.
    """
    candidates, damage, records = _complete(rundir.checkpoints), list[str](), list[Record]()
    num_unusable = 0
    for candidate in reversed(candidates):
        try:
            state = _checked_state(candidate, run_id)
        except NewerSchema:
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
        _restore(candidate, loaded, optimizer)
        break
    if candidates and num_unusable == len(candidates):
        raise InputError(
            f"all checkpoints in {rundir.checkpoints} are damaged: " + "; ".join(damage),
            "remove the folder `checkpoint` to run again from step 0 with --resume",
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
        raise InputError(f"its state.json is that of step {state.get('step')!r}")
    digests = state.get("sha256")
    if not isinstance(digests, dict) or not {"model.safetensors", "optimizer.safetensors"} <= digests.keys():
        raise InputError("its state.json names no checksums")
    for name, digest in cast(dict[str, object], digests).items():
        if _sha256(folder / name) != digest:
            raise InputError(f"its {name} has changed since it was written")
    return state


def _records_before(rundir: RunDir, state: Mapping[str, Any]) -> list[Record]:
    """The records that a checkpoint follows, which must be as they were when it was written."""
    extents = state.get("records")
    if not isinstance(extents, dict):  # written by a version that did not note them
        return rundir.read_records(state["step"])
    noted = cast(dict[str, Any], extents)
    check_extents(rundir, noted)
    return rundir.read_records(state["step"], noted[rundir.samples.name]["lines"])


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.name.isascii() and p.name.isdigit())


def _weights(loaded: LoadedModel) -> dict[str, Tensor]:
    # named_parameters names a tied tensor once; safetensors refuses shared memory.
    return {name: p.detach().contiguous() for name, p in loaded.model.named_parameters()}


def _optimizer_tensors(loaded: LoadedModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {p: name for name, p in loaded.model.named_parameters()}
    return {
        f"{names[p]}|{key}": value.contiguous()
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _restore(folder: Path, loaded: LoadedModel, optimizer: torch.optim.Optimizer) -> None:
    parameters = dict(loaded.model.named_parameters())
    weights = load_file(folder / "model.safetensors")
    if {name: p.shape for name, p in weights.items()} != {name: p.shape for name, p in parameters.items()}:
        raise InputError(
            f"checkpoint {folder} does not fit the model {loaded.name}",
            "the model has changed since the run began: bring the former one back, or begin anew with --fresh",
        )
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    optimizer.state.clear()
    for key, value in load_file(folder / "optimizer.safetensors").items():
        name, _, field = key.rpartition("|")
        state: dict[str, Any] = optimizer.state[parameters[name]]
        # AdamW keeps its step counter on the CPU unless it is fused on a GPU, where load moves it.
        state[field] = value.to(parameters[name].device)


def _sha256(path: Path) -> str:
    with open(open_regular(path, os.O_RDONLY), "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
