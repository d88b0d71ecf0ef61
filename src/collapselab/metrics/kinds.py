"""What a metric is, what it may need, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from collapselab.metrics.reference import Reference
from collapselab.metrics.repetition import Ids
from collapselab.records import Number, Value

Needs = Literal["sample", "window", "writing", "evaluation", "contexts", "first model", "weights"]


@dataclass(frozen=True)
class Group:
    """What metrics of a kind are computed from, when, and at which cost; `code`: where, if they have no function."""

    text: str
    when: str
    cost: str
    code: str | None = None


# Costs: CPU time on one Xeon core, of samples of 200 tokens; `python -m benchmarks metrics` measures them.
NEEDS: dict[Needs, Group] = {
    "sample": Group("the step's samples, each alone", "every step", "1.6 ms per sample"),
    "window": Group(
        "the run's last metrics.samples samples, a reference text, and the untouched model's samples",
        "every metrics.every steps once there are so many; where probes are judged, at each probe",
        "17 ms for 16 samples",
    ),
    "writing": Group(
        "logits while writing", "every step", "5 µs per token at 2,048 words, 0.1 ms at 50,257", "engine.sampling"
    ),
    "evaluation": Group(
        "losses of single tokens of the first text", "evaluated steps", "0.1 ms", "step.instruments.TokenTally"
    ),
    "contexts": Group(
        "a forward pass on fixed contexts of the first text, compared with the untouched model's",
        "every metrics.contexts_every steps; by default never",
        "a forward pass of 256 tokens and 256 softmaxes: 26 ms for builtin:nano",
        "step.baseline.Contexts",
    ),
    "first model": Group(
        "a forward pass of the untouched model on the training text",
        "every step with metrics.first_model; by default never",
        "a forward pass of the sample (6 ms for builtin:nano), and memory for a copy of the weights",
        "step.baseline.FirstModel",
    ),
    "weights": Group(
        "the weights and their gradient", "every step", "0.4 ms for builtin:nano", "step.batches, step.start"
    ),
}


@dataclass(frozen=True)
class Metric:
    """A recorded number with what it needs; `function` takes one sample's token ids, or a `Window`.

    `None`: the number comes from a model or its weights (`Group.code`).
    """

    function: Callable[[Any], Value] | None
    number: Number
    needs: Needs = "sample"


@dataclass(frozen=True)
class Window:
    """The samples that diversity and tails are told from, and what they are compared with."""

    samples: Sequence[Ids]
    reference: Reference
    start: Sequence[Ids] = ()
