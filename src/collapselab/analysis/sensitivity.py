"""How onset moves when a threshold of collapse moves: the rules again, on recorded metrics, with other thresholds.

The rules are those of `verdicts` and the fold is that of `collapse`, on whole columns at once, since a report judges
hundreds of thousands of steps anew; tests hold both to those functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.comparisons import unguarded
from collapselab.analysis.survival import Frame, onset_step
from collapselab.collapse.rules import LESS_SEQ_REP_4, MIN_TOKENS, seq_rep_4_bound
from collapselab.config.schema import Collapse
from collapselab.rundir.frames import Runs

METRICS = ("num_tokens", "seq_rep_4", "loop_period", "loop_span", "match_entropy_nats", "top_token_share")
LOSS = "train_nll_nats"
COLUMNS = (*METRICS, LOSS, "reasons", "degenerate")
# What `low-diversity` looks at; runs of earlier versions did not record it.
DIVERSITY = ("entropy_drop_nats", "distinct_4_share")
# Rules that recorded metrics do not tell of, kept as recorded or left out (low-diversity: in runs without `DIVERSITY`).
RECORDED_RULES = ("whitespace", "template", "counting", "stutter", "melted", "low-diversity")
MOVED = (
    "seq_rep_4",
    "seq_rep_4_short",
    "seq_rep_4_per_doubling",
    "loop_copies",
    "loop_share",
    "match_entropy_nats",
    "top_token_share",
    "frozen_nll_nats",
)
SHARES = ("seq_rep_4", "seq_rep_4_short", "loop_share", "top_token_share", "distinct_4_share")  # 1 at most
# Thresholds that no sample reaches leave a rule out.
LEFT_OUT = {
    "seq_rep_4": {"seq_rep_4": math.inf, "seq_rep_4_short": math.inf},
    "loop": {"loop_share": math.inf},
    "match_entropy": {"match_entropy_nats": -math.inf},
    "top_token_share": {"top_token_share": math.inf},
    "frozen": {"frozen_nll_nats": -math.inf},
}

FACTORS = {"−20 %": 0.8, "+20 %": 1.2}

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """Thresholds, and which of the recorded rules count."""

    thresholds: Collapse
    recorded: tuple[str, ...] = RECORDED_RULES


@dataclass(frozen=True)
class Variation:
    """One change of the rules: which setting, how, and the rules it makes of others."""

    setting: str
    change: str
    apply: Callable[[Rules], Rules]


@dataclass(frozen=True)
class JudgedRun:
    """A run that can be judged anew: its metrics and recorded rules by name, and the rules it was judged by."""

    metrics: Mapping[str, Floats]
    broken: Mapping[str, Bools]
    rules: Rules

    @property
    def tells_diversity(self) -> bool:
        """Whether `low-diversity` can be judged by other thresholds too."""
        return set(DIVERSITY) <= set(self.metrics)


def judged_runs(runs: Runs) -> list[JudgedRun]:
    """The runs that can be judged anew from their steps.

    Those on their own text without safeguards, judged by one training sample a step, of which every step is recorded
    and whose recorded verdicts come out again by the recorded thresholds.
    """
    if not set(COLUMNS) <= set(runs.steps.columns):
        return []
    settings, steps = unguarded(cast(Frame, runs.runs)), cast(Frame, runs.steps)
    is_plain = (settings["collapse.source"] == "stream") & (settings["train.source"] == "own")
    rows = cast(list[dict[str, Any]], settings[is_plain & (settings["generate.batch_size"] == 1)].to_dict("records"))
    columns = [*COLUMNS, *(name for name in DIVERSITY if name in steps.columns)]
    steps_of = dict(list(steps[["run", "step", *columns]].groupby("run", sort=False)))
    found = (_judged_run(row, steps_of[row["run"]]) for row in rows if row["run"] in steps_of)
    return [run for run in found if run is not None]


def variations(*, tells_diversity: bool = False) -> list[Variation]:
    """Every threshold a fifth lower and higher, every rule left out, and other windows and patience.

    `tells_diversity`: also the thresholds of `low-diversity`, which not every run can be judged by.
    """
    names = [*MOVED, *(DIVERSITY if tells_diversity else ())]
    moved = [Variation(name, words, _scaled(name, factor)) for name in names for words, factor in FACTORS.items()]
    left_out = [Variation(f"rule {name}", "left out", _changed(values)) for name, values in LEFT_OUT.items()]
    left_out += [Variation(f"rule {name}", "left out", _without(name)) for name in RECORDED_RULES]
    sizes = [
        Variation(name, words, _resized(name, factor))
        for name in ("window", "patience")
        for words, factor in {"halved": 0.5, "doubled": 2.0}.items()
    ]
    return [*moved, *left_out, *sizes]


def onset_with(run: JudgedRun, rules: Rules) -> int | None:
    """The onset of a run by these rules; `None` if there is none up to its last step."""
    judged, degenerate = verdicts(run, rules)
    return onset_step(np.flatnonzero(judged), degenerate[judged], rules.thresholds.window, rules.thresholds.patience)


def verdicts(run: JudgedRun, rules: Rules) -> tuple[Bools, Bools]:
    """For each step whether it can be judged, and whether it is degenerate (`verdicts.judge_step`)."""
    t = rules.thresholds
    tokens, seq_rep_4, period, span, entropy, top = (run.metrics[name] for name in METRICS)
    is_long = tokens >= MIN_TOKENS
    # Of each length once: a run has few.
    bounds = {length: seq_rep_4_bound(length, t) for length in set(tokens[is_long].tolist())}
    bound = np.array([bounds.get(length, math.inf) for length in tokens.tolist()])
    by_sample = (
        (seq_rep_4 >= bound)
        | (span >= np.maximum(np.nan_to_num(period) * t.loop_copies, t.loop_share * tokens))
        | ((entropy <= t.match_entropy_nats) & (seq_rep_4 >= bound - LESS_SEQ_REP_4))
        | (top >= t.top_token_share)
    )
    degenerate = (by_sample & is_long) | (run.metrics[LOSS] <= t.frozen_nll_nats)
    for name in set(rules.recorded) & set(run.broken):
        degenerate |= _is_alike(run, t) if name == "low-diversity" and run.tells_diversity else run.broken[name]
    return is_long | degenerate, degenerate


def _is_alike(run: JudgedRun, thresholds: Collapse) -> Bools:
    drop, share = (run.metrics[name] for name in DIVERSITY)
    return (drop >= thresholds.entropy_drop_nats) | (share <= thresholds.distinct_4_share)


def _judged_run(row: Mapping[str, Any], steps: Frame) -> JudgedRun | None:
    if not np.array_equal(steps["step"].to_numpy(dtype=int), np.arange(len(steps))):
        return None
    known = {name: value for name, value in row.items() if name.startswith("collapse.") and not pd.isna(value)}
    thresholds = Collapse.model_validate({name.removeprefix("collapse."): value for name, value in known.items()})
    told = DIVERSITY if set(DIVERSITY) <= set(steps.columns) and steps[list(DIVERSITY)].notna().any(axis=None) else ()
    metrics = {name: steps[name].to_numpy(dtype=float) for name in (*METRICS, LOSS, *told)}
    reasons: list[Any] = [found if isinstance(found, list) else () for found in steps["reasons"]]
    broken = {name: np.array([name in found for found in reasons], dtype=bool) for name in RECORDED_RULES}
    run = JudgedRun(metrics, broken, Rules(thresholds))
    judged, degenerate = verdicts(run, run.rules)
    recorded = steps["degenerate"].to_numpy(dtype=object)
    is_known = steps["degenerate"].notna().to_numpy()
    is_same = np.array_equal(is_known, judged) and np.array_equal(recorded[judged].astype(bool), degenerate[judged])
    return run if is_same else None


def _changed(values: Mapping[str, float]) -> Callable[[Rules], Rules]:
    return lambda rules: Rules(rules.thresholds.model_copy(update=dict(values)), rules.recorded)


def _without(name: str) -> Callable[[Rules], Rules]:
    return lambda rules: Rules(rules.thresholds, tuple(rule for rule in rules.recorded if rule != name))


def _scaled(name: str, factor: float) -> Callable[[Rules], Rules]:
    def apply(rules: Rules) -> Rules:
        value = getattr(rules.thresholds, name) * factor
        return _changed({name: min(1.0, value) if name in SHARES else value})(rules)

    return apply


def _resized(name: str, factor: float) -> Callable[[Rules], Rules]:
    return lambda rules: _changed({name: max(1, int(getattr(rules.thresholds, name) * factor))})(rules)
