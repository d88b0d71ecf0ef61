"""Every setting of a run: typed, frozen, validated once. The run id is a hash of them.

The field descriptions are the reference of all settings (`collapselab run --help`, docs/settings.md); `overrides` reads
them from text.
"""

from __future__ import annotations

from typing import Any, Literal, Self, cast

from pydantic import BaseModel, Field, field_validator, model_validator

from collapselab.config.base import Settings, split_at_commas
from collapselab.config.identity import identity
from collapselab.config.metrics import Metrics
from collapselab.config.protocols import parse_protocol
from collapselab.config.safeguards import AnySafeguard, checked
from collapselab.config.sampling import Sampling
from collapselab.records import flatten
from collapselab.visible import html_table

TrainingSource = Literal["own", "real", "other", "shuffled"]
JudgedText = Literal["stream", "probe"]


class Loop(Settings):
    """Which experiment a run is."""

    kind: Literal["online"] = Field(default="online", description="online: an update on each text the model writes")


class Generation(Settings):
    """The sequence a model writes at each step."""

    prompt: str = Field(default="", description='text before the sample; "" is the begin token, "\\n" a newline')
    begin_token: str | None = Field(
        default=None,
        min_length=1,
        description="token before prompts and `+eot` windows; none: the model's own (`<s>`), else end of text",
    )
    prompt_tokens: int = Field(
        default=0, ge=0, description="begin with this many tokens of real text (`train.real_text`), not with `prompt`"
    )
    max_new_tokens: int = Field(default=200, ge=1, description="length of a sample, in tokens")
    batch_size: int = Field(default=1, ge=1, description="sequences per step")
    context: int | None = Field(default=None, ge=2, description="positions the model sees; none: all it has")
    context_mode: Literal["cache", "crop"] = Field(
        default="cache", description="cache: prompt and sample must fit the context; crop: drop the oldest tokens"
    )
    at_end_of_text: Literal["continue", "stop"] = Field(
        default="continue", description="what to do after an end-of-text token"
    )


class Training(Settings):
    """What is trained on at each step."""

    source: TrainingSource = Field(
        default="own", description="training text: own output, real text, another model's output, shuffled own output"
    )
    real_text: str | None = Field(default=None, description="text id or path for `source = real` and `prompt_tokens`")
    other_model: str | None = Field(default=None, description="the model that writes for `source = other`")
    window: int | None = Field(default=None, ge=1, description="train on a random block of n tokens; none: all")
    prompt_in_loss: bool = Field(default=False, description="also train on the prompt's tokens")
    retokenise: bool = Field(
        default=False, description="decode the sample and encode it again, special tokens as text, before training"
    )
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
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="decay rates of AdamW's moments")
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(default=0.1, ge=0, description="of tensors with two or more dimensions")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="SGD's momentum")
    clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm; none: no clipping")
    lora_rank: int | None = Field(
        default=None, ge=1, description="learn adapters of this rank alone (LoRA); none: all weights"
    )
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
    every: int = Field(default=1, ge=1, description="evaluate every n steps, and at the last step")
    full_protocol: str = Field(default="disjoint[context]", description="for the whole text; context: up to 1024")
    full_every: int = Field(
        default=50,
        ge=0,
        description="score the whole text every n steps, once onset is known, and at the end; 0: never",
    )
    redraw: bool = Field(default=False, description="draw new windows at every step (as the authors do; noisier)")

    @field_validator("protocol", "full_protocol")
    @classmethod
    def _protocol_is_known(cls, name: str) -> str:
        parse_protocol(name.replace("[context]", "[1024]"))
        return name


class Numerics(Settings):
    """Precision of each part of a step: `--numerics exact` sets all three to float32, `--numerics fast` to bfloat16."""

    write: Literal["float32", "bfloat16"] = Field(default="float32", description="of the weights while writing")
    update: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the matrix products in training; weights and optimiser stay float32"
    )
    evaluate: Literal["float32", "bfloat16"] = Field(
        default="bfloat16", description="of the weights while evaluating, unless the engine is plain"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: object) -> object:
        if not isinstance(values, str):
            return values
        if values not in ("exact", "fast"):
            raise ValueError("numerics is exact or fast; set single parts with numerics.evaluate, …")
        precision = "float32" if values == "exact" else "bfloat16"
        return {"write": precision, "update": precision, "evaluate": precision}


class Collapse(Settings):
    """When a sample is degenerate, and when a run has collapsed (docs/collapse.md)."""

    source: JudgedText | None = Field(
        default=None,
        validate_default=True,
        description="judge training samples (stream) or probes; none: probes unless `train.source` is own",
    )
    probe_every: int = Field(default=10, ge=1, description="steps between probes")
    probe_samples: int = Field(default=16, ge=1, description="sequences per probe")
    probe_tokens: int = Field(default=200, ge=100, description="tokens per probe sequence")
    window: int = Field(default=8, ge=1, description="number of past steps judged together")
    patience: int = Field(default=3, ge=1, description="steps in a row that confirm onset and recovery")
    seq_rep_4: float = Field(default=0.80, gt=0, le=1, description="minimum share of repeated 4-grams if degenerate")
    seq_rep_4_per_doubling: float = Field(
        default=0.05, ge=0, description="the rise of that share with each doubling of the length beyond 200 tokens"
    )
    seq_rep_4_short: float = Field(default=0.70, gt=0, le=1, description="the same for samples under 200 tokens")
    loop_copies: float = Field(
        default=3.0, ge=2, description="minimum number of loop repetitions (together with `loop_share`)"
    )
    loop_share: float = Field(default=0.25, gt=0, le=1, description="minimum share of the sample inside the loop")
    match_entropy_nats: float = Field(default=0.30, ge=0, description="maximum match entropy of a degenerate sample")
    top_token_share: float = Field(default=0.50, gt=0, le=1, description="minimum share of one token if degenerate")
    min_visible_tokens: int = Field(default=10, ge=0, description="a sample with fewer visible tokens is degenerate")
    frozen_nll_nats: float = Field(default=0.10, ge=0, description="maximum loss on its own sample of a frozen step")
    melted_share: float = Field(
        default=0.85, gt=0, description="melted: minimum loss on own text, or entropy while writing, as a share of ln V"
    )
    melted_rise_nats: float = Field(
        default=2.0, gt=0, description="melted: minimum rise of one of these above both losses of step 0"
    )
    start_samples: int = Field(
        default=8, ge=0, description="samples of the untouched model, drawn before step 0 to compare with"
    )
    entropy_drop_nats: float = Field(
        default=1.25, gt=0, description="low diversity: minimum drop of the pooled tokens' entropy below the start's"
    )
    distinct_4_share: float = Field(
        default=0.60, ge=0, le=1, description="low diversity: maximum share of the start's distinct 4-grams, pooled"
    )
    template_share: float = Field(
        default=0.90, gt=0, le=1, description="template: minimum share of 4-grams from one earlier sample"
    )


class Stop(Settings):
    """What ends a run."""

    on_collapse: bool = Field(default=True, description="stop at total collapse, or `after_collapse` steps later")
    after_collapse: int = Field(default=0, ge=0, description="steps that a run goes on past total collapse")
    on_divergence: bool = Field(default=True, description="stop once a loss or norm is not finite")
    max_steps: int = Field(default=1000, ge=0, description="maximum number of updates")
    max_seconds: float | None = Field(default=None, gt=0, description="maximum wall time; the run can be resumed")


class RunConfig(Settings):
    """One run of an experiment."""

    model: str = Field(default="builtin:micro", description="name, hub id, folder or GGUF file")
    data: tuple[str, ...] = Field(
        default=("austen", "moby-dick"),
        min_length=1,
        description="texts to evaluate on, separated by commas (`\\,` is a comma in a path)",
    )
    seed: int = Field(default=0, ge=0, description="seed of all random numbers")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where the model runs")
    engine: Literal["auto", "native", "static", "plain"] = Field(
        default="auto", description="plain: transformers as it is; native, static: the same numbers, faster"
    )
    threads: int | None = Field(default=None, ge=1, le=4096, description="CPU threads; none: torch's choice")
    checkpoint_every_s: float = Field(
        default=120.0, ge=0, description="seconds between checkpoints; 0: after every step"
    )
    keep_checkpoints: bool = Field(
        default=True, description="keep the last two of a finished run: six times the size of its weights"
    )
    loop: Loop = Loop()
    numerics: Numerics = Numerics()
    sampling: Sampling = Sampling()
    generate: Generation = Generation()
    train: Training = Training()
    optim: Optimizer = Optimizer()
    eval: Evaluation = Evaluation()
    collapse: Collapse = Collapse()
    metrics: Metrics = Metrics()
    stop: Stop = Stop()
    safeguards: tuple[AnySafeguard, ...] = Field(
        default=(), description="what acts against collapse, in this order: `kl-anchor(beta=0.5), real-mix`"
    )

    @field_validator("safeguards", mode="before")
    @classmethod
    def _safeguards_are_known(cls, values: object) -> object:
        return checked(values)

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
        # The resolved configuration names the source, so that config.json shows which samples were judged.
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

    @model_validator(mode="after")
    def _safeguards_have_a_text(self) -> Self:
        reader = next((s.id for s in self.safeguards if s.needs_real_text and not s.is_off), None)
        if reader is not None and self.train.real_text is None:
            raise ValueError(f"safeguard {reader} needs train.real_text (for example moby-dick or wikitext-2:train)")
        return self

    def _repr_html_(self) -> str:
        default = dict(flatten(RunConfig().model_dump()))
        changed = [(name, value) for name, value in flatten(self.model_dump()) if value != default[name]]
        return html_table([("run id", self.run_id), *changed])

    @property
    def run_id(self) -> str:
        """The `identity` of these settings."""
        return identity(self.model_dump(mode="json"))
