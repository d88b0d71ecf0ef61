"""One rank's part of a model that is divided over several devices, by the plan that `transformers` has for its family.

Activations between the layers, and logits, are whole on every rank. Matrices are divided (DTensor), so each rank
updates its part; norms are those of the whole. Rank 0 calls, and by that call the others do the same (`ranks.tell`).
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import DynamicCache

from collapselab import ranks
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.inputs.models import load_model
from collapselab.interruptions import ending_signals
from collapselab.step.batches import StepStats, make_optimizer
from collapselab.step.start import Start

P = ParamSpec("P")
T = TypeVar("T")
SOURCES = ("own", "real", "shuffled")


def check_divisible(config: RunConfig, *, has_own_objects: bool) -> None:
    """Refuses what needs the whole model in one process.

    Raises:
        InputError: the setting that does.
    """
    refused = {
        "a model object, or safeguards that are objects": has_own_objects,
        "safeguards": bool(config.safeguards),
        f"train.source {config.train.source}": config.train.source not in SOURCES,
        f"engine {config.engine}": config.engine not in ("auto", "plain"),
        "optim.lora_rank": config.optim.lora_rank is not None,
        "numerics.write bfloat16": config.numerics.write != "float32",
        "numerics.update bfloat16": config.numerics.update != "float32",
        "metrics.first_model": config.metrics.first_model,
    }
    if wrong := [name for name, is_set in refused.items() if is_set]:
        raise InputError(
            f"a model divided by torchrun does not support {wrong[0]}",
            "leave it out, or start the run without torchrun",
        )


def _everywhere(method: Callable[Concatenate[Shards, P], T]) -> Callable[Concatenate[Shards, P], T]:
    """A method that the other ranks execute too when rank 0 does, with the same arguments."""

    @wraps(method)
    def told(self: Shards, *arguments: P.args, **named: P.kwargs) -> T:
        assert not named, named
        if self.leads:
            ranks.tell(method.__name__, *arguments)
        return method(self, *arguments, **named)

    return told


class Shards:
    """The parameters of a divided model, and the optimiser's state, as far as they are on this rank."""

    def __init__(self, model: Any, config: RunConfig) -> None:
        self._model, self.leads = model, not ranks.is_follower()
        self._parameters: dict[str, Tensor] = dict(model.named_parameters())
        # They share memory with the model's, so that an optimiser for plain tensors updates the model.
        self._parts = {name: nn.Parameter(_part(p.detach())) for name, p in self._parameters.items()}
        self.optimizer = make_optimizer(cast(Any, nn.ParameterList(self._parts.values())), config.optim)
        self._start = Start(self._parts.values(), lambda tensors: self._norm(zip(self._parts, tensors, strict=True)))
        self._cache: Any = None
        self._graphs: list[Tensor] = []
        if self.leads:
            self._lead(model)

    def _lead(self, model: Any) -> None:
        """Lets the others take part in every pass through the model, forward and backward."""
        forward = model.forward

        @wraps(forward)
        def told(*, input_ids: Tensor, past_key_values: Any = None, **named: Any) -> Any:
            is_cached = past_key_values is not None
            is_new = is_cached and past_key_values.get_seq_length() == 0
            has_graph = torch.is_grad_enabled()
            ranks.tell("forward", input_ids.cpu(), is_cached, is_new, has_graph, named)
            given = {"past_key_values": past_key_values} if is_cached else {}
            found = forward(input_ids=input_ids, **given, **named)
            if has_graph:
                found.logits.register_hook(partial(_tell_gradient, len(self._graphs)))
                self._graphs.append(found.logits.detach())
            return found

        model.forward = told

    def forward(
        self, tokens_BT: Tensor, is_cached: bool, is_new: bool, has_graph: bool, named: Mapping[str, Any]
    ) -> None:
        """A follower's share of a forward pass."""
        if is_new:
            self._cache = DynamicCache(config=self._model.config)
        given = {"past_key_values": self._cache} if is_cached else {}
        with torch.set_grad_enabled(has_graph):
            logits_BTV = self._model(input_ids=tokens_BT.to(self._model.device), **given, **named).logits
        if has_graph:
            self._graphs.append(logits_BTV)

    def backward(self, index: int, gradient_BTV: Tensor) -> None:
        """A follower's share of a backward pass, which begins with the gradient of the objective by the logits."""
        self._graphs[index].backward(gradient_BTV.to(self._model.device))

    def step(self, objective: Tensor, clip: float | None, lr: float) -> StepStats:
        """Takes one step down the gradient of `objective`, a function of the logits of the last forward passes."""
        objective.backward()
        return self.descend(clip, lr)

    @_everywhere
    def descend(self, clip: float | None, lr: float) -> StepStats:
        """Takes the optimiser's step with the gradients of the last backward pass, clipped by their whole norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        gradients = {name: self._gradient(p) for name, p in self._parameters.items() if p.grad is not None}
        grad_norm = self._norm(gradients.items())
        factor = 1.0 if clip is None else min(clip / (grad_norm + 1e-6), 1.0)  # as torch clips; NaN stays NaN
        for name, gradient in gradients.items():
            self._parts[name].grad = gradient * factor
        before = {name: self._parts[name].detach().clone() for name in gradients}
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._model.zero_grad(set_to_none=True)
        self._graphs.clear()
        changes = [(name, self._parts[name].detach() - old) for name, old in before.items()]
        return StepStats(grad_norm, self._norm(changes), self._norm(before.items()))

    def _gradient(self, p: Tensor) -> Tensor:
        gradient: Any = p.grad
        return gradient.redistribute(placements=p.placements).to_local() if isinstance(p, DTensor) else gradient

    def _norm(self, tensors: Iterable[tuple[str, Tensor]]) -> float:
        """The norm of the whole of these parts, by the names of the parameters; what all ranks have is counted once."""
        total = torch.zeros((), dtype=torch.float64, device=self._model.device)
        for name, tensor in tensors:
            if self.leads or isinstance(self._parameters[name], DTensor):
                total += tensor.double().square().sum()
        dist.all_reduce(total)
        return math.sqrt(float(total))

    def relative(self, norm: float) -> float:
        """As of `Start`."""
        return self._start.relative(norm)

    @_everywhere
    def displacement(self) -> float:
        """As of `Start`."""
        return self._start.displacement()

    @_everywhere
    def clear(self) -> None:
        """Forgets the optimiser's state."""
        self.optimizer.state.clear()

    @_everywhere
    def weights(self) -> dict[str, Tensor]:
        """The whole parameters by name."""
        return {name: self._whole(self._parts[name].detach(), name) for name in self._parts}

    @_everywhere
    def moments(self) -> dict[str, Tensor]:
        """The whole of the optimiser's state by `parameter|field`."""
        return {
            f"{name}|{field}": self._whole(value, name) if value.dim() else value
            for name, part in self._parts.items()
            for field, value in self.optimizer.state[part].items()
        }

    def _whole(self, part: Tensor, name: str) -> Tensor:
        p = self._parameters[name]
        if not isinstance(p, DTensor):
            return part.contiguous()
        divided = DTensor.from_local(
            part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
        )
        return divided.full_tensor().contiguous()

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Divides weights and optimiser state, which rank 0 has, among the ranks."""
        self.clear()
        for name, value in weights.items():
            self.take(name, "value", value)
        for key, value in moments.items():
            name, _, field = key.rpartition("|")
            self.take(name, field, value)

    @_everywhere
    @torch.no_grad()
    def take(self, name: str, field: str, value: Tensor) -> None:
        """Takes this rank's part of a whole tensor: of the parameter (`value`), or of the optimiser's state."""
        p, part = self._parameters[name], self._parts[name]
        if isinstance(p, DTensor) and value.dim():
            divided = distribute_tensor(value.to(part.device), p.device_mesh, p.placements, src_data_rank=None)
            value = divided.to_local()
        if field == "value":
            part.copy_(value)
        else:
            self.optimizer.state[part][field] = value.to(part.device).clone()


def _tell_gradient(index: int, gradient_BTV: Tensor) -> None:
    ranks.tell("backward", index, gradient_BTV.cpu())


def _part(p: Tensor) -> Tensor:
    return p.to_local() if isinstance(p, DTensor) else p


def follow(config: RunConfig) -> dict[str, object]:
    """What a rank other than 0 does until rank 0 has ended its run; returns its summary, which is empty."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    ranks.begin(config.device)
    for number in (signal.SIGINT, *ending_signals()):  # torchrun sends them to all: from here on rank 0 decides
        signal.signal(number, signal.SIG_IGN)
    shards: Any = None
    verb, *arguments = ranks.hear()
    while verb != ranks.END:
        if verb == "load":
            name, device, context, begin_token = arguments
            loaded = load_model(name, device=device, context=context, begin_token=begin_token)
            shards = Shards(loaded.model, config)
        else:
            getattr(shards, verb)(*arguments)
        verb, *arguments = ranks.hear()
    return {}
