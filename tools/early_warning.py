"""results/early-warning: chooses the alarms on some seeds of the stored runs, and judges them on the others.

python tools/early_warning.py runs/builtin runs/sampler runs/smollm2 runs/sampler-line --out results/early-warning

The folders are told apart by what is in them; the rules are those of results/early-warning/README.md.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from collapselab.analysis.evidence import gather
from collapselab.analysis.lead_time import (
    Course,
    Performance,
    Rule,
    Series,
    alarm_rule,
    either,
    false_alarms,
    leads,
    on_spans,
    performance,
    roc_area,
    series_of,
)
from collapselab.collapse.warning import SIGNALS, Alarm
from collapselab.rundir.frames import read_runs

CHOOSING_SEEDS = (3, 4)
MAX_FALSE_PER_1000 = 0.5
# An extra name is read for the rules of others.
NAMES = (*SIGNALS, "seq_rep_3")


def groups_of(folders: Sequence[Path]) -> dict[str, list[Series]]:
    """The runs by the group that the rules name them by."""
    groups: dict[str, list[Series]] = {}
    for folder in folders:
        for part in sorted(path for path in folder.iterdir() if path.is_dir()) if has_groups(folder) else [folder]:
            if part.name not in ("controls", "equal-updates"):
                groups[f"{folder.name}/{part.name}" if part != folder else folder.name] = series_of(
                    gather(read_runs(part)), NAMES
                )
    return groups


def has_groups(folder: Path) -> bool:
    """Whether runs are one folder further down."""
    return not any((path / "steps.jsonl").exists() for path in folder.iterdir())


def grid(signal: str, direction: int) -> Iterator[Alarm]:
    """All settings of an alarm on one signal, thresholds apart."""
    for statistic, unit, baseline in product(("ewma", "cusum"), ("level", "spread"), (5, 8, 10, 15, 20)):
        weights = (0.1, 0.2, 0.3) if statistic == "ewma" else ((0.05, 0.1) if unit == "level" else (0.5, 1.0, 1.5))
        for weight in weights:
            yield Alarm(signal, direction, statistic, unit, weight, 1.0, baseline)


THRESHOLDS = {
    ("ewma", "level"): (0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7),
    ("ewma", "spread"): (0.8, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7),
    ("cusum", "level"): (0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6),
    ("cusum", "spread"): (3, 4, 5, 7, 10, 14, 20, 30, 40),
}


def choose(signal: str, direction: int, sets: Sequence[list[Series]], course: Course) -> tuple[float, Alarm] | None:
    """The alarm with the largest mean lead of those with few false alarms, and that lead."""
    healthy = [series for part in sets for series in part if series.course == "healthy"]
    ended = [[series for series in part if series.course == course] for part in sets]
    best: tuple[float, Alarm] | None = None
    for base in grid(signal, direction):
        for threshold in THRESHOLDS[base.statistic, base.unit]:
            rule = alarm_rule("", alarm := replace(base, threshold=threshold))
            alarms, steps = false_alarms(rule, healthy)
            if alarms.sum() > MAX_FALSE_PER_1000 * steps.sum() / 1000:
                continue
            means = [
                float((leads(rule, part)[0] / np.array([max(1.0, s.onset or 0) for s in part])).mean())
                for part in ended
                if part
            ]
            if best is None or np.mean(means) > best[0]:
                best = float(np.mean(means)), alarm
    return best


def entropy_below(name: str, bound: float, patience: int, warm_up: int) -> Rule:
    """Warns once the entropy is below a bound at `patience` steps in a row."""

    def spans(series: Series) -> Any:
        value_T = series.values["entropy_nats"]
        known = np.isfinite(value_T) & (np.arange(len(value_T)) >= warm_up)
        is_low = value_T[known] < bound
        return on_spans(series.step_T[known], is_low, ~is_low, patience)

    return Rule(name, spans, warm_up)


def mean_entropy(name: str, bound: float, share: float, window: int) -> Rule:
    """Warns while the mean entropy of the last `window` steps is below a bound, or a share of that of the first."""

    def spans(series: Series) -> Any:
        value_T = series.values["entropy_nats"]
        known = np.isfinite(value_T)
        value_N, step_N = value_T[known], series.step_T[known]
        if len(value_N) <= window:
            return ()
        means = np.convolve(value_N, np.ones(window) / window)[window : len(value_N)]
        is_low = (means < bound) | (means < share * value_N[:window].mean())
        return on_spans(step_N[window:], is_low, ~is_low, 1)

    return Rule(name, spans, window)


def share_above(name: str, signal: str, bound: float) -> Rule:
    """Warns while a share of the step's sample is at least a bound."""

    def spans(series: Series) -> Any:
        known = np.isfinite(series.values[signal])
        is_high = series.values[signal][known] >= bound
        return on_spans(series.step_T[known], is_high, ~is_high, 1)

    return Rule(name, spans, 0)


OTHERS = (
    entropy_below("rlwatch", 1.0, 25, 20),
    mean_entropy("post-training toolkit", 1.0, 0.5, 30),
    share_above("trainsafe (4-grams > 0.30)", "seq_rep_4", np.nextafter(0.30, 1)),
    share_above("TRL's 3-grams ≥ 0.50", "seq_rep_3", 0.50),
    alarm_rule("entropy −15 %, EWMA 0.3", Alarm("entropy_nats", -1, "ewma", "level", 0.3, 0.15, 5)),
)


def split(groups: dict[str, list[Series]]) -> tuple[list[list[Series]], dict[str, list[Series]]]:
    """The runs that choose, and those held out, by group."""
    choosing: list[list[Series]] = []
    held_out: dict[str, list[Series]] = {}
    for name, runs in groups.items():
        if name in ("builtin/own-text", "sampler/sampler-map", "pure-sampling"):
            choosing.append([series for series in runs if series.seed in CHOOSING_SEEDS])
        if not name.startswith("smollm2") and "second-seeds" not in name:
            runs = [series for series in runs if series.seed not in CHOOSING_SEEDS]
        held_out[name] = runs
    return choosing, held_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--choose", action="store_true", help="only choose, and look at nothing that is held out")
    parser.add_argument("--out", type=Path, default=Path("results/early-warning"))
    given = parser.parse_args()
    choosing, held_out = split(groups_of(given.folders))
    for part in choosing:
        print({kind: sum(s.course == kind for s in part) for kind in ("collapsing", "melting", "healthy")})
    if given.choose:
        show_choice(choosing)


def show_choice(choosing: Sequence[list[Series]]) -> None:
    for name, signal in SIGNALS.items():
        print(name, signal.needs, choose(name, signal.direction, choosing, "collapsing"), flush=True)
    print("melting", choose("entropy_nats", 1, choosing, "melting"))


if __name__ == "__main__":
    main()
