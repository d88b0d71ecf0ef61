"""Settings of the safeguards that change what a step trains on; the first line of each is its formula."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from collapselab.config.safeguards.common import SafeguardSettings


class Replay(SafeguardSettings):
    """Train on s_t and on earlier own sequences, drawn from a reservoir, which make up a share of the batch."""

    point, source, off = "text", "Gerstgrasser 2024; Kazdan 2024", {"share": 0.0}
    grid = ({"real_seed": 8}, {"share": 0.25}, {"share": 0.75})
    id: Literal["replay"] = "replay"
    share: float = Field(default=0.5, ge=0, lt=1, description="share of replayed sequences in a batch, on average")
    capacity: int = Field(default=256, ge=1, description="own sequences kept, an even sample of all so far")
    real_seed: int = Field(default=0, ge=0, description="windows of real text that are always kept among them")

    @property
    def needs_real_text(self) -> bool:
        return self.real_seed > 0


class Filter(SafeguardSettings):
    """Draw K samples for each one, keep the m best by a rule."""

    point, source, off = "text", "2410.12341v4 (least surprising text is worst)", {"draws": 1}
    grid = tuple({"rule": r} for r in ("low-rep-4", "match-entropy", "highest-loss", "lowest-loss"))
    id: Literal["filter"] = "filter"
    draws: int = Field(default=4, ge=1, description="K, samples drawn for each one")
    keep: int = Field(default=1, ge=1, description="m, samples kept of each K")
    rule: Literal["healthy", "low-rep-4", "match-entropy", "highest-loss", "lowest-loss"] = Field(
        default="healthy",
        description="not degenerate; rep-4 of at most 0.6; highest match entropy; highest or lowest own loss",
    )

    @model_validator(mode="after")
    def _keeps_some(self) -> Self:
        if self.keep > self.draws:
            raise ValueError("keep must be at most draws")
        return self


class Verify(SafeguardSettings):
    """Draw K samples for each one, keep the best by a frozen judge; the detector draws them again by (1 − c)^10."""

    point, source, off = "text", "Feng 2024; Drayson 2025; may reverse: 2510.16657", {"draws": 1}
    grid = ({"judge": "detector"},)
    id: Literal["verify"] = "verify"
    draws: int = Field(default=4, ge=1, description="K, samples drawn for each one")
    judge: Literal["start", "model", "detector"] = Field(
        default="start", description="least loss under θ_0, or under another model; or our rules' repetition c"
    )
    model: str | None = Field(default=None, description="the judge `model`, with the same tokenizer")
    power: float = Field(default=10.0, ge=0, description="of the detector's weight (1 − c)^power")
    upsampling: float = Field(default=1.5, gt=0, description="sequences kept for each one by the detector")
    repeats: int = Field(default=3, ge=1, description="how often the detector may take one sequence")

    @model_validator(mode="after")
    def _the_judge_is_named(self) -> Self:
        if (self.judge == "model") != (self.model is not None):
            raise ValueError("judge 'model' and a model's name go together")
        return self


class TokenEdit(SafeguardSettings):
    """Replace each token with p(x_i | x_<i) > threshold by a draw from the top k, q ∝ p^(1/β)."""

    point, source, off = "text", "ToEdit 2412.14689", {"threshold": 1.0}
    grid = ({"threshold": 0.9}, {"threshold": 0.5})
    id: Literal["token-edit"] = "token-edit"
    threshold: float = Field(default=0.99, gt=0, le=1, description="replace tokens above this probability")
    top_k: int = Field(default=8, ge=1, description="tokens to choose from")
    beta: float = Field(default=1.5, gt=0, description="β, the temperature of the draw")


class GrowingBatch(SafeguardSettings):
    """Train on n_t = B·min(most, (1 + t/τ)^(1 + ε)) sequences."""

    point, source, off = "text", "theory: samples must grow faster than t", {"most": 1.0}
    id: Literal["growing-batch"] = "growing-batch"
    most: float = Field(default=8.0, ge=1, description="largest factor")
    tau: float = Field(default=20.0, gt=0, description="τ, steps")
    epsilon: float = Field(default=0.1, ge=0, description="ε")
