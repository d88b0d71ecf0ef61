"""What the figures show, in words and figures: their captions, and what a reader gets who cannot see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from collapselab.analysis.survival import Frame, median_onset
from collapselab.collapse.numbers import label, unit
from collapselab.collapse.words import EVENTS, MARKED_EVENTS
from collapselab.config.schema import split_at_commas
from collapselab.report.barcode import judged_samples, repeat_lengths
from collapselab.report.curves import run_series
from collapselab.report.loss_curves import training_series, validation_series
from collapselab.report.plans import LossPlan, OnsetPlan
from collapselab.report.schema import loop
from collapselab.report.theme import short
from collapselab.rundir.frames import Runs


def of_loop(table: Frame) -> str:
    """Figure 1."""
    boxes = ". ".join(f"{box.heading.split('  ')[1]}: {'; '.join(box.facts)}" for box in loop(table))
    return f"One step of the loop in {_runs(table)}. {boxes}. Then the next step begins."


def of_losses(runs: Runs, plan: LossPlan) -> str:
    """Figures 2 and 4, and the one of arms."""
    table, layout = plan.table, plan.layout
    texts = " and ".join(table["text"].unique())
    validation = validation_series(runs, table)
    training = training_series(runs, table)
    curves = f"learning rate ({', '.join(layout.curves)})" if layout.ordered else f"arm ({'; '.join(layout.curves)})"
    endings = ", ".join(f"{number} {words}" for words, number in table["ending"].value_counts().items())
    return (
        f"Validation loss on {texts} (above) and training loss (below) in nats per token against step, a curve for "
        f"each {curves}: {_runs(table)}. Lines are means over seeds until the first of their runs ends, bands 95 % "
        f"t-intervals, thin lines single runs after that. "
        f"Validation loss starts at {_range(_ends(validation, 0))} and ends at {_range(_ends(validation, -1))}; "
        f"training loss starts at {_range(_ends(training, 0))} and ends at {_range(_ends(training, -1))}. "
        f"Runs end after {_range(table['last_step'], 0)} steps: {endings}.{plan.left_out}"
    )


def of_sizes(plan: OnsetPlan) -> str:
    """Figure 3."""
    parts = [f"{panel.title}: {_medians(panel.table, panel.legend)}" for panel in plan.panels]
    every = pd.concat([panel.table for panel in plan.panels]).drop_duplicates("run")
    return (
        f"Step of onset against model size for {_runs(every)}; bars are medians over seeds with 95 % bootstrap "
        f"intervals, triangles runs without onset. {_fates(every)} Median step of onset {'. '.join(parts)}."
    )


def of_survival(plan: OnsetPlan) -> str:
    """The survival curves."""
    every = pd.concat([panel.table for panel in plan.panels])
    medians = "; ".join(f"{panel.title}: {_medians(panel.table, panel.legend, ', ')}" for panel in plan.panels)
    return (
        f"Share of runs without onset of collapse against step, with 95 % bands (Kaplan-Meier), for {_runs(every)}. "
        f"{_fates(every)} Median step of onset in {medians}.{plan.left_out}"
    )


def of_one_run(steps: Frame, row: Mapping[str, Any]) -> str:
    """The anatomy of a collapse."""
    first_text = split_at_commas(str(row["data"]))[0]
    changes: list[str] = []
    for name in ("train_nll_nats", f"val_nll_nats[{first_text}]", "seq_rep_4", "entropy_nats"):
        for at, values in run_series(steps, name).values():
            ends = f"{values[0]:.2f} at step {at[0]:.0f} to {values[-1]:.2f} at step {at[-1]:.0f}"
            changes.append(f"{label(name)} from {ends} ({unit(name)})")
    return f"{_run_words(row)}. {_sentence('; '.join(changes))}. {_event_words(row)}"


def of_barcode(samples: Frame, row: Mapping[str, Any]) -> str:
    """The text barcode."""
    judged = judged_samples(samples, row)
    first, last = judged.iloc[0], judged.iloc[-1]
    shares = [
        float(np.mean(repeat_lengths(ids) >= 4)) if ids else 0.0 for ids in (first["token_ids"], last["token_ids"])
    ]
    return (
        f"{_run_words(row)}: each row is the sample of one step, from step {first['step']} (top) to {last['step']}, "
        f"each column a token position. Tokens are coloured where they repeat earlier text of the same sample, "
        f"darker in longer passages. The share of tokens in repeated passages of at least 4 tokens goes from "
        f"{shares[0]:.0%} in the first row to {shares[1]:.0%} in the last. {_event_words(row)}"
    )


def _runs(table: Frame) -> str:
    """How many runs, of which models and seeds."""
    seeds = table["seed"].nunique()
    models = list(dict.fromkeys(table["model_label"]))
    return f"{_counted(len(table), 'run')} of {', '.join(models)} with {_counted(seeds, 'seed')}"


def _run_words(row: Mapping[str, Any]) -> str:
    return f"One run ({row['run']}): {row['model']}, learning rate {short(row['lr'])}, seed {row['seed']}"


def _event_words(row: Mapping[str, Any]) -> str:
    marked = [name for name in MARKED_EVENTS if not bool(pd.isna(row.get(name)))]
    known = [f"{EVENTS[name].label} at step {int(row[name])}" for name in marked]
    return _sentence(f"{', '.join(known)}.") if known else "No onset of collapse."


def _fates(table: Frame) -> str:
    onsets = int(table["is_event"].sum())
    censored = len(table) - onsets
    return f"{onsets} of {_counted(len(table), 'run')} had an onset" + (
        f", {censored} had none (censored)." if censored else "."
    )


def _medians(table: Frame, legend: str, separator: str = "; ") -> str:
    """The median onset of each curve; of each model in it where there are several."""
    by_model = table["model_label"].nunique() > 1 and legend != "model"
    parts: list[str] = []
    for curve, runs in table.groupby("curve", sort=False):
        groups = runs.groupby("model_label", sort=False) if by_model else [("", runs)]
        steps = [f"{model} {_median(part)}".strip() for model, part in groups]
        parts.append(f"{curve if legend == 'model' else f'{legend} {curve}'}: {', '.join(steps)}")
    return separator.join(parts)


def _median(runs: Frame) -> str:
    median = median_onset(runs["duration"].to_numpy(), runs["is_event"].to_numpy()).estimate
    return "not reached" if median is None else f"{median:.0f}"


def _ends(series: Mapping[str, tuple[Any, Any]], index: int) -> list[float]:
    return [float(values[index]) for _, values in series.values()]


def _range(values: Sequence[float] | Any, digits: int = 2) -> str:
    known = [float(value) for value in values if not math.isnan(value)]
    low, high = (f"{end:.{digits}f}" for end in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
