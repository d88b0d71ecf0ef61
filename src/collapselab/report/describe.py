"""A run in words: its label among others, its outcome, its settings, versions and machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from collapselab.analysis.comparisons import CARRIED_OUT, LOOKING
from collapselab.analysis.survival import Frame
from collapselab.collapse.warning import warning_in_words
from collapselab.collapse.words import ENDED_BY, KINDS, TRAINING_SOURCES, WATCHED
from collapselab.config.overrides import settings
from collapselab.report.values import known, short, shown
from collapselab.rundir.frames import ENVIRONMENT, Runs
from collapselab.visible import visible

ALWAYS_IN_LABEL = ("model", "lr", "seed")
USUAL = (("train.source", "own"), ("collapse.source", "stream"))  # not worth mentioning, also beside other values
NO_VERSION = ("schema", "began", "earlier")  # of env.json: neither version nor machine
# How a run is executed, evaluated or ended, and what follows from `train.source` and `collapse.source`.
NO_LABEL = (*CARRIED_OUT, *LOOKING, "train.real_text", "train.other_model", "collapse.probe_")


@dataclass(frozen=True)
class Common:
    """Columns in two parts: those with one value for all runs, and those that differ, with one row per run."""

    shared: list[tuple[str, str]]
    names: list[str]
    rows: list[list[str]]


def labels(runs: Runs) -> list[str]:
    """Labels that distinguish the runs: model, learning rate, seed, other settings that differ; or else names."""
    frame = cast(Any, runs.runs)
    names = [name for name in settings_of(frame) if not name.startswith(NO_LABEL)]
    varying = [name for name in names if len({shown(value) for value in frame[name]}) > 1]
    always = ALWAYS_IN_LABEL if len(frame) == 1 else ()
    chosen = [name for name in names if name in varying or (name in always and known(frame.iloc[0], name))]
    ranked = sorted(chosen, key=lambda name: (*ALWAYS_IN_LABEL, name).index(name))
    rows = cast(list[dict[str, Any]], frame.to_dict("records"))
    found = [" · ".join(_labelled(n, row[n]) for n in ranked if (n, row[n]) not in USUAL) for row in rows]
    folders = [visible(str(row["run"])) for row in rows]
    return [
        label if label and found.count(label) == 1 else " · ".join(filter(None, (label, folder)))
        for label, folder in zip(found, folders, strict=True)
    ]


def outcome(row: Mapping[str, Any]) -> str:
    """The outcome of a run in a few words; the progress of an unfinished one."""
    onset, total, diverged = (_step(row, name) for name in ("onset_step", "total_collapse_step", "diverged_step"))
    kind = f" ({row['kind_at_end']})" if known(row, "kind_at_end") else ""
    last = _step(row, "last_step")
    if not known(row, "ended_by"):
        return str(row["status"]) if known(row, "status") else "unfinished"
    loss = loss_on_human_text(row)
    after = f"; loss on human text: {loss}" if loss else ""
    if warning := warning_in_words(_step(row, "warned_step"), onset):
        after = f"; {warning}{after}"
    if row.get("fate") == "diverged":
        return f"diverged at step {diverged}{after}"
    if total is not None:
        return f"total collapse at step {total}{kind}{after}"
    if onset is not None:
        return f"onset at step {onset}{kind}, not total by step {last}{after}"
    return (f"no collapse by step {last}" if last is not None else ENDED_BY[row["ended_by"]].label) + after


def story(row: Mapping[str, Any]) -> str:
    """What became of a run, in a sentence for people who read of it for the first time."""
    text = TRAINING_SOURCES.get(row.get("train.source", "own"), "own text")
    training = f"trained on {'its ' if text.startswith('own') else ''}{text}"
    if row.get("loop.kind") == WATCHED:
        training = "watched in training"
    rate = f" at learning rate {short(row['lr'])}" if known(row, "lr") else ""
    onset, total, diverged, last = (
        _step(row, name) for name in ("onset_step", "total_collapse_step", "diverged_step", "last_step")
    )
    kind = f": {KINDS[row['kind_at_end']]}" if row.get("kind_at_end") in KINDS else ""
    if diverged is not None and (onset is None or row.get("fate") == "diverged"):
        end = f"at step {diverged} a loss or norm is no longer finite"
    elif total is not None:
        end = f"most of its samples are degenerate from step {onset} on, all of them by step {total}{kind}"
    elif onset is not None:
        end = f"most of its samples are degenerate from step {onset} on{kind}"
    elif known(row, "ended_by"):
        end = "no collapse" + ("" if last is None else f" by step {last}")
    else:
        end = f"the run is {row['status'] if known(row, 'status') else 'unfinished'}"
    model = str(row["model"]).removeprefix("builtin:")
    if warning := warning_in_words(_step(row, "warned_step"), onset):
        end += f"; {warning}"
    return f"{model}, {training}{rate}: {end}."


def rate_and_seed(row: Mapping[str, Any]) -> list[str]:
    """The learning rate and the seed in words, as far as they are known; of a watched training no seed is."""
    rate = [f"learning rate {short(row['lr'])}"] if known(row, "lr") else []
    return rate + ([f"seed {row['seed']}"] if known(row, "seed") and row.get("loop.kind") != WATCHED else [])


def loss_on_human_text(row: Mapping[str, Any]) -> str | None:
    """The worst fate of the loss on the first human text, and when; `None`: perplexity did not rise by 10 %."""
    steps = {name: _step(row, f"{name}_step") for name in ("lost", "severe", "degraded")}
    return next((f"{name} at step {step}" for name, step in steps.items() if step is not None), None)


def common_settings(runs: Runs) -> Common:
    """The settings of all runs."""
    frame = cast(Frame, runs.runs)
    return _parted(frame[settings_of(frame)])


def common_environment(runs: Runs) -> Common:
    """The versions and machines of all runs, from their `env.json`; empty if the frames do not have them."""
    frame: Frame = runs.runs.filter(regex="^" + re.escape(ENVIRONMENT))
    frame.columns = frame.columns.str.removeprefix(ENVIRONMENT)
    return _parted(frame.drop(columns=list(NO_VERSION), errors="ignore"))


def watched(frame: Frame) -> Frame:
    """Which rows are trainings that were only watched."""
    return frame["loop.kind"] == WATCHED if "loop.kind" in frame else pd.Series(False, index=frame.index)


def _parted(frame: Frame) -> Common:
    columns = {str(name): [shown(value) for value in frame[name]] for name in frame}
    shared = [(name, column[0]) for name, column in columns.items() if len(set(column)) == 1]
    varying = {name: column for name, column in columns.items() if len(set(column)) > 1}
    return Common(shared, list(varying), [list(row) for row in zip(*varying.values(), strict=True)])


def settings_of(frame: pd.DataFrame) -> list[str]:
    """The columns of a runs frame that are settings; of trainings that were only watched, those that are known."""
    named = ["lr" if name == "optim.lr" else name for name, _ in settings()]
    known_ones = ("model", "lr", "collapse.") if watched(frame).all() else ""
    return [name for name in named if name in frame and name.startswith(known_ones)]


def _labelled(name: str, value: object) -> str:
    return shown(value).removeprefix("builtin:") if name == "model" else f"{name} {shown(value)}"


def _step(row: Mapping[str, Any], name: str) -> int | None:
    return int(row[name]) if known(row, name) else None
