"""The table of recorded numbers: each name in steps.jsonl and summary.json with unit, meaning and where it is shown.

Docs, page, captions, live view and curves read it; metrics come from `metrics.METRICS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from collapselab.collapse.words import ENDED_BY, EVENTS, FATES
from collapselab.metrics import Needs, that_need
from collapselab.records import Number

ANY_TEXT = "TEXT"  # in names and labels, where the name of a human text goes
NATS, SHARE, NORM = "nats per token", "share", "–"

# The panels in which curves are drawn, in order: title and unit.
PANELS: dict[str, tuple[str, str]] = {
    "loss": ("loss", NATS),
    "repetition": ("share of the sample", SHARE),
    "entropy": ("entropy", NATS),
    "window": ("share of the last steps", SHARE),
    "reward": ("reward", "mean of the step"),
}

# What safeguards cost at a step, and what they say of themselves; recorded only with safeguards.
SAFEGUARDS: dict[str, Number] = {
    "extra_samples": Number("sequences", "sequences written for safeguards", "sequences for safeguards"),
    "extra_tokens": Number("tokens", "tokens of these", "tokens for safeguards"),
    "extra_forwards": Number(
        "sequences",
        "sequences passed through a model for safeguards, written ones not counted",
        "forward passes for safeguards",
    ),
    "seconds_safeguards": Number(
        "s", "wall time in safeguards, contained in the others; their share of the backward pass is not"
    ),
    "temperature": Number("–", "temperature of the thermostat at this step", "temperature"),
    "lr_factor": Number(
        "–", "what regulate multiplies the learning rate by, after this step", "factor of the learning rate"
    ),
    "kl_start_nats": Number(
        NATS,
        "KL divergence between the model and the untouched one, as kl-anchor or trust-stop measures it",
        "KL with the first model",
    ),
    "kl_teacher_nats": Number(
        NATS, "KL divergence between the mean model and the model, by ema-teacher", "KL with the mean model"
    ),
    "real_nll_nats": Number(NATS, "loss on the real text of real-mix", "loss on the real text mixed in"),
    "model_entropy_nats": Number(
        NATS, "mean entropy of the predictions on the training text, by entropy-bonus", "entropy on the training text"
    ),
    "entropy_weight": Number("–", "η of entropy-bonus", "weight of the entropy"),
    "kept_share": Number(SHARE, "tokens that truncated-ce keeps, or that token-edit leaves alone", "tokens kept"),
    "step_share": Number(SHARE, "what trust-stop leaves of this update", "share of the update kept"),
    "rolled_back": Number("true, false", "whether rollback acts at this step", "rolled back"),
}


def _numbers(needs: Needs) -> dict[str, Number]:
    return {name: metric.number for name, metric in that_need(needs).items()}


NUMBERS: dict[str, Number] = {
    "step": Number("updates", "number of updates made before it"),
    "train_nll_nats": Number(
        NATS, "loss on the training text of the step, at temperature 1, before the update", "training loss", "loss",
        live="own text",
    ),
    "objective_nats": Number(
        NATS, "objective that the update minimises instead; recorded only with safeguards", "objective of the update",
    ),
    "own_nll_nats": Number(
        NATS, "loss on what the model wrote, if a safeguard chose another training text", "loss on what was written",
    ),
    "val_nll_nats[TEXT]": Number(
        NATS, "loss on a human text by eval.protocol; only at evaluated steps", "validation loss, TEXT", "loss",
        live="TEXT",
    ),
    "val_nll_se[TEXT]": Number(NATS, "standard error of val_nll_nats[TEXT]; windows count as independent"),
    "val_nll_nats": Number(NATS, "val_nll_nats[TEXT] of the first text"),
    "val_nll_se": Number(NATS, "val_nll_se[TEXT] of the first text"),
    "full_nll_nats[TEXT]": Number(
        NATS, "loss on the whole text by eval.full_protocol; only at full evaluations", "loss on the whole text, TEXT",
    ),
    "full_nll_se[TEXT]": Number(NATS, "standard error of full_nll_nats[TEXT]; windows count as independent"),
    "full_nll_nats": Number(NATS, "full_nll_nats[TEXT] of the first text"),
    "full_nll_se": Number(NATS, "full_nll_se[TEXT] of the first text"),
    **_numbers("evaluation"), **_numbers("contexts"), **_numbers("first model"),
    **_numbers("weights"), **_numbers("writing"),
    "num_tokens": Number("tokens", "T, the length of the sample without its prompt", "length of the sample"),
    **_numbers("sample"), **_numbers("window"),
    "degenerate": Number("true, false", "the verdict on the step; null: not judged", "judged degenerate"),
    "reasons": Number("list of names", "the rules that were broken", "rules broken"),
    "kind": Number("name", "kind of the step's degeneration", "kind of degeneration"),
    "entropy_drop_nats": Number(
        NATS, "entropy of the tokens of the start's samples, pooled, − that of as many latest ones, cut to one length",
        "drop of the pooled entropy since the start",
    ),
    "distinct_4_share": Number(
        "ratio", "distinct 4-grams of as many latest samples, pooled, / those of the start's, cut to one length",
        "distinct 4-grams, share of the start's",
    ),
    "degenerate_share": Number(
        SHARE, "share of degenerate steps among the last collapse.window judged steps",
        "degenerate steps in the last window",
        "window",
    ),
    "loss_fate": Number(
        "name", "the worst state of losses and norms so far: degraded, severe, lost or diverged; "
        "null: none of these", "worst state of losses so far",
    ),
    "reward": Number(
        "mean of the step", "mean reward of the completions, recorded only by a monitor; in a Trainer the one that it "
        "logged last, of the step before", "reward", "reward",
    ),
    "unended_share": Number(
        SHARE, "share of completions without an end token; recorded only by a monitor", "completions without an end",
    ),
    "overlap_within": Number(
        SHARE, "mean share of a completion's 4-grams that others of its prompt have too; recorded only by a monitor",
        "overlap, one prompt",
    ),
    "overlap_across": Number(
        SHARE, "the same with the completions of other prompts; recorded only by a monitor", "overlap across prompts",
    ),
    "sampler_difference_nats": Number(
        NATS, "mean absolute difference of the tokens' log-probabilities between sampler and learner; recorded only by "
        "a monitor",
        "difference of sampler and learner",
    ),
    "ended_by": Number(
        "name", f"why the run ends here: {', '.join(ENDED_BY)}; null: the run continues", "why the run ends here",
    ),
    **{name: replace(n, meaning=f"{n.meaning}; recorded only with safeguards") for name, n in SAFEGUARDS.items()},
    **{
        f"seconds_{phase}": Number("s", f"wall time of this step {doing}")
        for phase, doing in (
            ("generate", "for writing"), ("update", "for training"), ("evaluate", "for scoring human text"),
            ("measure", "for metrics and verdicts"),
        )
    },
}  # fmt: skip

# Drawn, though not recorded: computed from the record.
DERIVED: dict[str, Number] = {
    "loop_share": Number(SHARE, "loop_span / num_tokens", "tokens inside a loop", "repetition"),
}

SUMMARY: dict[str, str] = {
    "num_parameters": "number of parameters of the model; tied ones count once",
    "vocab_size": "number of tokens that the model can write",
    "ended_by": f"why the run ended: {', '.join(ENDED_BY)}",
    "fate": f"what became of the run: {', '.join(FATES)}; if several apply, the last of them",
    **{name: event.meaning for name, event in EVENTS.items()},
    "warning_lead": "(onset_step − warned_step) / onset_step: how far ahead the early warning was",
    "kind_at_onset": "kind of degeneration at onset",
    "kind_at_end": "kind of degeneration at the last step",
    "last_step": "the last record's step",
    "num_steps": "number of records",
    "degenerate_share": "degenerate_share of the last step",
    "train_nll_first": "training loss at the first step",
    "train_nll_last": "training loss at the last step",
    "clipped_share": "share of the recorded gradients that were clipped (`optim.clip`)",
    "samples_begin": "what training samples begin with: the three most frequent words or signs, each with its share",
    "losses": "for each text and protocol: first, last and best loss, with steps and standard errors",
    "seconds": "wall time by phase",
    "records": "number of lines and SHA-256 of both .jsonl files",
}


_ALL = NUMBERS | DERIVED


def entry(name: str) -> Number | None:
    """Describes a recorded or derived name; `None` for a user's own metric (`run(..., metrics=...)`)."""
    return _ALL.get(_generic(name))


def text_of(name: str) -> str | None:
    """The human text in a name: `austen` of `val_nll_nats[austen]`."""
    found = re.fullmatch(r"\w+\[(.*)\]", name, re.DOTALL)
    return None if found is None else found[1]


def label(name: str) -> str:
    """The label of a name's curve."""
    number, text = _ALL[_generic(name)], text_of(name)
    assert number.label is not None, f"{name} is not drawn"
    return number.label if text is None else number.label.replace(ANY_TEXT, text)


def unit(name: str) -> str:
    """The unit of a name."""
    return _ALL[_generic(name)].unit


def drawn_in(panel: str, names: Iterable[str]) -> list[str]:
    """The names that have a curve in a panel, in the order of the table."""
    order = [name for name, number in _ALL.items() if number.panel == panel]
    return sorted((name for name in names if _generic(name) in order), key=lambda name: order.index(_generic(name)))


def live_names(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The names that the live view of a run on these texts shows, each with its short name."""
    for name, number in NUMBERS.items():
        for text in texts if ANY_TEXT in name else [ANY_TEXT]:
            if number.live is not None:
                yield name.replace(ANY_TEXT, text), number.live.replace(ANY_TEXT, text)


def _generic(name: str) -> str:
    text = text_of(name)
    return name if text is None else f"{name.removesuffix(f'{text}]')}{ANY_TEXT}]"
