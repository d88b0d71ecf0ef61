"""The safeguards that are ordinary settings of a run, listed beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ByOtherSettings:
    """A safeguard that is a setting of the run: what to set, and what is known of it."""

    changes: Mapping[str, object]
    meaning: str
    source: str
    grid: Sequence[Mapping[str, object]] = ()


BY_OTHER_SETTINGS: dict[str, ByOtherSettings] = {
    "pure-sampling": ByOtherSettings(
        {"sampling.temperature": 1.0, "sampling.top_k": None}, "draw from the model itself", "docs/sampler.md"
    ),
    "lr-control": ByOtherSettings(
        {"optim.lr": 8e-5}, "nothing but a lower rate: unmasks a safeguard that only shortens steps", "a control",
    ),
    "decoding": ByOtherSettings(
        {"sampling.temperature": 1.5, "sampling.min_p": 0.2}, "flatter, cut at a share of the best", "Nguyen 2024",
        (
            {"sampling.temperature": 1.0, "sampling.min_p": None, "sampling.top_n_sigma": 1.0},
            {"sampling.temperature": 0.8, "sampling.min_p": None, "sampling.repetition_penalty": 1.2},
            {"sampling.temperature": 0.8, "sampling.min_p": None, "sampling.no_repeat_ngram": 4},
        ),
    ),
    "real-prompt": ByOtherSettings(
        {"generate.prompt_tokens": 16}, "continue real text (`train.real_text`), train on the continuation",
        "Shumailov 2024", ({"generate.prompt_tokens": 48},),  # 64 and 200 tokens do not fit the shipped models' context
    ),
    "bigger-batch": ByOtherSettings(
        {"generate.batch_size": 16}, "B sequences per update", "theory: samples must grow faster than t",
        ({"generate.batch_size": 4},),
    ),
    "lora": ByOtherSettings(
        {"optim.lora_rank": 16}, "learn adapters alone: compare at equal path length", "Hu 2021 (LoRA)",
        ({"optim.lora_rank": 4}, {"optim.lora_rank": 64}),
    ),
    "sgd": ByOtherSettings({"optim.name": "sgd", "optim.lr": 0.03}, "plain gradient descent", "a control"),
    "reset": ByOtherSettings({"optim.reset_each_step": True}, "forget AdamW's moments at each step", "a control"),
}  # fmt: skip
