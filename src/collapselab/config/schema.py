"""Every setting of a run: typed, frozen, validated once. The run id is a hash of them.

The field descriptions are the reference of all settings (`collapselab run --help`, docs/settings.md); `overrides` reads
them from text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collapselab.config.protocols import parse_protocol

# Settings that change how a run is carried out, never one of its numbers: not part of its identity.
# (Engine and threads may change the last bits of a sum, as another machine does.)
NOT_IDENTITY = ("checkpoint_every_s", "keep_checkpoints", "engine", "threads", "stop.max_seconds")


# Settings that came later: where they are not set, a run keeps the id that it had before there were any.
LATER = ("generate.begin_token",)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sampling(Settings):
    """From logits to the distribution the next token is drawn from, in this order."""

    temperature: float = Field(default=0.8, gt=0, description="divides the logits")
    top_k: int | None = Field(default=500, ge=1, description="keep the k likeliest tokens")
    top_p: float | None = Field(default=None, gt=0, le=1, description="keep the smallest set of this probability")
    min_p: float | None = Field(default=None, ge=0, le=1, description="drop tokens below this share of the best")
    greedy: bool = Field(default=False, description="always take the likeliest token")


class Generation(Settings):
    """The sequence a model writes at each step."""

    prompt: str = Field(default="", description='text before the sample; "" is the begin token, "\\n" a newline')
    begin_token: str | None = Field(
        default=None,
        min_length=1,
        description="before prompts and `+eot` windows; none: the model's own (`<s>`), else the end-of-text token",
    )
    prompt_tokens: int = Field(
        default=0, ge=0, description="begin with this many tokens of real text (`train.real_text`) instead"
    )
    max_new_tokens: int = Field(default=200, ge=1, description="length of a sample, in tokens")
    batch_size: int = Field(default=1, ge=1, description="sequences a step")
    context: int | None = Field(default=None, ge=2, description="positions the model sees; none: all it has")
    context_mode: Literal["cache", "crop"] = Field(
        default="cache", description="cache: prompt and sample fit the context; crop: the oldest tokens fall out of it"
    )
    at_end_of_text: Literal["continue", "stop"] = Field(default="continue", description="at that token")


class Training(Settings):
    """What is trained on at each step."""

    source: Literal["own", "real", "other", "shuffled"] = Field(
        default="own", description="training text: own output, real text, another model's output, shuffled own output"
    )
    real_text: str | None = Field(default=None, description="text id or path for `source = real` and `prompt_tokens`")
    other_model: str | None = Field(default=None, description="the model that writes for `source = other`")
    window: int | None = Field(default=None, ge=1, description="predict a random block of n; none: all tokens")
    prompt_in_loss: bool = Field(default=False, description="the prompt's tokens are training targets too")
    retokenise: bool = Field(default=False, description="decode the sample to text and encode it again before training")
    steps_per_sequence: int = Field(default=1, ge=1, description="updates on each sample")

    @model_validator(mode="after")
    def _texts_are_named(self) -> Self:
        if self.source == "real" and self.real_text is None:
            raise ValueError("train.source 'real' needs train.real_text (for example moby-dick or wikitext-2:train)")
        if (self.source == "other") != (self.other_model is not None):
            raise ValueError("train.source 'other' and train.other_model (for example builtin:mini) go together")
        return self


class Optimizer(Settings):
    """The update; the learning rate is constant."""

    name: Literal["adamw", "sgd"] = Field(default="adamw", description="optimiser")
    lr: float = Field(default=2e-5, gt=0, description="learning rate")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW's moments")
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(default=0.1, ge=0, description="on tensors with two or more dimensions")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="SGD's momentum")
    clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm; none: no clipping")
    reset_each_step: bool = Field(default=False, description="forget the optimiser's state at every step")

    @field_validator("betas")
    @classmethod
    def _betas_are_shares(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= b < 1 for b in betas):
            raise ValueError("each beta must be at least 0 and below 1")
        return betas


class Evaluation(Settings):
    """Loss on human text."""

    protocol: str = Field(default="windows[100,100]", description="the windows scored at every step")
    every: int = Field(default=1, ge=1, description="evaluate every n steps, and at the last one")
    full_protocol: str = Field(default="disjoint[context]", description="the whole text; context: up to 1024")
    full_every: int = Field(default=50, ge=0, description="whole text every n steps, at onset known and end; 0: never")
    redraw: bool = Field(default=False, description="draw new windows at every step (the authors' way; noisier)")

    @field_validator("protocol", "full_protocol")
    @classmethod
    def _protocol_is_known(cls, name: str) -> str:
        parse_protocol(name.replace("[context]", "[1024]"))
        return name


class Numerics(Settings):
    """Precision of each part of a step; `--numerics exact` and `--numerics fast` set all three to one of the two."""

    write: Literal["float32", "bfloat16"] = Field(default="float32", description="of the weights while writing")
    update: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the matrix products in training; weights and optimiser stay float32"
    )
    evaluate: Literal["float32", "bfloat16"] = Field(
        default="bfloat16", description="of the weights while evaluating, where the engine is not plain"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        if not isinstance(values, str):
            return values
        if values not in ("exact", "fast"):
            raise ValueError("numerics is exact or fast, or set part by part (numerics.evaluate, …)")
        precision = "float32" if values == "exact" else "bfloat16"
        return {"write": precision, "update": precision, "evaluate": precision}


class Collapse(Settings):
    """When a sample is degenerate, and when a run has collapsed (docs/collapse.md)."""

    source: Literal["stream", "probe"] | None = Field(
        default=None,
        validate_default=True,
        description="judge the training samples or probes; none: probes unless `train.source` is own",
    )
    probe_every: int = Field(default=10, ge=1, description="steps between probes")
    probe_samples: int = Field(default=16, ge=1, description="sequences a probe")
    probe_tokens: int = Field(default=200, ge=100, description="tokens a probe sequence")
    window: int = Field(default=8, ge=1, description="steps looked back on")
    patience: int = Field(default=3, ge=1, description="steps in a row that settle onset and recovery")
    seq_rep_4: float = Field(default=0.80, gt=0, le=1, description="degenerate from this share of repeated 4-grams on")
    seq_rep_4_per_doubling: float = Field(
        default=0.05, ge=0, description="the bound's rise with each doubling of the length beyond 200 tokens"
    )
    seq_rep_4_short: float = Field(default=0.70, gt=0, le=1, description="the same for samples under 200 tokens")
    loop_copies: float = Field(default=3.0, ge=2, description="degenerate from this many copies of a loop on, and")
    loop_share: float = Field(default=0.25, gt=0, le=1, description="this share of the sample inside it")
    match_entropy_nats: float = Field(default=0.30, ge=0, description="degenerate up to this match entropy")
    top_token_share: float = Field(default=0.50, gt=0, le=1, description="degenerate from this share of one token on")
    min_visible_tokens: int = Field(default=10, ge=0, description="degenerate below this many visible tokens")
    frozen_nll_nats: float = Field(default=0.10, ge=0, description="a step is frozen up to this loss on its own sample")
    melted_share: float = Field(
        default=0.85, gt=0, description="melted from this share of ln V on: own loss, or entropy while writing"
    )
    melted_rise_nats: float = Field(
        default=2.0, gt=0, description="or from this rise above step 0's losses on own and human text"
    )
    start_samples: int = Field(
        default=8, ge=0, description="samples of the untouched model to compare with, drawn before step 0"
    )
    entropy_drop_nats: float = Field(
        default=1.25, gt=0, description="low diversity: the pooled tokens' entropy is this far below the start's"
    )
    distinct_4_share: float = Field(
        default=0.60, ge=0, le=1, description="low diversity: this share of the start's distinct 4-grams, pooled"
    )
    template_share: float = Field(
        default=0.90, gt=0, le=1, description="a template from this share of 4-grams of one earlier sample on"
    )


class Stop(Settings):
    """What ends a run."""

    on_collapse: bool = Field(default=True, description="stop at total collapse")
    on_divergence: bool = Field(default=True, description="stop once a loss or norm is not finite")
    max_steps: int = Field(default=1000, ge=0, description="updates at most")
    max_seconds: float | None = Field(default=None, gt=0, description="wall time at most; the run can be resumed")


def split_at_commas(text: str) -> tuple[str, ...]:
    """The parts of a text between commas, without blanks around them; `\\,` is a comma within a part."""
    parts = (part.replace("\\,", ",").strip() for part in re.split(r"(?<!\\),", text))
    return tuple(part for part in parts if part)


def join_with_commas(parts: Iterable[str]) -> str:
    """The text that `split_at_commas` takes apart again."""
    return ",".join(part.replace(",", "\\,") for part in parts)


class RunConfig(Settings):
    """One run of the online loop."""

    model: str = Field(default="builtin:micro", description="name, hub id, folder or GGUF file")
    data: tuple[str, ...] = Field(
        default=("austen", "moby-dick"),
        min_length=1,
        description="texts to evaluate on, with commas (`\\,` is a comma in a path)",
    )
    seed: int = Field(default=0, ge=0, description="of all randomness")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where the model runs")
    engine: Literal["auto", "native", "static", "plain"] = Field(
        default="auto", description="plain: transformers as it is; native and static: the same numbers, sooner"
    )
    threads: int | None = Field(default=None, ge=1, le=4096, description="CPU threads; none: torch's choice")
    checkpoint_every_s: float = Field(default=120.0, ge=0, description="between checkpoints; 0: after every step")
    keep_checkpoints: bool = Field(
        default=True, description="keep the last two of a finished run: six times the size of its weights"
    )
    numerics: Numerics = Numerics()
    sampling: Sampling = Sampling()
    generate: Generation = Generation()
    train: Training = Training()
    optim: Optimizer = Optimizer()
    eval: Evaluation = Evaluation()
    collapse: Collapse = Collapse()
    stop: Stop = Stop()

    @field_validator("data", mode="before")
    @classmethod
    def _split_at_commas(cls, data: object) -> object:
        return split_at_commas(data) if isinstance(data, str) else data

    @field_validator("data")
    @classmethod
    def _texts_differ(cls, data: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(data)) < len(data):
            raise ValueError("each text may be named once")
        return data

    @model_validator(mode="before")
    @classmethod
    def _resolve_collapse_source(cls, values: Any) -> Any:
        # The resolved configuration names the source, so that config.json shows what was judged.
        if not isinstance(values, dict):
            return values
        given = cast(dict[str, Any], values)
        collapse = given.get("collapse", {})
        collapse = collapse.model_dump() if isinstance(collapse, BaseModel) else dict(collapse)
        train = given.get("train", {})
        source = train.source if isinstance(train, Training) else train.get("source", "own")
        collapse["source"] = collapse.get("source") or ("stream" if source == "own" else "probe")
        return {**given, "collapse": collapse}

    @model_validator(mode="after")
    def _real_prompts_have_a_text(self) -> Self:
        if self.generate.prompt_tokens and self.train.real_text is None:
            raise ValueError("generate.prompt_tokens needs train.real_text (for example moby-dick or wikitext-2:train)")
        if self.generate.prompt_tokens and self.generate.prompt:
            raise ValueError("generate.prompt and generate.prompt_tokens exclude each other")
        return self

    @property
    def run_id(self) -> str:
        """The `identity` of these settings."""
        return identity(self.model_dump(mode="json"))


def identity(settings: Mapping[str, Any]) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the settings that make the numbers, in one fixed form."""
    return hashlib.sha256(json.dumps(_numerical(settings), sort_keys=True).encode()).hexdigest()[:12]


def _numerical(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        name: _numerical(cast(Mapping[str, Any], value), f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if prefix + name not in NOT_IDENTITY and (prefix + name not in LATER or value is not None)
    }
