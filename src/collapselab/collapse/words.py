"""The vocabulary: the words for how and when a run ended and what became of it, each with its label and meaning.

Files contain the words; Python (summary, command line, report) and the page take labels and meanings from here.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    """The label that people see for a word, and its meaning."""

    label: str
    meaning: str


ENDED_BY: dict[EndedBy, Word] = {
    "collapse": Word(
        "total collapse", "total collapse was reached (`stop.after_collapse` steps ago), and `stop.on_collapse` is set"
    ),
    "divergence": Word("divergence", "a loss or norm is not finite, and `stop.on_divergence` is set"),
    "budget": Word("steps used up", "`stop.max_steps` updates were made"),
}

# What became of a run; if several words apply, the last of them.
FATES: dict[Fate, Word] = {
    "healthy": Word("healthy", "none of the others"),
    "degraded": Word("degraded", "perplexity on human text has risen by 10 %"),
    "severe": Word("severe", "perplexity on human text has doubled"),
    "lost": Word("lost", "worse than a uniform guess on human text"),
    "onset": Word("onset only", "collapse began; the run neither collapsed totally nor recovered"),
    "recovered": Word("recovered", "collapse began, but most samples are no longer degenerate"),
    "diverged": Word("diverged", "a loss or norm is not finite"),
    "total-collapse": Word(
        "total collapse", "all of the last `collapse.window` judged steps were degenerate, none by low diversity alone"
    ),
    "melted": Word("melted", "collapse began and ends in noise: most degenerate steps of the window are `melted`"),
}

# The events of a run, by the column that holds their step.
EVENTS: dict[str, Word] = {
    "warned_step": Word(
        "early warning",
        "the step at which the early warning began that lasts at the onset, or at the end of a run without onset",
    ),
    "degraded_step": Word(
        "degraded", "the first step at which perplexity on the first human text is 10 % higher than at step 0"
    ),
    "severe_step": Word(
        "severe", "the first step at which perplexity on the first human text is twice as high as at step 0"
    ),
    "lost_step": Word(
        "lost",
        "the first step at which loss on the first human text is above that of a uniform guess, ln V for V tokens, "
        "after it was below",
    ),
    "onset_step": Word(
        "onset",
        "the step from which degenerate steps have the largest majority, once at least 3/4 of the last collapse.window "
        "judged steps are degenerate for collapse.patience judged steps in a row",
    ),
    "total_collapse_step": Word(
        "total collapse",
        "the first step at which all of the last collapse.window judged steps are degenerate, none by low diversity "
        "alone",
    ),
    "recovered_step": Word(
        "recovered",
        "the first, after onset, of collapse.patience judged steps in a row at which less than an eighth of the last "
        "collapse.window judged steps are degenerate",
    ),
    "diverged_step": Word("diverged", "the first step with a loss or norm that is not finite"),
}
MARKED_EVENTS = ("warned_step", "onset_step", "total_collapse_step", "recovered_step", "diverged_step")  # of one run

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

# The rules by which a sample or a step is degenerate (`rules.py`), as people read them.
RULES = {
    "seq_rep_4": "repeated 4-grams",
    "seq_rep_2": "repeated pairs of tokens",
    "loop": "a loop",
    "match_entropy": "predictable from the text before",
    "top_token_share": "mostly one token",
    "whitespace": "white space",
    "counting": "counting",
    "stutter": "stuttering",
    "frozen": "certain of every token",
    "melted": "near a uniform guess",
    "template": "copies",
    "low-diversity": "low diversity",
}

STATUSES: dict[Status, str] = {
    "running": "a process works on it; if the heartbeat is old, that process was killed",
    "finished": "`summary.json` says how it ended",
    "interrupted": "it can be resumed",
    "failed": "`error` says why; it can be resumed",
}

WATCHED = "monitor"  # of `loop.kind`: another trainer's run; its model, learning rate and rules are known, no more

TRAINING_SOURCES: dict[TrainingSource, str] = {
    "own": "own text",
    "real": "real text",
    "other": "another model's text",
    "shuffled": "own text, shuffled",
}

JUDGED_TEXTS: dict[JudgedText, str] = {"stream": "judged by its samples", "probe": "judged by probes"}

ROLES: dict[Role, str] = {
    "train": "training sample",
    "used": "what a safeguard chose to train on instead",
    "probe": "probe",
    "start": "sample of the untouched model",
}


def percent(share: float) -> str:
    """A share in words: 33 %; below a tenth with two digits, 0.24 %."""
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def rules_in_words(names: Iterable[str]) -> str:
    """The rules that were broken, as a list for people."""
    return ", ".join(RULES.get(name, name.replace("_", " ")) for name in names)
