"""summary.json: what became of a run, from its records."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from collapselab.collapse.course import outcome
from collapselab.collapse.judging import replay
from collapselab.collapse.warning import warning_values
from collapselab.config.schema import Collapse, RunConfig
from collapselab.records import SCHEMA_VERSION, Record

_BEGINNING = re.compile(r"\s*(?:\w+|\S)?")
PHASES = ("generate", "update", "evaluate", "measure")


def summarise(
    records: Sequence[Record], config: RunConfig, vocab_size: int, num_parameters: int, protocols: Mapping[str, str]
) -> dict[str, Any]:
    """The outcome, losses and times of a finished run; what is unknown is `None`.

    `ended_by` is why the run ended, `fate` what it came to (`words`). `protocols` names the evaluation protocol behind
    `val` (every step) and `full` (the whole text).
    """
    last = records[-1]
    course = course_values(records, config.collapse, vocab_size)
    # The alarms are about what the model writes: on other text the loss falls because it learns.
    seen = [record.values for record in records] if is_warned_of(config) else []
    return {
        "schema": SCHEMA_VERSION,
        "run_id": config.run_id,
        "num_parameters": num_parameters,
        "vocab_size": vocab_size,
        "ended_by": last.values["ended_by"],
        **course,
        **warning_values(seen, course["onset_step"]),
        "train_nll_first": records[0].number("train_nll_nats"),
        "train_nll_last": last.number("train_nll_nats"),
        "clipped_share": clipped_share(records, config.optim.clip),
        "samples_begin": samples_begin(records),
        "losses": [_losses(records, text, *item) for text in config.data for item in protocols.items()],
        "seconds": {phase: sum(r.number(f"seconds_{phase}") or 0.0 for r in records) for phase in PHASES},
        "num_steps": len(records),
    }


def is_warned_of(config: RunConfig) -> bool:
    """Whether the alarms say something of a run: its records are of its own text, and that is what is judged."""
    return config.train.source == "own" and config.collapse.source == "stream"


def course_values(records: Sequence[Record], thresholds: Collapse, vocab_size: int | None) -> dict[str, Any]:
    """The fate, steps and kinds of `course.Outcome`, by the rules of this version."""
    return asdict(outcome(replay(records, thresholds, vocab_size)))


def clipped_share(records: Sequence[Record], clip: float | None) -> float | None:
    """The share of recorded gradient norms above the bound, which were clipped; `None` if none is known.

    Where it is 1, the learning rate is a step length: the gradient only gives the direction.
    """
    norms = [norm for record in records if (norm := record.number("grad_norm")) is not None]
    return sum(clip is not None and norm > clip for norm in norms) / len(norms) if norms else None


def samples_begin(records: Sequence[Record]) -> dict[str, float]:
    """The share of training samples that begin with each of the three most frequent words or signs, `""`: empty."""
    texts = [sample.text for record in records for sample in record.samples if sample.role == "train"]
    found = [_BEGINNING.match(text) for text in texts]
    counts = Counter(match[0] for match in found if match is not None)
    return {begin: number / len(texts) for begin, number in counts.most_common(3)}


def _losses(records: Sequence[Record], text: str, prefix: str, protocol: str) -> dict[str, Any]:
    known = [(r.step, r.number(f"{prefix}_nll_nats[{text}]"), r.number(f"{prefix}_nll_se[{text}]")) for r in records]
    known = [(step, loss, se) for step, loss, se in known if loss is not None]
    entry: dict[str, Any] = {"text": text, "protocol": protocol}
    if not known:
        return entry | dict.fromkeys(("first", "first_se", "last", "last_se", "last_step", "best", "best_step"))
    (_, first, first_se), (last_step, last, last_se) = known[0], known[-1]
    finite = [(loss, step) for step, loss, _ in known if math.isfinite(loss)]
    best, best_step = min(finite, default=(None, None))
    return entry | {
        "first": first,
        "first_se": first_se,
        "last": last,
        "last_se": last_se,
        "last_step": last_step,
        "best": best,
        "best_step": best_step,
    }
