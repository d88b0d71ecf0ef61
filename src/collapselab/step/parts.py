"""From a configuration to what the loop needs: model, optimiser, tokenised texts, everything checked before step 0."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from collapselab.config.protocols import Protocol, parse_protocol
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, doing
from collapselab.inputs.encoded_text import EncodedText, encode_text
from collapselab.inputs.model_objects import take_model
from collapselab.inputs.models import LoadedModel, load_model
from collapselab.inputs.texts import load_text
from collapselab.inputs.tokenizers import Tokenizer
from collapselab.randomness import rng
from collapselab.step.baseline import Baseline, make_baseline
from collapselab.step.evaluate import Loss, OnTokens, Plan, evaluate_texts, plan
from collapselab.step.learner import Learner, Writer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Parts:
    """Everything the experiment needs; the weights of `learner` change during the loop.

    `writer` is the other model of `train.source = other`. `encoded` and the plans are by text, as `config.data` names
    it; `real_ids` is the real training text and `reference_ids` the text of `metrics.reference`, empty where none is
    named; all are ids of `tokenizer`. `context` is the number of positions seen while writing. `baseline` is what is
    kept of the weights as they are now.

    Raises:
        InputError: a part that was exchanged (`dataclasses.replace`) does not fit the others.
    """

    config: RunConfig
    tokenizer: Tokenizer
    learner: Learner
    writer: Writer | None
    encoded: dict[str, EncodedText]
    text_sha256: dict[str, str]
    plans: dict[str, Plan]
    full_plans: dict[str, Plan]
    real_ids: list[int]
    context: int
    reference_ids: list[int] = field(default_factory=list[int])
    baseline: Baseline = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_fit()
        _check_lengths(self)
        text_ids = self.encoded[self.config.data[0]].ids
        object.__setattr__(self, "baseline", make_baseline(self.learner, text_ids, self.reference_ids))

    def __repr__(self) -> str:
        return f"Parts({self.learner!r}, texts {', '.join(self.encoded)}, run id {self.config.run_id})"

    def _check_fit(self) -> None:
        hint = "`build` makes parts that fit together"
        for model in filter(None, (self.learner, self.writer)):
            if model.config != self.config:
                raise InputError(f"{model!r} was made for another configuration than these parts", hint)
        if self.learner.name != self.config.model:
            raise InputError(
                f"the configuration names the model {self.config.model!r}, received {self.learner!r}", hint
            )
        if not self.learner.tokenizer.same_as(self.tokenizer):
            raise InputError(f"the texts have token ids of another tokenizer than that of {self.learner!r}", hint)
        for plans in (self.plans, self.full_plans):
            for of_text in plans.values():
                fitting_protocol(of_text.protocol.name, self.learner.loaded)

    @property
    def protocols(self) -> dict[str, str]:
        """The evaluation protocols, as resolved: for every step (`val`) and for the whole text (`full`)."""
        plans = {"val": self.plans, "full": self.full_plans}
        return {name: next(iter(of_text.values())).protocol.name for name, of_text in plans.items() if of_text}

    def losses(self, step: int, on_tokens: OnTokens | None = None) -> dict[str, Loss]:
        """Loss on each text by the protocol of every step; `on_tokens` sees the loss of each token."""
        if not self.config.eval.redraw:
            return self._evaluate(self.plans, on_tokens)
        protocol = parse_protocol(resolve_protocol(self.config.eval.protocol, self.learner.loaded))
        generator = rng(self.config.seed, "evaluation", step + 1)
        plans = {name: plan(protocol, text, generator) for name, text in self.encoded.items()}
        return self._evaluate(plans, on_tokens)

    def full_losses(self) -> dict[str, Loss]:
        """Loss on the whole of each text."""
        return self._evaluate(self.full_plans)

    def _evaluate(self, plans: dict[str, Plan], on_tokens: OnTokens | None = None) -> dict[str, Loss]:
        return evaluate_texts(self.learner, plans, self.learner.tokenizer.start_id, on_tokens)


def build(
    config: RunConfig,
    data_dir: Path | None = None,
    *,
    model: PreTrainedModel | LoadedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Parts:
    """Loads and checks everything a run needs.

    Args:
        config: the run.
        data_dir: the folder of texts, also for downloads.
        model: an object to train in place of `config.model`; it is copied, and the parts' configuration names it.
        tokenizer: of that object.

    Raises:
        InputError: a model, text or combination of settings that cannot work.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    settings = config.generate
    # Texts first: a wrong name is then reported before a large model is read.
    real, other, reference = config.train.real_text, config.train.other_model, config.metrics.reference
    with doing(f"reading the texts {', '.join(filter(None, (*config.data, real, reference)))}"):
        texts = {name: load_text(name, data_dir) for name in config.data}
        others = {name: load_text(name, data_dir) for name in (real, reference) if name is not None}
    load = partial(load_model, device=config.device, context=settings.context, begin_token=settings.begin_token)
    with doing(f"reading the model {config.model}"):
        loaded = load(config.model) if model is None else model
        if not isinstance(loaded, LoadedModel):
            loaded = take(loaded, tokenizer, config)
    config = config.model_copy(update={"model": loaded.name})
    with doing(f"tokenising the texts {', '.join(texts)}"):
        encoded = {name: encode_text(loaded.tokenizer, text.text) for name, text in texts.items()}
    with doing(f"reading the model {other}"):
        writer = None if other is None else Writer(load(other), config)
    return Parts(
        config=config,
        tokenizer=loaded.tokenizer,
        learner=Learner(loaded, config),
        writer=writer,
        encoded=encoded,
        text_sha256={name: text.sha256 for name, text in (texts | others).items()},
        plans=_plans(config.eval.protocol, encoded, loaded),
        full_plans=_plans(config.eval.full_protocol, encoded, loaded) if config.eval.full_every else {},
        real_ids=[] if real is None else loaded.tokenizer.encode(others[real].text),
        context=settings.context or min(m.context_length for m in (loaded, writer) if m is not None),
        reference_ids=[] if reference is None else loaded.tokenizer.encode(others[reference].text),
    )


def take(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, config: RunConfig) -> LoadedModel:
    """A model object as this run's settings want it (`inputs.model_objects.take_model`).

    Raises:
        InputError: it is no model of that kind.
    """
    settings = config.generate
    return take_model(
        model, tokenizer, device=config.device, context=settings.context, begin_token=settings.begin_token
    )


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


def _check_lengths(parts: Parts) -> None:
    """Refuses settings in which a sample, a prompt or a training sequence does not fit."""
    config, settings = parts.config, parts.config.generate
    models = [model for model in (parts.learner, parts.writer) if model is not None]
    if settings.prompt_tokens and not all(m.tokenizer.same_as(parts.learner.tokenizer) for m in models):
        raise InputError(
            "generate.prompt_tokens needs one tokenizer, but train.other_model has a different one from the model",
            "use generate.prompt",
        )
    if settings.prompt_tokens:
        for model in models:
            model.tokenizer.check_ids(parts.real_ids)
    positions = min(model.context_length for model in models)
    if parts.context > positions:
        raise InputError(
            f"generate.context must be at most the {positions} positions of the model, received {parts.context}",
            "leave it out to use all of them",
        )
    num_prompt = settings.prompt_tokens or max(len(m.tokenizer.prompt(settings.prompt)) for m in models)
    total = num_prompt + settings.max_new_tokens
    if config.collapse.source == "probe" and settings.context_mode == "cache":
        _check_probe(parts, num_prompt)
    if settings.context_mode == "cache" and total > parts.context:
        raise InputError(
            f"in cache mode prompt and sample must fit the context of {parts.context} tokens, "
            f"received {num_prompt} for the prompt and generate.max_new_tokens {settings.max_new_tokens}",
            f"use at most {parts.context - num_prompt} new tokens, or `context_mode='crop'`",
        )
    inputs = min(total - 1, config.train.window or total)
    if inputs > parts.learner.context_length:
        raise InputError(
            f"training on {inputs} tokens does not fit the {parts.learner.context_length} positions of the model",
            'train on a block of the sample: `**{"train.window": n}`',
        )
    if config.train.real_text is not None and len(parts.real_ids) < total:
        raise InputError(
            f"train.real_text {config.train.real_text!r} has {len(parts.real_ids)} tokens, a step needs {total}",
            "use a longer text or shorter samples",
        )


def _check_probe(parts: Parts, num_prompt: int) -> None:
    tokens = parts.config.collapse.probe_tokens
    if num_prompt + tokens > parts.context:
        raise InputError(
            f"in cache mode prompt and probe must fit the context of {parts.context} tokens, "
            f"received {num_prompt} for the prompt and collapse.probe_tokens {tokens}",
            "use shorter probes, or `context_mode='crop'`",
        )
