"""Every setting of a run: typed, frozen, validated once. The run id is a hash of them.

The field descriptions are the reference of all settings (`collapselab run --help`, docs/settings.md).
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from collapselab.errors import InputError, nearest
from collapselab.protocols import parse_protocol

# Settings that change how a run is carried out, never one of its numbers: not part of its identity.
NOT_IDENTITY: dict[str, Any] = {"checkpoint_every_s": True, "threads": True, "stop": {"max_seconds"}}


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sampling(Settings):
    """From logits to the distribution the next token is drawn from, in this order."""

    temperature: float = Field(0.8, gt=0, description="divides the logits")
    top_k: int | None = Field(500, ge=1, description="keep the k likeliest tokens")
    top_p: float | None = Field(None, gt=0, le=1, description="keep the smallest set of tokens with this probability")
    min_p: float | None = Field(None, ge=0, le=1, description="drop tokens below this share of the likeliest one's")
    greedy: bool = Field(False, description="always take the likeliest token")


class Generation(Settings):
    """The sequence a model writes at each step."""

    prompt: str = Field("", description='text before the sample; "" is the end-of-text token, "\\n" a newline')
    prompt_tokens: int = Field(
        0, ge=0, description="begin with this many tokens of real text (`train.real_text`) instead"
    )
    max_new_tokens: int = Field(200, ge=1, description="length of a sample, in tokens")
    batch_size: int = Field(1, ge=1, description="sequences a step")
    context: int | None = Field(None, ge=2, description="positions the model sees; none: all it has")
    context_mode: Literal["cache", "crop"] = Field(
        "cache", description="cache: prompt and sample fit the context; crop: the oldest tokens fall out of it"
    )
    at_end_of_text: Literal["continue", "stop"] = Field("continue", description="what the end-of-text token does")


class Training(Settings):
    """What is trained on at each step."""

    source: Literal["own", "real", "other", "shuffled"] = Field(
        "own", description="training text: own output, real text, another model's output, shuffled own output"
    )
    real_text: str | None = Field(None, description="text id or path for `source = real` and `prompt_tokens`")
    other_model: str | None = Field(None, description="the model that writes for `source = other`")
    window: int | None = Field(None, ge=1, description="predict one random block of n tokens; none: the whole sequence")
    prompt_in_loss: bool = Field(False, description="the prompt's tokens are training targets too")
    retokenise: bool = Field(False, description="decode the sample to text and encode it again before training")
    steps_per_sequence: int = Field(1, ge=1, description="updates on each sample")

    @model_validator(mode="after")
    def _texts_are_named(self) -> Self:
        if self.source == "real" and self.real_text is None:
            raise ValueError("train.source 'real' needs train.real_text (for example moby-dick or wikitext-2:train)")
        if (self.source == "other") != (self.other_model is not None):
            raise ValueError("train.source 'other' and train.other_model (for example builtin:mini) go together")
        return self


class Optimizer(Settings):
    """The update; the learning rate is constant."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="optimiser")
    lr: float = Field(2e-5, gt=0, description="learning rate")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's moments")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.1, ge=0, description="on tensors with two or more dimensions")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD's momentum")
    clip: float | None = Field(1.0, gt=0, description="largest gradient norm; none: no clipping")
    reset_each_step: bool = Field(False, description="forget the optimiser's state at every step")

    @field_validator("betas")
    @classmethod
    def _betas_are_shares(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= b < 1 for b in betas):
            raise ValueError("each beta must be at least 0 and below 1")
        return betas


class Evaluation(Settings):
    """Loss on human text."""

    protocol: str = Field("windows[100,100]", description="the windows scored at every step")
    every: int = Field(1, ge=1, description="evaluate every n steps")
    full_protocol: str = Field("disjoint[context]", description="the whole text; `context` is the model's, up to 1024")
    full_every: int = Field(50, ge=0, description="whole text at step 0, every n steps, at onset and the end; 0: never")
    autocast: Literal["none", "bfloat16"] = Field("none", description="bfloat16: evaluate in mixed precision (quicker)")
    redraw: bool = Field(False, description="draw new windows at every step (the authors' way; noisier)")

    @field_validator("protocol", "full_protocol")
    @classmethod
    def _protocol_is_known(cls, name: str) -> str:
        parse_protocol(name.replace("[context]", "[1024]"))
        return name


class Collapse(Settings):
    """When a sample is degenerate, and when a run has collapsed (docs/collapse.md)."""

    source: Literal["stream", "probe"] | None = Field(
        None,
        validate_default=True,
        description="judge the training samples or probes; none: probes unless `train.source` is own",
    )
    probe_every: int = Field(10, ge=1, description="steps between probes")
    probe_samples: int = Field(16, ge=1, description="sequences a probe")
    probe_tokens: int = Field(200, ge=100, description="tokens a probe sequence")
    window: int = Field(8, ge=1, description="steps looked back on")
    patience: int = Field(3, ge=1, description="steps in a row that settle onset and recovery")
    seq_rep_4: float = Field(0.50, gt=0, le=1, description="degenerate from this share of repeated 4-grams on")
    seq_rep_4_short: float = Field(0.70, gt=0, le=1, description="the same for samples under 200 tokens")
    loop_copies: float = Field(3.0, ge=2, description="degenerate from this many copies of a loop on, and")
    loop_share: float = Field(0.25, gt=0, le=1, description="this share of the sample inside it")
    match_entropy_nats: float = Field(0.40, ge=0, description="degenerate up to this match entropy")
    top_token_share: float = Field(0.50, gt=0, le=1, description="degenerate from this share of one token on")
    min_visible_tokens: int = Field(10, ge=0, description="degenerate below this many tokens that are not white space")
    frozen_nll_nats: float = Field(0.10, ge=0, description="a step is frozen up to this loss on its own sample")
    template_share: float = Field(
        0.90, gt=0, le=1, description="a template from this share of 4-grams of one earlier sample on"
    )


class Stop(Settings):
    """What ends a run."""

    on_collapse: bool = Field(True, description="stop at total collapse")
    on_divergence: bool = Field(True, description="stop when the loss is no number or the perplexity has exploded")
    max_steps: int = Field(1000, ge=0, description="updates at most")
    max_seconds: float | None = Field(None, gt=0, description="wall time at most; the run can be resumed")


class RunConfig(Settings):
    """One run of the online loop."""

    model: str = Field("builtin:micro", description="builtin:NAME, smollm2-135m, a hub id, a folder or a GGUF file")
    data: tuple[str, ...] = Field(
        ("austen", "moby-dick"), min_length=1, description="texts to evaluate on, with commas"
    )
    seed: int = Field(0, ge=0, description="of all randomness")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where the model runs")
    autocast: Literal["none", "bfloat16"] = Field("none", description="bfloat16: write and train in mixed precision")
    threads: int | None = Field(None, ge=1, description="CPU threads; none: torch's choice")
    checkpoint_every_s: float = Field(120.0, ge=0, description="seconds between checkpoints; 0: after every step")
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
        return tuple(part.strip() for part in data.split(",") if part.strip()) if isinstance(data, str) else data

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

    def canonical_json(self) -> str:
        """The settings that make the numbers, in one fixed form."""
        return json.dumps(self.model_dump(mode="json", exclude=NOT_IDENTITY), sort_keys=True)

    @property
    def run_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of `canonical_json`."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:12]


def settings(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its dotted name, in order."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from settings(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def override(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """A configuration with some settings changed, by dotted name; text values are converted.

    Raises:
        InputError: an unknown name (with the nearest known one) or a value that breaks a rule.
    """
    known = dict(settings())
    values = config.model_dump()
    if any(name.startswith("train.") for name in changes) and "collapse.source" not in changes:
        values["collapse"]["source"] = None  # resolved anew from the new training source
    for name, value in changes.items():
        name = name.replace("-", "_")
        if name not in known:
            raise InputError(f"unknown setting {name!r}", nearest(name, known))
        section, _, key = name.rpartition(".")
        target = values[section] if section else values
        target[key] = _from_text(value, known[name]) if isinstance(value, str) else value
    return validate(values)


def validate(values: Mapping[str, object]) -> RunConfig:
    """The configuration of nested values; a broken rule becomes an `InputError` that names setting, rule and value."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(*_explain(error)) from None


def load_toml(path: Path) -> dict[str, object]:
    """The settings of a TOML file by dotted name, and `preset` if it names one.

    Raises:
        InputError: no such file, or not TOML.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"cannot read the settings file {path}: {error}", "give a TOML file, or a preset's name"
        ) from None
    return dict(_flatten(tree))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(cast(dict[str, Any], value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _from_text(value: str, field: FieldInfo) -> object:
    optional = type(None) in get_args(field.annotation)
    if optional and value.lower() in ("none", "null"):
        return None
    is_tuple = get_origin(field.annotation) is tuple
    return tuple(part.strip() for part in value.split(",") if part.strip()) if is_tuple else value


def _explain(error: ValidationError) -> tuple[str, str]:
    known = dict(settings())
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name!r}", nearest(name, known)
    rule = first["msg"].removeprefix("Value error, ")
    message, _, hint = rule.partition("\nhint: ")
    field = known.get(name)
    described = (
        f"{name}: {field.description}" if field and field.description else "collapselab run --help lists every setting"
    )
    return (f"{name}: {message}, received {first['input']!r}" if name else message), hint or described
