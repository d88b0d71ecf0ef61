"""The timed work: one turn of the loop, equal for every variant. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from collapselab.randomness import rng

Task = Literal["iteration", "decode", "evaluate", "update"]
TASKS: tuple[Task, ...] = ("iteration", "decode", "evaluate", "update")
PHASE_OF: dict[Task, str] = {"decode": "generate", "evaluate": "evaluate", "update": "update"}


def update_sequence(workload: Workload, vocab_size: int, end_of_text_id: int) -> list[int]:
    """The sequence of the task `update`: the prompt and as many uniformly drawn tokens as a sample has."""
    tokens = rng(0, "data", 0).integers(0, vocab_size, size=workload.max_new_tokens)
    return [end_of_text_id, *tokens.tolist()]


def seconds_by_phase(values: Mapping[str, object]) -> dict[str, float]:
    """The seconds of each phase among the values of a record or a stopwatch (`seconds_generate`, …)."""
    found = {name.removeprefix("seconds_"): v for name, v in values.items() if name.startswith("seconds_")}
    return {phase: v for phase, v in found.items() if isinstance(v, float)}


@dataclass(frozen=True)
class Workload:
    """The work of one turn; by default the paper's, evaluated on some 10,000 tokens.

    `model`: what `load_model` reads. `context` and `context_mode` are those of our own generation (`None`: all
    positions); `authors_context` is that of the authors' script, which crops regardless of the model's context.
    """

    model: str
    threads: int | None = None
    text: str = "austen"
    max_new_tokens: int = 200
    batch_size: int = 1
    context: int | None = None
    context_mode: Literal["cache", "crop"] = "cache"
    authors_context: int = 100
    window_tokens: int = 100
    num_windows: int = 100
    temperature: float = 0.8
    top_k: int = 500
    lr: float = 2e-5
    clip: float = 1.0

    @property
    def evaluated_tokens(self) -> int:
        """Tokens read in one evaluation."""
        return self.window_tokens * self.num_windows


@dataclass(frozen=True)
class Arm:
    """One variant with its own model; each call does the work once.

    `decode`: the tokens written, without the prompt. `evaluate`: the loss on the text. `update`: the loss before an
    update on one fixed sequence, the same for every arm. `iteration`: seconds by phase of a whole turn.
    """

    decode: Callable[[], Sequence[Sequence[int]]]
    evaluate: Callable[[], float]
    update: Callable[[], float]
    iteration: Callable[[], dict[str, float]]

    def call(self, task: Task) -> dict[str, float]:
        """Does a task once; returns the seconds by phase that the task reports (only a whole turn has several)."""
        if task == "iteration":
            return self.iteration()
        {"decode": self.decode, "evaluate": self.evaluate, "update": self.update}[task]()
        return {}
