"""Settings of the safeguards that act on weights, learning rate or temperature; first lines are formulas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collapselab.config.safeguards.common import SafeguardSettings


class WeightAnchor(SafeguardSettings):
    """θ ← θ + λ·min(r_j, 1/λ)·(θ_0 − θ), r_j = RMS_j / mean RMS of θ_0's gradients on real text."""

    point, source, off = "after_step", "Krause 2018", {"strength": 0.0}
    grid = (*({"strength": s} for s in (0.002, 0.02)), {"importance": "equal"})
    id: Literal["weight-anchor"] = "weight-anchor"
    strength: float = Field(default=0.008, ge=0, le=1, description="λ")
    importance: Literal["rms", "equal"] = Field(
        default="rms", description="r_j from gradients; or 1, which is decay to the start"
    )

    @property
    def needs_real_text(self) -> bool:
        return self.importance == "rms"


class Ema(SafeguardSettings):
    """θ̄ ← d·θ̄ + (1 − d)·θ: write from θ̄, or put θ to it every m steps."""

    point, source, off = "text", "Polyak 1992; Izmailov 2018", {"decay": 0.0}
    grid = ({"decay": 0.9}, {"mode": "reset"})
    id: Literal["ema"] = "ema"
    decay: float = Field(default=0.99, ge=0, lt=1, description="d")
    mode: Literal["write", "reset"] = Field(default="write", description="what the mean is used for")
    every: int = Field(default=20, ge=1, description="m, steps between resets")


class Neon(SafeguardSettings):
    """Every m steps θ ← θ_0 − w·(θ_t − θ_0)."""

    point, source, off = "after_step", "Neon 2510.03597", {"every": None}
    grid = ({"w": 0.25}, {"w": 1.0})
    id: Literal["neon"] = "neon"
    w: float = Field(default=0.5, ge=0, description="w")
    every: int | None = Field(default=20, ge=1, description="m, steps; none: never")


class TrustStop(SafeguardSettings):
    """Shrink or skip an update after which KL(p_0‖p_t) on fixed real contexts would exceed δ."""

    point, source, off = "after_step", "ours; the bound of TRPO, Schulman 2015", {"delta": None}
    grid = ({"action": "skip"}, {"steps": 300}, {"delta": 0.2})
    id: Literal["trust-stop"] = "trust-stop"
    delta: float | None = Field(default=0.05, gt=0, description="δ, nats per token; none: no bound")
    steps: int | None = Field(default=None, ge=1, description="n: the bound grows by δ/n at each step; none: it is δ")
    action: Literal["shrink", "skip"] = Field(default="shrink", description="halve up to eight times, or undo")

    @property
    def needs_real_text(self) -> bool:
        return True


class Regulate(SafeguardSettings):
    """Learning rate × (H_t / H_0)^p, at most 1; no learning once H_t / H_0 is below the alarm."""

    point, source, off = "after_step", "2605.14588, in spirit", {"power": 0.0, "alarm": 0.0}
    grid = ({"power": 8.0}, {"power": 0.0, "alarm": 0.8})
    id: Literal["regulate"] = "regulate"
    power: float = Field(default=4.0, ge=0, description="p")
    alarm: float = Field(default=0.0, ge=0, lt=1, description="share of the entropy at step 0 that ends learning")


class Thermostat(SafeguardSettings):
    """T ← T + gain·(H_0 − H_t), within [0.7, 1.3]: the entropy of own text is kept."""

    point, source, off = "after_step", "ours", {"gain": 0.0}
    grid = ({"gain": 0.2}, {"gain": 0.0125})
    id: Literal["thermostat"] = "thermostat"
    gain: float = Field(default=0.05, ge=0, description="per nat")
    least: float = Field(default=0.7, gt=0, description="lowest temperature")
    most: float = Field(default=1.3, gt=0, description="highest temperature")


class Rollback(SafeguardSettings):
    """Some steps past onset: back to the last healthy weights; or θ_t − α·(θ_{t+1} − θ_t); or steps on real text."""

    point, source, off = "after_step", "ours", {"remedy": None}
    grid = ({"remedy": "negate"}, {"remedy": "real"}, {"repeat": True})
    id: Literal["rollback"] = "rollback"
    remedy: Literal["restore", "negate", "real"] | None = Field(default="restore", description="what is done")
    past: int = Field(default=0, ge=0, description="steps past the step at which onset is known")
    steps: int = Field(default=20, ge=1, description="how many steps are negated, or train on real text")
    alpha: float = Field(default=1.0, ge=0, description="α")
    every: int = Field(default=10, ge=1, description="steps between copies of healthy weights")
    repeat: bool = Field(default=False, description="again, whenever most of the last samples are degenerate")

    @property
    def needs_real_text(self) -> bool:
        return self.remedy == "real"
