"""From a configuration to what the loop needs: model, optimiser, tokenised texts, everything checked before step 0."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from collapselab.config.protocols import Protocol, parse_protocol
from collapselab.config.schema import RunConfig
from collapselab.engine.choose import make_engines
from collapselab.engine.interface import Engine, Scorer
from collapselab.engine.library import kernels
from collapselab.engine.rounded import RoundedModel
from collapselab.errors import InputError, doing
from collapselab.inputs.encoded_text import EncodedText, encode_text
from collapselab.inputs.models import LoadedModel, load_model
from collapselab.inputs.texts import load_text
from collapselab.randomness import rng
from collapselab.step.batches import make_optimizer
from collapselab.step.evaluate import Loss, Plan, evaluate_texts, plan


@dataclass(frozen=True)
class Setup:
    """The parts of one run; the weights of `learner` and the state of `optimizer` change as the loop goes on.

    `writer` is the other model of `train.source = other`. `encoded` and the plans are by text, as `config.data` names
    it; `real_ids` is the real training text, empty where none is named. `context` is the number of positions seen
    while writing. `engine` writes and `scorer` evaluates with the learner, `writer_engine` writes with the writer;
    `trained` is the learner as the update sees it. The update uses the `kernels` in C if there are any, and waits for
    `weights_in_use`, which a checkpoint holds.
    """

    config: RunConfig
    learner: LoadedModel
    writer: LoadedModel | None
    engine: Engine
    scorer: Scorer
    writer_engine: Engine | None
    trained: PreTrainedModel | RoundedModel
    kernels: Any
    optimizer: torch.optim.Optimizer
    weights_in_use: threading.Lock
    encoded: dict[str, EncodedText]
    text_sha256: dict[str, str]
    plans: dict[str, Plan]
    full_plans: dict[str, Plan]
    real_ids: list[int]
    context: int

    @property
    def text_ids(self) -> dict[str, list[int]]:
        """The token ids of each text."""
        return {name: text.ids for name, text in self.encoded.items()}

    @property
    def protocols(self) -> dict[str, str]:
        """The evaluation protocols, as resolved: of every step (`val`) and of the whole text (`full`)."""
        plans = {"val": self.plans, "full": self.full_plans}
        return {name: next(iter(of_text.values())).protocol.name for name, of_text in plans.items() if of_text}

    @property
    def engine_names(self) -> dict[str, str | None]:
        """What writes, evaluates and updates here (`engine` may leave the choice open), and why the kernels are off."""
        return {
            "asked_for": self.config.engine,
            "write": self.engine.name,
            "evaluate": self.scorer.name,
            "update": "torch" if self.kernels is None else "native",
            "kernels_off": kernels().why_off if _wants_kernels(self.config) else None,
        }

    def weights_changed(self) -> None:
        """To be called after every change of the learner's weights, which the engines cannot see by themselves."""
        self.engine.weights_changed()
        self.scorer.weights_changed()

    def losses(self, step: int) -> dict[str, Loss]:
        """Loss on each text by the protocol of every step."""
        if not self.config.eval.redraw:
            return self._evaluate(self.plans)
        protocol = parse_protocol(resolve_protocol(self.config.eval.protocol, self.learner))
        generator = rng(self.config.seed, "evaluation", step + 1)
        return self._evaluate({name: plan(protocol, text, generator) for name, text in self.encoded.items()})

    def full_losses(self) -> dict[str, Loss]:
        """Loss on the whole of each text."""
        return self._evaluate(self.full_plans)

    def _evaluate(self, plans: dict[str, Plan]) -> dict[str, Loss]:
        return evaluate_texts(self.scorer, plans, self.learner.tokenizer.start_id)


def build(config: RunConfig, data_dir: Path | None = None) -> Setup:
    """Loads and checks everything a run needs.

    Raises:
        InputError: a model, text or combination of settings that cannot work.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    settings = config.generate
    # Texts first: a wrong name is then told before a large model is read.
    real, other = config.train.real_text, config.train.other_model
    with doing(f"reading the texts {', '.join(filter(None, (*config.data, real)))}"):
        texts = {name: load_text(name, data_dir) for name in config.data}
        real_texts = {name: load_text(name, data_dir) for name in (real,) if name is not None}
    load = partial(load_model, device=config.device, context=settings.context, begin_token=settings.begin_token)
    with doing(f"reading the model {config.model}"):
        learner = load(config.model)
    with doing(f"tokenising the texts {', '.join(texts)}"):
        encoded = {name: encode_text(learner.tokenizer, text.text) for name, text in texts.items()}
    with doing(f"reading the model {other}"):
        writer = None if other is None else load(other)
    engine, scorer = _engines(learner, config)
    library = kernels().library if _wants_kernels(config) else None
    setup = Setup(
        config=config,
        learner=learner,
        writer=writer,
        engine=engine,
        scorer=scorer,
        writer_engine=None if writer is None else _engines(writer, config)[0],
        trained=RoundedModel(learner.model, library) if config.numerics.update == "bfloat16" else learner.model,
        kernels=library,
        optimizer=make_optimizer(learner.model, config.optim),
        weights_in_use=threading.Lock(),
        encoded=encoded,
        text_sha256={name: text.sha256 for name, text in (texts | real_texts).items()},
        plans=_plans(config.eval.protocol, encoded, learner),
        full_plans=_plans(config.eval.full_protocol, encoded, learner) if config.eval.full_every else {},
        real_ids=[token for text in real_texts.values() for token in learner.tokenizer.encode(text.text)],
        context=settings.context or min(m.context_length for m in (learner, writer) if m is not None),
    )
    _check_lengths(setup)
    return setup


def _wants_kernels(config: RunConfig) -> bool:
    return config.device == "cpu" and config.engine in ("auto", "native")


def _engines(model: LoadedModel, config: RunConfig) -> tuple[Engine, Scorer]:
    numerics = config.numerics
    return make_engines(model.model, config.engine, write=numerics.write, score=numerics.evaluate)


def resolve_protocol(name: str, model: LoadedModel) -> str:
    """A protocol's name with `context` replaced by the model's context, at most 1024."""
    return name.replace("[context]", f"[{min(model.context_length, 1024)}]")


def fitting_protocol(name: str, model: LoadedModel) -> Protocol:
    """The protocol of a name.

    Raises:
        InputError: its windows do not fit the model's context.
    """
    protocol = parse_protocol(resolve_protocol(name, model))
    positions = protocol.n + protocol.end_of_text_prefix
    if positions > model.context_length:
        raise InputError(
            f"protocol {protocol.name} needs {positions} positions, {model.name} has {model.context_length}",
            "use a smaller window",
        )
    return protocol


def _plans(protocol_name: str, encoded: dict[str, EncodedText], model: LoadedModel) -> dict[str, Plan]:
    protocol = fitting_protocol(protocol_name, model)
    # The windows depend on text and protocol alone, so that runs with different seeds are compared on equal windows.
    return {name: plan(protocol, text, rng(0, "evaluation", 0)) for name, text in encoded.items()}


def _check_lengths(setup: Setup) -> None:
    """Refuses settings in which a sample, a prompt or a training sequence does not fit."""
    config, settings = setup.config, setup.config.generate
    models = [model for model in (setup.learner, setup.writer) if model is not None]
    if settings.prompt_tokens and not all(m.tokenizer.same_as(setup.learner.tokenizer) for m in models):
        raise InputError(
            "generate.prompt_tokens needs one tokenizer, and train.other_model has another than the model",
            "use generate.prompt",
        )
    if settings.prompt_tokens:
        for model in models:
            model.tokenizer.check_ids(setup.real_ids)
    positions = min(model.context_length for model in models)
    if setup.context > positions:
        raise InputError(
            f"generate.context must be at most the {positions} positions of the model, received {setup.context}",
            "leave it out to use all of them",
        )
    num_prompt = settings.prompt_tokens or max(len(m.tokenizer.prompt(settings.prompt)) for m in models)
    total = num_prompt + settings.max_new_tokens
    if config.collapse.source == "probe" and settings.context_mode == "cache":
        _check_probe(setup, num_prompt)
    if settings.context_mode == "cache" and total > setup.context:
        raise InputError(
            f"in cache mode prompt and sample must fit the context of {setup.context} tokens, "
            f"received {num_prompt} for the prompt and generate.max_new_tokens {settings.max_new_tokens}",
            f"use at most {setup.context - num_prompt} new tokens, or --generate.context_mode crop",
        )
    inputs = min(total - 1, config.train.window or total)
    if inputs > setup.learner.context_length:
        raise InputError(
            f"training on {inputs} tokens does not fit the {setup.learner.context_length} positions of the model",
            "train on a block of the sample: --train.window n",
        )
    if config.train.real_text is not None and len(setup.real_ids) < total:
        raise InputError(
            f"train.real_text {config.train.real_text!r} has {len(setup.real_ids)} tokens, a step needs {total}",
            "use a longer text or shorter samples",
        )


def _check_probe(setup: Setup, num_prompt: int) -> None:
    tokens = setup.config.collapse.probe_tokens
    if num_prompt + tokens > setup.context:
        raise InputError(
            f"in cache mode prompt and probe must fit the context of {setup.context} tokens, "
            f"received {num_prompt} for the prompt and collapse.probe_tokens {tokens}",
            "use shorter probes, or --generate.context_mode crop",
        )
