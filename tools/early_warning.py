"""results/early-warning: chooses the alarms on some seeds of the stored runs, and judges them on the others.

python tools/early_warning.py runs/builtin runs/sampler runs/smollm2 runs/sampler-line --out results/early-warning

The folders are told apart by what is in them; the rules are those of results/early-warning/README.md.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.evidence import gather
from collapselab.analysis.intervals import Floats
from collapselab.analysis.lead_time import (
    Course,
    Rule,
    Series,
    alarm_rule,
    either,
    false_alarms,
    leads,
    performance,
    roc_area,
    series_of,
)
from collapselab.analysis.other_alarms import OTHERS
from collapselab.collapse.warning import SIGNALS, Alarm
from collapselab.report.theme import save_figure
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
        known: dict[int, tuple[Floats, Floats]] = {}
        for threshold in THRESHOLDS[base.statistic, base.unit]:
            rule = alarm_rule("", alarm := replace(base, threshold=threshold), known)
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


def split(groups: dict[str, list[Series]]) -> tuple[list[list[Series]], dict[str, list[Series]]]:
    """The runs that choose, and those held out, by group."""
    choosing: list[list[Series]] = []
    held_out: dict[str, list[Series]] = {}
    for name, runs in groups.items():
        if name in ("builtin/own-text", "sampler/sampler-map"):
            choosing.append([series for series in runs if series.seed in CHOOSING_SEEDS])
        if name == "pure-sampling":  # made to be healthy for long
            choosing.append([series for series in runs if series.course == "healthy"])
        if not name.startswith("smollm2") and "second-seeds" not in name:
            runs = [series for series in runs if series.seed not in CHOOSING_SEEDS]
        held_out[name] = runs
    # Two sweeps may hold one run to different steps: the longer one counts.
    longest: dict[tuple[str, int], Series] = {}
    for runs in held_out.values():
        for series in runs:
            former = longest.get((series.arm, series.seed))
            if former is None or len(series.step_T) > len(former.step_T):
                longest[series.arm, series.seed] = series
    kept = {id(series) for series in longest.values()}
    distinct = {name: [series for series in runs if id(series) in kept] for name, runs in held_out.items()}
    return choosing, {name: runs for name, runs in distinct.items() if runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--choose", action="store_true", help="only choose, and look at nothing that is held out")
    parser.add_argument("--out", type=Path, default=Path("results/early-warning"))
    given = parser.parse_args()
    choosing, held_out = split(groups_of(given.folders))
    counts = [{kind: sum(s.course == kind for s in part) for kind in COURSES} for part in choosing]
    print("runs that choose:", counts)
    chosen: dict[str, tuple[float, Alarm]] = {}
    for name, signal in SIGNALS.items():
        if (found := choose(name, signal.direction, choosing, "collapsing")) is not None:
            chosen[name] = found
            print(f"{found[0]:.3f} {found[1]}", flush=True)
    melting = choose("entropy_nats", 1, choosing, "melting")
    print("melting:", melting)
    if not given.choose:
        judge(chosen, melting, held_out, given.out)


COURSES: tuple[Course, ...] = ("collapsing", "melting", "healthy")
COLUMNS = (
    "rule", "needs", "runs", "collapsing", "lead", "lead_low", "lead_high", "lead_steps", "lead_steps_low",
    "lead_steps_high", "missed", "missed_low", "missed_high", "withdrawn", "healthy_steps", "false_per_1000",
    "false_low", "false_high", "healthy_runs", "healthy_runs_alarmed", "roc", "roc_low", "roc_high",
)  # fmt: skip


def judge(
    chosen: Mapping[str, tuple[float, Alarm]],
    melting: tuple[float, Alarm] | None,
    held_out: Mapping[str, list[Series]],
    out: Path,
) -> None:
    """Writes the table and the figures of the runs that are held out."""
    everything = [series for runs in held_out.values() for series in runs]
    best = {
        need: max(
            (found for name, found in chosen.items() if SIGNALS[name].needs in needs), key=lambda found: found[0]
        )[1]
        for need, needs in (("text", ("text",)), ("model", ("text", "model")))
    }
    text, model = alarm_rule("text alarm", best["text"]), alarm_rule("model alarm", best["model"])
    ours = {text: best["text"], model: best["model"], either("either", text, model): None}
    rows = [row(rule, alarm, "all held out", everything) for rule, alarm in ours.items()]
    rows += [row(rule, alarm, name, runs) for rule, alarm in ours.items() for name, runs in held_out.items()]
    for name, (_, alarm) in chosen.items():
        if alarm not in best.values():
            rows.append(row(alarm_rule(name, alarm), alarm, "all held out", everything))
    rows += [row(rule, None, "all held out", everything) for rule in OTHERS]
    if melting is not None:
        rows.append(row(alarm_rule("rising entropy", melting[1]), melting[1], "all held out", everything, "melting"))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: shown(value) for name, value in found.items()} for found in rows)
    print_table(rows)
    draw(rows, [text, model], everything, out)


def row(
    rule: Rule, alarm: Alarm | None, name: str, runs: Sequence[Series], course: Course = "collapsing"
) -> dict[str, object]:
    """One row of the table."""
    generator = np.random.default_rng(0)
    found = performance(rule, runs, generator, course)
    values: dict[str, object] = {
        "rule": rule.name,
        "needs": "" if alarm is None else f"{SIGNALS[alarm.signal].needs}: {alarm.signal}",
        "runs": name,
        "collapsing": found.lead.n,
        "withdrawn": found.withdrawn,
        "healthy_steps": found.num_healthy_steps,
        "healthy_runs": found.healthy_runs_alarmed.n,
        "healthy_runs_alarmed": found.healthy_runs_alarmed.estimate,
    }
    intervals = {
        "lead": found.lead, "lead_steps": found.lead_steps, "missed": found.missed, "false": found.false_per_1000,
        "roc": None if alarm is None or course == "melting" else roc_area(alarm, runs, generator),
    }  # fmt: skip
    for key, interval in intervals.items():
        estimate = "false_per_1000" if key == "false" else key
        values[estimate] = None if interval is None else interval.estimate
        values |= {f"{key}_{end}": None if interval is None else getattr(interval, end) for end in ("low", "high")}
    return values


def shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else value


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of results/early-warning/README.md."""

    def interval(found: Mapping[str, Any], name: str, low: str, digits: int) -> str:
        ends = [found[f"{low}_{end}"] for end in ("low", "high")]
        if found[name] is None:
            return "–"
        return f"{found[name]:.{digits}f}" + ("" if None in ends else f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]")

    print("| rule | runs | n | lead, share of the time to onset | lead, steps | missed | withdrawn | healthy steps |"
          " false alarms per 1,000 | ROC area |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for found in rows:
        cells = [
            found["rule"], found["runs"], found["collapsing"], interval(found, "lead", "lead", 2),
            interval(found, "lead_steps", "lead_steps", 0), interval(found, "missed", "missed", 2), found["withdrawn"],
            f"{found['healthy_steps']:,}", interval(found, "false_per_1000", "false", 2),
            interval(found, "roc", "roc", 2),
        ]  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")


def draw(rows: Sequence[Mapping[str, Any]], rules: Sequence[Rule], runs: Sequence[Series], out: Path) -> None:
    """The two figures: leads against false alarms, and the step of the warning against that of the onset."""
    points = pd.DataFrame(
        [found for found in rows if found["runs"] == "all held out" and found["rule"] != "rising entropy"]
    )
    x = alt.X("false_per_1000:Q", title="false alarms per 1,000 healthy steps").scale(type="symlog", constant=0.3)
    base = alt.Chart(points)
    marks = (
        base.mark_rule(opacity=0.4).encode(x, alt.Y("lead_low:Q", title=LEAD), alt.Y2("lead_high:Q"))
        + base.mark_rule(opacity=0.4).encode(alt.X("false_low:Q"), alt.Y("lead:Q"), alt.X2("false_high:Q"))
        + base.mark_point(filled=True, size=50).encode(x, alt.Y("lead:Q", title=LEAD))
        + base.mark_text(align="left", dx=6, dy=-6, fontSize=9).encode(x, alt.Y("lead:Q"), alt.Text("rule:N"))
    )
    goal = alt.Chart(pd.DataFrame([{"x": 0, "x2": 1, "y": 0.3, "y2": 1}])).mark_rect(opacity=0.12, color="green")
    marks = goal.encode(alt.X("x:Q"), alt.X2("x2:Q"), alt.Y("y:Q"), alt.Y2("y2:Q")) + marks
    save_figure(marks.properties(width=520, height=320), out, "lead-and-false-alarms")
    ended = [series for series in runs if series.course == "collapsing"]
    warned = pd.DataFrame(
        [
            {"alarm": rule.name, "onset": series.onset, "warning": series.onset - lead}
            for rule in rules
            for series, lead in zip(ended, leads(rule, ended)[0], strict=True)
            if lead > 0
        ]
    )
    line = pd.DataFrame([{"onset": at, "warning": at * part, "part": part} for at in (10, 600) for part in (1.0, 0.7)])
    axes = (
        alt.X("onset:Q", title="onset, step").scale(type="log"),
        alt.Y("warning:Q", title="warning, step").scale(type="log"),
    )
    cloud = alt.Chart(warned).mark_point(size=14, opacity=0.6).encode(*axes, alt.Color("alarm:N"))
    lines = alt.Chart(line).mark_line(strokeDash=[4, 3], color="gray").encode(*axes, alt.Detail("part:N"))
    save_figure((lines + cloud).properties(width=420, height=320), out, "warning-and-onset")


LEAD = "median lead, share of the time to onset"


if __name__ == "__main__":
    main()
