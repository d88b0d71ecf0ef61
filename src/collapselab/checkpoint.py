"""Checkpoints: weights and optimiser state, complete or absent, the last two kept.

A checkpoint is a folder `checkpoint/<step>/` with `model.safetensors`, `optimizer.safetensors` and `state.json`;
with its `config.json` and `tokenizer.json` it is also a model folder that `--model` and `transformers` read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from collapselab.errors import InputError
from collapselab.models import LoadedModel
from collapselab.records import SCHEMA_VERSION
from collapselab.rundir import disk_errors, read_json, write_json

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


def save_checkpoint(folder: Path, contents: Contents, step: int, run_id: str) -> None:
    """Writes the state before step `step`, to a temporary name first.

    Raises:
        RunFailed: the disk is full; earlier checkpoints stay.
    """
    temporary, final = folder / f"tmp-{os.getpid()}", folder / f"{step:08d}"
    if final.exists():
        return
    with disk_errors(folder):
        for leftover in folder.glob("tmp-*"):
            shutil.rmtree(leftover)
        temporary.mkdir(parents=True)
        try:
            save_file(contents.weights, temporary / "model.safetensors", metadata={"format": "pt"})
            save_file(contents.moments, temporary / "optimizer.safetensors")
        except SafetensorError as error:
            raise OSError(str(error)) from error
        contents.loaded.model.config.save_pretrained(temporary)
        (temporary / "tokenizer.json").write_text(contents.loaded.tokenizer.backend.to_str(), encoding="utf-8")
        digests = {name: _sha256(temporary / name) for name in ("model.safetensors", "optimizer.safetensors")}
        state = {"schema": SCHEMA_VERSION, "step": step, "run_id": run_id, "sha256": digests}
        write_json(temporary / "state.json", state)
        for file in temporary.iterdir():
            _fsync(file)
        temporary.rename(final)
        _fsync(folder)
        for old in _complete(folder)[:-NUM_KEPT]:
            shutil.rmtree(old)


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

    def save(self, step: int) -> None:
        """Begins to write the state before step `step`."""
        self.wait()
        self._weights_in_use.acquire()
        now = contents(self._loaded, self._optimizer)
        self._thread = threading.Thread(target=self._write, args=(now, step), name="checkpoint")
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

    def _write(self, contents: Contents, step: int) -> None:
        try:
            save_checkpoint(self._folder, contents, step, self._run_id)
        except BaseException as error:  # told in the run's own thread
            self._error = error
        finally:
            self._weights_in_use.release()


def load_checkpoint(
    folder: Path, loaded: LoadedModel, optimizer: torch.optim.Optimizer, run_id: str, num_records: int
) -> int:
    """Restores the newest usable checkpoint in place and returns its step; 0 if there is none.

    Usable is an intact one that does not go beyond the records; newer ones are removed, so that they are written again.

    Raises:
        InputError: the checkpoints belong to another configuration, or all of them are damaged.
    """
    for path in _complete(folder):
        if int(path.name) > num_records:
            shutil.rmtree(path)
    candidates = _complete(folder)
    for candidate in reversed(candidates):
        try:
            state = read_json(candidate / "state.json")
            intact = all(_sha256(candidate / name) == digest for name, digest in state["sha256"].items())
        except (InputError, OSError, KeyError, AttributeError):
            continue
        if not intact:
            continue
        if state["run_id"] != run_id:
            raise InputError(
                f"checkpoint {candidate} belongs to run {state['run_id']}, this is run {run_id}",
                "it was copied from another run: remove it, or choose another directory with --out",
            )
        _restore(candidate, loaded, optimizer)
        for newer in _complete(folder):
            if newer > candidate:
                shutil.rmtree(newer)
        return int(state["step"])
    if candidates:
        raise InputError(
            f"all checkpoints in {folder} are damaged: " + ", ".join(c.name for c in candidates),
            "the records are intact; remove the folder `checkpoint` to run again from step 0 with --resume",
        )
    return 0


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.name.isdigit())


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
    assert weights.keys() == parameters.keys(), "the configuration names another model"
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
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
