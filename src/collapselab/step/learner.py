"""A model as the experiment sees it; it hides engines, kernels, optimiser, rounding and the checkpoint's lock.

Shape letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from collapselab import ranks
from collapselab.config.schema import RunConfig, Sampling
from collapselab.engine.choose import make_engines
from collapselab.engine.decoding import Generated, generate
from collapselab.engine.library import kernels
from collapselab.engine.rounded import RoundedModel
from collapselab.inputs.models import LoadedModel
from collapselab.step.batches import IGNORED, Batch, StepStats, make_optimizer, update
from collapselab.step.lora import Adapters
from collapselab.step.shards import Shards
from collapselab.step.start import Start


@dataclass(frozen=True)
class TokenLosses:
    """The forward pass of a training batch: logits with their graph, and the losses of its targets."""

    logits_BTV: Tensor
    targets_BT: Tensor
    inputs_BT: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """Mean negative log-likelihood of the targets in nats, at temperature 1: the plain loss, a scalar."""
        return cross_entropy(self.logits_BTV.flatten(0, 1), self.targets_BT.flatten(), ignore_index=IGNORED)

    @property
    def nll_BT(self) -> Tensor:
        """Negative log-likelihood of each target in nats; 0 where `is_target_BT` is false."""
        flat = cross_entropy(
            self.logits_BTV.flatten(0, 1), self.targets_BT.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return flat.view_as(self.targets_BT)

    @property
    def logits_NV(self) -> Tensor:
        """Logits of the N targets alone."""
        return self.logits_BTV[self.is_target_BT]

    @property
    def nll_N(self) -> Tensor:
        """Negative log-likelihood of the N targets alone, in nats."""
        return cross_entropy(self.logits_NV, self.targets_BT[self.is_target_BT], reduction="none")

    @property
    def is_target_BT(self) -> Tensor:
        return self.targets_BT != IGNORED


@dataclass
class Work:
    """What was asked of a model and its copies so far: sequences and tokens written, sequences passed through them."""

    samples: int = 0
    tokens: int = 0
    forwards: int = 0


class Writer:
    """A model that writes and is scored; `rule` is how it draws, `work` what it did so far."""

    def __init__(self, loaded: LoadedModel, config: RunConfig, work: Work | None = None) -> None:
        self.config, self.loaded, self.name, self.tokenizer = config, loaded, loaded.name, loaded.tokenizer
        self.rule, self.work = config.sampling, work or Work()
        self.vocab_size, self.context_length = loaded.vocab_size, loaded.context_length
        self._shards: Shards | None = None
        self._engine, self._scorer = make_engines(
            loaded.model,
            config.engine,
            write=config.numerics.write,
            score=config.numerics.evaluate,
            is_changed=loaded.is_object,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.loaded.num_parameters:,} parameters)"

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        rule: Sampling,
        noise: Sequence[np.random.Generator],
        *,
        num_tokens: int,
        context: int,
        stop_token: int | None = None,
    ) -> Generated:
        """One sequence of `num_tokens` tokens after each prompt (`engine.decoding.generate`)."""
        written = generate(
            self._engine,
            prompts,
            rule,
            noise,
            vocab_size=self.vocab_size,
            max_new_tokens=num_tokens,
            context=context,
            stop_token=stop_token,
        )
        self.work.samples += len(prompts)
        self.work.tokens += sum(map(len, written.token_ids))
        return written

    def score(self, tokens_BT: Tensor, num_context: int) -> Tensor:
        """-log p in nats (B, T - num_context), float32, of the tokens after the first `num_context`, on the CPU."""
        self.work.forwards += len(tokens_BT)
        return self._scorer.score(tokens_BT, num_context)

    @torch.no_grad()
    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Float32 logits (B, T, V) after each token, without a graph."""
        self.work.forwards += len(tokens_BT)
        model: Any = self.loaded.model
        return model(input_ids=tokens_BT, use_cache=False).logits.float()

    @torch.no_grad()
    def follow(self, weights: Mapping[str, Tensor], rate: float) -> None:
        """Moves these weights by a share `rate` of the way to others."""
        for name, p in self.loaded.model.named_parameters():
            p.lerp_(weights[name], rate)
        self.weights_changed()

    def weights_changed(self) -> None:
        """Notifies the engines, which cannot detect it; call this after changing the weights in any other way."""
        self._engine.weights_changed()
        self._scorer.weights_changed()

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, as they are in memory: an update changes them. Of a divided model, whole copies.

        A forward pass in bfloat16 temporarily replaces them by copies: do not call this during one.
        """
        if self._shards is not None:
            return self._shards.weights()
        # named_parameters names a tied tensor once; safetensors refuses shared memory.
        return {name: p.detach().contiguous() for name, p in self.loaded.model.named_parameters()}

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters by name."""
        return {name: p.clone() for name, p in self.weights().items()}


class Learner(Writer):
    """A model that also learns: its weights, and the optimiser's state, change with every update."""

    def __init__(self, loaded: LoadedModel, config: RunConfig) -> None:
        super().__init__(loaded, config)
        self._shards = Shards(loaded.model, config) if ranks.size() > 1 else None
        self._engine_asked_for = config.engine
        self._wants_kernels = self._shards is None and config.device == "cpu" and config.engine in ("auto", "native")
        self._kernels = kernels().library if self._wants_kernels else None
        self._rounded = RoundedModel(loaded.model, self._kernels) if config.numerics.update == "bfloat16" else None
        self._adapters = None if (rank := config.optim.lora_rank) is None else Adapters(loaded.model, rank, config.seed)
        make = partial(make_optimizer, loaded.model, config.optim, self._adapters)
        self._optimizer = make() if self._shards is None else self._shards.optimizer
        self._clip, self._lr_factor = config.optim.clip, 1.0
        self.num_changes = 0  # of the weights, other than by updates
        self.start = self._shards or Start(loaded.model.parameters())
        self._weights_in_use = threading.Lock()

    @property
    def engine_names(self) -> dict[str, str | None]:
        """What writes, evaluates and updates (`engine` may leave the choice open), and why the kernels are off."""
        return {
            "asked_for": self._engine_asked_for,
            "write": self._engine.name,
            "evaluate": self._scorer.name,
            "update": "torch" if self._kernels is None else "native",
            "kernels_off": kernels().why_off if self._wants_kernels else None,
        }

    @property
    def is_rounded(self) -> bool:
        """Whether `nll` computes in bfloat16."""
        return self._rounded is not None

    @property
    def kernels(self) -> Any:
        """The C kernels that update; `None`: torch does."""
        return self._kernels

    def nll(self, batch: Batch) -> TokenLosses:
        """Losses and logits of a batch under the current weights, with their graph."""
        self.work.forwards += len(batch.inputs_BT)
        if self._rounded is None:
            model: Any = self.loaded.model
            logits_BTV = model(input_ids=batch.inputs_BT, use_cache=False).logits
        else:
            logits_BTV = self._rounded.logits(batch.inputs_BT).float()
        return TokenLosses(logits_BTV, batch.targets_BT, batch.inputs_BT)

    def nll_again(self, batch: Batch) -> TokenLosses:
        """The same of a further batch, in float32: its gradient is added to that of `nll`."""
        self.work.forwards += len(batch.inputs_BT)
        model: Any = self.loaded.model
        return TokenLosses(
            model(input_ids=batch.inputs_BT, use_cache=False).logits.float(), batch.targets_BT, batch.inputs_BT
        )

    def update(self, objective: Tensor) -> StepStats:
        """Takes one step down the gradient of `objective`, clipped; waits for whoever reads the weights (`reading`)."""
        with self._weights_in_use:
            if self._shards is not None:
                return self._shards.step(objective, self._clip, self.config.optim.lr * self._lr_factor)
            stats = update(self._optimizer, objective, self._clip, self._rounded, self._kernels, self._adapters)
            self.weights_changed()
        return stats

    def forget(self) -> None:
        """Forgets the optimiser's state."""
        with self._weights_in_use:
            (self._shards or self._optimizer.state).clear()

    @property
    def lr_factor(self) -> float:
        """What the learning rate is multiplied by."""
        return self._lr_factor

    @lr_factor.setter
    def lr_factor(self, factor: float) -> None:
        self._lr_factor = factor
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.optim.lr * factor

    @torch.no_grad()
    def assign(self, weights: Mapping[str, Tensor]) -> None:
        """Puts the weights to these values, in place; the optimiser's state stays."""
        with self._weights_in_use:
            for name, p in self.loaded.model.named_parameters():
                p.copy_(weights[name])
        self.num_changes += 1
        self.weights_changed()

    def copy(self) -> Writer:
        """A model with the weights as they are now, which counts its work as this one's."""
        model = deepcopy(self.loaded.model).requires_grad_(False)
        return Writer(replace(self.loaded, model=model), self.config, self.work)

    @contextmanager
    def reading(self) -> Generator[None]:
        """While this lasts, no update changes the weights."""
        with self._weights_in_use:
            yield

    def _learned(self) -> dict[str, Tensor]:
        """What the optimiser updates, by name: the parameters, or the adapters."""
        return dict(self.loaded.model.named_parameters()) if self._adapters is None else self._adapters.parameters

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state by `parameter|field`, as it is in memory, and the adapters if there are some."""
        if self._shards is not None:
            return self._shards.moments()
        names: dict[Tensor, str] = {p: name for name, p in self._learned().items()}
        adapters = {} if self._adapters is None else {f"{name}|value": p for name, p in self._learned().items()}
        return adapters | {
            f"{names[p]}|{field}": value.contiguous()
            for p, state in self._optimizer.state.items()
            for field, value in state.items()
            if isinstance(value, Tensor)
        }

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Restores weights and optimiser state, in place."""
        if self._shards is not None:
            self._shards.restore(weights, moments)
            return
        parameters = dict(self.loaded.model.named_parameters())
        for name, value in weights.items():
            parameters[name].copy_(value)
        self.weights_changed()
        self._optimizer.state.clear()
        learned = self._learned()
        for key, value in moments.items():
            name, _, field = key.rpartition("|")
            if field == "value":
                learned[name].copy_(value)
                continue
            state: dict[str, Any] = self._optimizer.state[learned[name]]
            # AdamW keeps its step counter on the CPU unless it is fused on a GPU, where load moves it.
            state[field] = value.to(learned[name].device)
