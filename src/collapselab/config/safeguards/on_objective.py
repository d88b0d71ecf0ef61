"""Settings of the safeguards that change what an update minimises; the first line of each is its formula."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collapselab.config.safeguards.common import SafeguardSettings


class RealMix(SafeguardSettings):
    """L ← (1 − ρ)·L + ρ·L_real, the loss on as many windows of real text as there are samples."""

    point, source, off = "objective", "Gerstgrasser 2024; 2502.18049 (0.618)", {"rho": 0.0}
    grid = (*({"rho": rho} for rho in (0.01, 0.05, 0.25, 0.5, 0.618)), {"windows": "fixed"})
    id: Literal["real-mix"] = "real-mix"
    rho: float = Field(default=0.1, ge=0, le=1, description="ρ, the weight of real text")
    windows: Literal["fresh", "fixed"] = Field(default="fresh", description="new windows at each step, or one set")

    @property
    def needs_real_text(self) -> bool:
        return True


class KlAnchor(SafeguardSettings):
    """L + β·mean KL(p_t‖p_0) over the vocabulary, at each position of fixed contexts."""

    point, source, off = "objective", "Agarwal 2024 (GKD)", {"beta": 0.0}
    grid = (*({"beta": beta} for beta in (0.01, 1.0)), {"direction": "start-now"}, {"contexts": "real"})
    id: Literal["kl-anchor"] = "kl-anchor"
    beta: float = Field(default=0.1, ge=0, description="β")
    direction: Literal["now-start", "start-now"] = Field(
        default="now-start", description="KL(p_t‖p_0), which is mode-seeking, or KL(p_0‖p_t)"
    )
    contexts: Literal["own", "real"] = Field(default="own", description="the batch's own, or windows of real text")

    @property
    def needs_real_text(self) -> bool:
        return self.contexts == "real"


class EntropyBonus(SafeguardSettings):
    """L − η·mean H(p_t); adaptive: η ± 0.005 within [0, 1], toward a share of the entropy at step 0."""

    point, source, off = "objective", "Skywork-OR1 2505.22312", {"eta": 0.0, "adaptive": False}
    grid = ({"adaptive": True}, {"eta": 0.1})
    id: Literal["entropy-bonus"] = "entropy-bonus"
    eta: float = Field(default=0.01, ge=0, le=1, description="η, at the start if it is adaptive")
    adaptive: bool = Field(default=False, description="steer η")
    target: float = Field(default=0.9, gt=0, description="entropy to keep, as a share of that at step 0")


class TruncatedCe(SafeguardSettings):
    """Mean of −log p over the tokens with p ≤ γ (`over` kept ones, or all)."""

    point, source, off = "objective", "ForTIFAI", {"gamma": 1.0}
    grid = ({"gamma": 0.99}, {"over": "all"})
    id: Literal["truncated-ce"] = "truncated-ce"
    gamma: float = Field(default=0.8, gt=0, le=1, description="γ, largest probability of a token that counts")
    over: Literal["kept", "all"] = Field(default="kept", description="the mean's number: of kept tokens, or of all")


class Focal(SafeguardSettings):
    """Mean of (1 − p)^γ·(−log p)."""

    point, source, off = "objective", "Lin 2017; ForTIFAI", {"gamma": 0.0}
    id: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0, description="γ")


class LabelSmoothing(SafeguardSettings):
    """(1 − ε)·L + ε·mean over positions and vocabulary of −log p."""

    point, source, off = "objective", "Szegedy 2016; ForTIFAI", {"epsilon": 0.0}
    id: Literal["label-smoothing"] = "label-smoothing"
    epsilon: float = Field(default=0.1, ge=0, le=1, description="ε")


class Unlikelihood(SafeguardSettings):
    """L + α·mean of −log(1 − p) over tokens of repeated 4-grams (sequence), or over all earlier tokens (token)."""

    point, source, off = "objective", "Welleck 2020", {"alpha": 0.0}
    grid = ({"form": "token"}, {"form": "greedy"})
    id: Literal["unlikelihood"] = "unlikelihood"
    alpha: float = Field(default=1.0, ge=0, description="α")
    form: Literal["sequence", "token", "greedy"] = Field(
        default="sequence",
        description="on the training text; or, greedy, on continuations of real text in place of L, every other step",
    )

    @property
    def needs_real_text(self) -> bool:
        return self.form == "greedy"


class OwnDpo(SafeguardSettings):
    """L − log σ(β·[log π/π_0 (chosen) − log π/π_0 (rejected)]): a healthy sample against a degenerate one."""

    point, source, off = "objective", "Rafailov 2023; DharmaOCR 2604.14314", {"weight": 0.0}
    grid = ({"chosen": "real"},)
    id: Literal["own-dpo"] = "own-dpo"
    beta: float = Field(default=0.1, gt=0, description="β")
    weight: float = Field(default=1.0, ge=0, description="weight of the term")
    chosen: Literal["own", "real"] = Field(default="own", description="the last healthy sample, or real text")

    @property
    def needs_real_text(self) -> bool:
        return self.chosen == "real"


class EmaTeacher(SafeguardSettings):
    """(1 − w)·L + w·mean KL(p̄‖p_t), with p̄ of the mean weights θ̄ ← (1 − rate)·θ̄ + rate·θ."""

    point, source, off = "objective", "SDFT, SDPO", {"weight": 0.0}
    grid = ({"weight": 0.9},)
    id: Literal["ema-teacher"] = "ema-teacher"
    weight: float = Field(default=0.5, ge=0, le=1, description="w")
    rate: float = Field(default=0.05, ge=0, le=1, description="rate at which the teacher follows")


class Dropout(SafeguardSettings):
    """L of a second forward pass in which a share of each block's outputs is dropped."""

    point, source, off = "objective", "Srivastava 2014 (a control)", {"rate": 0.0}
    id: Literal["dropout"] = "dropout"
    rate: float = Field(default=0.1, ge=0, lt=1, description="share dropped")
