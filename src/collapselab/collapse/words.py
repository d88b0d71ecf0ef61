"""The vocabulary: each word for how a run ended, what it came to and when, with the sentence that it stands for.

Files hold the words; Python (summary, command line, report) and the page read the labels and sentences from here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from collapselab.config.schema import JudgedText, TrainingSource
from collapselab.records import Role

EndedBy = Literal["collapse", "divergence", "budget"]
Fate = Literal["healthy", "degraded", "severe", "lost", "onset", "recovered", "diverged", "total-collapse", "melted"]
Status = Literal["running", "finished", "interrupted", "failed"]
Kind = Literal[
    "loop", "single-token", "whitespace", "counting", "low-entropy", "melted", "low-diversity", "frozen", "template",
    "noise",
]  # fmt: skip


class Word(NamedTuple):
    """How a word is shown, and what it means."""

    label: str
    meaning: str


ENDED_BY: dict[EndedBy, Word] = {
    "collapse": Word("total collapse", "total collapse was reached, and `stop.on_collapse` is set"),
    "divergence": Word("divergence", "a loss or norm is not finite, and `stop.on_divergence` is set"),
    "budget": Word("steps used up", "`stop.max_steps` updates were made"),
}

# What a run came to; where several hold, the last of them.
FATES: dict[Fate, Word] = {
    "healthy": Word("healthy", "none of the others"),
    "degraded": Word("degraded", "perplexity on human text is up by a tenth"),
    "severe": Word("severe", "perplexity on human text has doubled"),
    "lost": Word("lost", "worse than a uniform guess on human text"),
    "onset": Word("onset only", "collapse began, and neither became total nor was recovered from"),
    "recovered": Word("recovered", "collapse began, and most samples are not degenerate any more"),
    "diverged": Word("diverged", "a loss or norm is not finite"),
    "total-collapse": Word("total collapse", "all of the last window of judged steps were degenerate"),
    "melted": Word("melted", "collapse began, and ends in noise: most degenerate steps of the window are `melted`"),
}

# The steps of a run's course, by the name of their column.
EVENTS: dict[str, Word] = {
    "degraded_step": Word(
        "degraded", "the first step at which perplexity on the first human text is a tenth higher than at step 0"
    ),
    "severe_step": Word("severe", "the first step at which that perplexity is twice as high as at step 0"),
    "lost_step": Word(
        "lost",
        "the first step at which loss on that text is above that of a uniform guess, ln V with a vocabulary of V "
        "tokens, after it was not",
    ),
    "onset_step": Word(
        "onset",
        "the step from which degenerate steps have the largest majority, once at least 3/4 of the last window of "
        "judged steps are degenerate for collapse.patience judged steps in a row",
    ),
    "total_collapse_step": Word("total collapse", "the first step at which all of that window is degenerate"),
    "recovered_step": Word(
        "recovered",
        "the first step after onset at which less than an eighth of that window is degenerate, and stays so for "
        "collapse.patience judged steps in a row",
    ),
    "diverged_step": Word("diverged", "the first step with a loss or norm that is not finite"),
}
MARKED_EVENTS = ("onset_step", "total_collapse_step", "recovered_step", "diverged_step")  # in figures of one run

# What most degenerate steps of the window are.
KINDS: dict[Kind, str] = {
    "loop": "loops of two tokens or more",
    "single-token": "one token over and over",
    "whitespace": "white space",
    "counting": "loops except for numbers that go up or down",
    "low-entropy": "repetitive without one loop, or stuttering",
    "melted": "near a uniform guess, or far above the losses of step 0",
    "low-diversity": "less diverse, taken together, than the run's start",
    "frozen": "certain of every token, with samples that pass the rules",
    "template": "copies of each other: of an earlier sample, or with self-BLEU-4 of at least 0.90 among the window's "
    "samples",
    "noise": "the run diverged and no sample was degenerate",
}

STATUSES: dict[Status, str] = {
    "running": "a process works on it, or was killed if the heartbeat is old",
    "finished": "`summary.json` says how it ended",
    "interrupted": "it can be resumed",
    "failed": "`error` says why; it can be resumed",
}

TRAINING_SOURCES: dict[TrainingSource, str] = {
    "own": "own text",
    "real": "real text",
    "other": "another model's text",
    "shuffled": "own text, shuffled",
}

JUDGED_TEXTS: dict[JudgedText, str] = {"stream": "judged by its samples", "probe": "judged by probes"}

ROLES: dict[Role, str] = {"train": "training sample", "probe": "probe", "start": "sample of the untouched model"}
