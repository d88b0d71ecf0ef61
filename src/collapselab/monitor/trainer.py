"""What connects a monitor with the trainers of transformers and TRL: events, a reward function, probes.

The events are found by name, so that the monitor needs no base class of transformers, which would import torch.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from collapselab.monitor.actions import Action
from collapselab.monitor.probes import Probes, draw
from collapselab.monitor.troubles import Event
from collapselab.records import Value

HEALTHY = "last-healthy"  # the folder of the last healthy checkpoint, in a Trainer's output directory
FOLDER = "collapse"  # the run directory, there
# Of a Trainer's logs, by the names of the records.
LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "entropy": "entropy_nats",
    "reward": "reward",
    "sampling/sampling_logp_difference/mean": "sampler_difference_nats",
}
_log = logging.getLogger("collapselab.monitor")


@dataclass
class _Pending:
    """The completions of one step, from one or several calls."""

    step: int
    ids: list[list[int]] = field(default_factory=list[list[int]])
    groups: list[Hashable] = field(default_factory=list[Hashable])
    ended: list[bool] = field(default_factory=list[bool])


class TrainerEvents(ABC):
    """The events and the reward function of a monitor; `observe`, `finish` and the state are `CollapseMonitor`'s."""

    out: Path | None
    name: str
    lr: float | None
    on_warning: tuple[Action, ...]
    on_verdict: tuple[Action, ...]
    should_stop: bool
    warnings: Any
    state: Any
    events: list[Event]
    _tokenizer: Any
    __name__ = "collapse_monitor"  # as a reward function, in a trainer's logs

    def __init__(self, probes: Probes | None) -> None:
        self.probes = probes
        self._pending: _Pending | None = None
        self._logs: dict[str, Value] = {}
        self._model: Any = None
        self._has_completions = False
        self._is_main = True
        self._num_probes = 0

    @property
    @abstractmethod
    def is_healthy(self) -> bool: ...

    @abstractmethod
    def _observe(self, step: int, token_ids: Any, **known: Any) -> None: ...

    @abstractmethod
    def finish(self, ended_by: Any = "budget") -> None: ...

    @abstractmethod
    def _use(self, tokenizer: Any) -> None: ...

    @classmethod
    def attach(cls, trainer: Any, **settings: Any) -> Any:
        """A monitor that is a callback of this trainer and, where the trainer has reward functions, sees completions.

        Args:
            trainer: of transformers or TRL, before `train`.
            **settings: of the monitor.
        """
        monitor = cls(**settings)
        trainer.add_callback(monitor)
        functions: list[Any] = getattr(trainer, "reward_funcs", None) or []
        for i, function in enumerate(functions):
            if callable(function) and not hasattr(function, "parameters") and not _is_async(function):
                functions[i] = _Watched(function, monitor)
                break
        return monitor

    def __call__(self, prompts: Sequence[Any], completion_ids: Any = None, **known: Any) -> list[None]:
        """A reward function of GRPO and RLOO: takes in the completions, and scores none of them (`None`)."""
        state = known.get("trainer_state")
        if completion_ids is not None and state is not None and not self._is_evaluating():
            self._collect(state.global_step, completion_ids, [str(prompt) for prompt in prompts])
            if (log_metric := known.get("log_metric")) is not None:
                log_metric("collapse/degenerate_share", float(self.state.degenerate_share or 0.0))
                log_metric("collapse/warning", float(self.warnings.since is not None))
        return [None] * len(prompts)

    def _is_evaluating(self) -> bool:
        return self._model is not None and not self._model.training

    def _collect(self, step: int, token_ids: Any, groups: Sequence[Hashable]) -> None:
        self._has_completions = True
        if not self._is_main:
            return
        if self._pending is None or self._pending.step != step:
            self._flush()
            self._pending = _Pending(step)
        eos = getattr(self._tokenizer, "eos_token_id", None)
        pad = getattr(self._tokenizer, "pad_token_id", None)
        for ids, group in zip(token_ids, groups, strict=True):
            own = _without_padding(ids.tolist() if hasattr(ids, "tolist") else list(ids), pad)
            self._pending.ids.append(own)
            self._pending.groups.append(group)
            self._pending.ended.append(bool(len(own) and own[-1] == eos) or len(own) < len(ids))

    def _flush(self) -> None:
        """Observes the completions of the last step, and what was logged meanwhile."""
        pending, self._pending = self._pending, None
        if pending is not None and (self.state.step is None or pending.step > self.state.step):
            logs, self._logs = self._logs, {}
            self._observe(pending.step, pending.ids, groups=pending.groups, ended=pending.ended, values=logs)

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Takes the names and places of the training, and draws the first probe."""
        self._is_main = bool(getattr(state, "is_world_process_zero", True))
        self._model = known.get("model")
        if self._tokenizer is None and known.get("processing_class") is not None:
            self._use(known["processing_class"])
        self.lr = getattr(args, "learning_rate", None)
        config = getattr(self._model, "config", None)
        name = getattr(config, "_name_or_path", "") or type(self._model).__name__
        self.name = os.path.basename(name) if os.path.isabs(name) else name
        if self.out is None and getattr(args, "output_dir", None):
            self.out = Path(args.output_dir) / FOLDER
        if not self._is_main:
            self.out = None
        if _is_sharded(args) and self.probes is not None:
            self.probes = None
            _log.warning("the model is sharded, so it is not sampled: the monitor sees completions and logs only")
        if state.global_step == 0 and not hasattr(args, "num_generations"):  # GRPO shows its completions
            self._probe(args, 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> Any:
        """Judges the completions of the step, or a probe, and stops the training if that was asked for."""
        self._flush()
        self._probe(args, state.global_step)
        if _on_any_process(self.should_stop, self._model):
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **known: Any) -> None:
        """Keeps a Trainer's own numbers for the next observation; one that is not finite is an observation itself."""
        found = {ours: logs[theirs] for theirs, ours in LOGGED.items() if logs and theirs in logs}
        self._logs |= {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}
        is_last = self.state.step is None or state.global_step > self.state.step
        if self._is_main and is_last and (self._is_broken() or not (self._has_completions or self._is_probed())):
            values, self._logs = self._logs, {}
            self._observe(state.global_step, [], values=values)

    def _is_broken(self) -> bool:
        known = {name: value for name, value in self._logs.items() if name != "reward"}  # it says nothing of the model
        return any(isinstance(value, float) and not math.isfinite(value) for value in known.values())

    def on_save(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Keeps the checkpoint that was just written, if all is well and an action asks for it."""
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._is_main and self.is_healthy and "keep" in (*self.on_warning, *self.on_verdict) and saved.is_dir():
            kept = Path(args.output_dir) / HEALTHY
            shutil.rmtree(kept, ignore_errors=True)
            # Links where the disk has them: a Trainer writes new files and never changes those of a checkpoint.
            shutil.copytree(saved, kept, copy_function=_link)

    def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Writes the outcome."""
        self._flush()
        if self._is_main:
            collapsed = self.should_stop and self.state.onset_step is not None
            diverged = self.state.diverged_step is not None
            self.finish("divergence" if diverged else "collapse" if collapsed else "budget")

    def on_self_distillation_batch_prepared(self, **known: Any) -> None:
        """SDFT and SDPO: the completions that the model is trained on."""
        ids, prompts = known.get("completion_ids"), known.get("prompt_ids")
        if ids is not None and not self._is_evaluating():
            groups = [str(row) for row in prompts.tolist()] if prompts is not None else list(range(len(ids)))
            self._collect(known["state"].global_step, ids, groups)

    def __getattr__(self, name: str) -> Callable[..., None]:
        # The other events of a Trainer, those of later versions included: there is nothing to do.
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def _is_probed(self) -> bool:
        return self.probes is not None and self._model is not None and self._tokenizer is not None

    def _probe(self, args: Any, step: int) -> None:
        """Samples from the model, where no completions are seen and it is time."""
        if not self._is_main or not self._is_probed() or self._has_completions:
            return
        assert self.probes is not None
        is_early = any(not watch.is_ready for watch in self.warnings.watches) and self._num_probes < 64
        if not is_early and step % self.probes.every:
            return
        if self.state.step is not None and step <= self.state.step:
            return
        self._num_probes += 1
        probe = draw(self._model, self._tokenizer, self.probes, step, _precision(args))
        logs, self._logs = self._logs, {}
        logs |= {"train_nll_nats": probe.nll_nats}
        self._observe(step, probe.token_ids, entropy_nats=probe.entropy_nats, groups=probe.groups, values=logs)


class _Watched:
    """A reward function that also shows the completions to a monitor, and returns what it did before."""

    def __init__(self, function: Callable[..., Any], monitor: TrainerEvents) -> None:
        self._function, self._monitor = function, monitor
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, **known: Any) -> Any:
        self._monitor(**known)
        return self._function(**known)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _link(source: str, target: str) -> object:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _without_padding(ids: list[int], pad: int | None) -> list[int]:
    end = len(ids)
    while end and pad is not None and ids[end - 1] == pad:
        end -= 1
    return ids[:end]


def _is_async(function: Any) -> bool:
    from inspect import iscoroutinefunction

    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _is_sharded(args: Any) -> bool:
    return bool(getattr(args, "fsdp", None)) or bool(getattr(args, "deepspeed", None))


def _precision(args: Any) -> Any:
    import torch

    return torch.bfloat16 if getattr(args, "bf16", False) else torch.float16 if getattr(args, "fp16", False) else None


def _on_any_process(flag: bool, model: Any) -> bool:
    """Whether the flag is set on any process: a training stops everywhere or hangs."""
    import torch

    distributed = cast(Any, torch.distributed)
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return flag
    found = torch.tensor(int(flag), device=next(model.parameters()).device)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return bool(found.item())
