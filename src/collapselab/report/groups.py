"""Groups runs into arms, and labels what distinguishes the arms."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

import pandas as pd

from collapselab.analysis.comparisons import CARRIED_OUT, LOOKING, condition, num_parameters
from collapselab.analysis.survival import Frame, onset_times
from collapselab.collapse.words import ENDED_BY, JUDGED_TEXTS, TRAINING_SOURCES
from collapselab.report.describe import settings_of
from collapselab.report.values import readable, short
from collapselab.rundir.frames import Runs

NO_ARM = ("seed", *CARRIED_OUT, *LOOKING)
FIRST = ("model", "train.source", "lr")  # settings that distinguish arms, if they suffice
UNFINISHED = "unfinished"
_tables: dict[int, Frame] = {}


def run_table(runs: Runs) -> Frame:
    """`make_run_table`, made once per `Runs`: every figure and table starts from it."""
    if id(runs) not in _tables:
        _tables[id(runs)] = make_run_table(runs)
        weakref.finalize(runs, _tables.pop, id(runs), None)
    return _tables[id(runs)]


def make_run_table(runs: Runs) -> Frame:
    """The rows of `runs.runs` with at least one step, and the columns that figures and tables of many runs need.

    Further columns: `duration` and `is_event` of `survival.onset_times`; `size`, the model's number of parameters (NaN:
    unknown), and `model_label`; `arm`, equal for runs that differ only in the seed or in settings that do not affect
    training; `rest`, the same without model and learning rate; `arm_label` and `rest_label`, their differences in
    words; `ending`; `last_step`, from the records.
    """
    steps, every, onsets = (
        cast(Frame, runs.steps),
        cast(Frame, runs.runs),
        cast(Frame, onset_times(runs).set_index("run")),
    )
    last = steps.groupby("run")["step"].max()
    frame = every[every["run"].isin(last.index)].reset_index(drop=True)
    sizes = num_parameters(frame)
    labels = _model_labels(dict(zip(frame["model"].astype(str), sizes, strict=True)))
    names = [name for name in settings_of(frame) if not name.startswith(NO_ARM)]
    ended_by = frame["ended_by"].astype(object).where(frame["ended_by"].notna(), UNFINISHED)
    return frame.assign(
        duration=frame["run"].map(onsets["duration"]),
        is_event=frame["run"].map(onsets["is_event"]).astype(bool),
        lr=frame["lr"].astype(float),
        size=sizes,
        model_label=frame["model"].map(labels),
        arm=condition(frame, LOOKING),
        rest=condition(frame, (*LOOKING, "model", "lr")),
        arm_label=_labels(frame, names, labels),
        rest_label=_labels(frame, [name for name in names if name not in ("model", "lr")], labels),
        ending=ended_by.replace({word: shown.label for word, shown in ENDED_BY.items()}),
        last_step=frame["run"].map(last).astype(int),
    )


def rest_labels(table: Frame) -> list[str]:
    """The settings, except model and learning rate, that distinguish the rows of a part of a `run_table`, in words."""
    names = [name for name in settings_of(table) if not name.startswith((*NO_ARM, "model", "lr"))]
    return _labels(table, names, dict(zip(table["model"], table["model_label"], strict=True)))


def count(number: float) -> str:
    """A number of parameters in short: 0.56 M, 124 M, 1.6 B."""
    value, unit = (number / 1e9, "B") if number >= 1e9 else (number / 1e6, "M")
    return f"{value:.{3 if value >= 100 else 2}g} {unit}"


def _labels(frame: Frame, names: Sequence[str], models: Mapping[str, str]) -> list[str]:
    """The settings that distinguish the rows, in words; as few as suffice."""
    values = frame.reindex(columns=list(names)).astype(str)
    chosen: list[str] = []
    num_groups = 1
    for name in sorted(names, key=lambda name: (*FIRST, name).index(name)):
        num_now = len(values[[*chosen, name]].drop_duplicates())
        if num_now > num_groups:
            chosen, num_groups = [*chosen, name], num_now
    columns = [[_words(name, value, models) for value in frame[name]] for name in chosen]
    return [", ".join(column[i] for column in columns if column[i]) for i in range(len(frame))]


def _words(name: str, value: Any, models: Mapping[str, str]) -> str:
    match name:
        case "model":
            return models[value]
        case "lr":
            return f"learning rate {short(value)}"
        case "train.source":
            return TRAINING_SOURCES[value]
        case "train.other_model" | "train.real_text" if pd.isna(value):
            return ""  # the source of the text says so already
        case "train.other_model":
            return f"by {models.get(value, value)}"
        case "collapse.source":
            return JUDGED_TEXTS[value]
        case _ if name.startswith("sampling."):  # as `samplers.sampler_in_words`
            plain = name.removeprefix("sampling.").replace("_", "-")
            return f"no {plain}" if pd.isna(value) else f"{plain} {readable(value)}"
        case _:
            shown = readable(value).replace("\n", "⏎")
            return f"{name} {shown or '(empty)'}"


def _model_labels(sizes: Mapping[str, float]) -> dict[str, str]:
    """Short names, with the number of parameters if it is known; the last part of a folder if that is unique."""
    names = {model: PurePath(model.removeprefix("builtin:")).name or model for model in sizes}
    if len(set(names.values())) < len(sizes):
        names = {model: model for model in sizes}
    return {
        model: names[model] if pd.isna(size) else f"{names[model]} ({count(size)})" for model, size in sizes.items()
    }
