"""Rules of other monitors, re-implemented plainly, to be judged on the same records (results/early-warning)."""

from __future__ import annotations

import numpy as np

from collapselab.analysis.lead_time import Rule, Series, Spans, alarm_rule, on_spans
from collapselab.collapse.warning import Alarm


def entropy_below(name: str, bound: float, patience: int, warm_up: int) -> Rule:
    """Warns once the entropy is below a bound at `patience` steps in a row."""

    def spans(series: Series) -> Spans:
        value_T = series.values["entropy_nats"]
        known = np.isfinite(value_T) & (np.arange(len(value_T)) >= warm_up)
        is_low = value_T[known] < bound
        return on_spans(series.step_T[known], is_low, ~is_low, patience)

    return Rule(name, spans, warm_up)


def mean_entropy(name: str, bound: float, share: float, window: int) -> Rule:
    """Warns while the mean entropy of the last `window` steps is below a bound, or a share of that of the first."""

    def spans(series: Series) -> Spans:
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

    def spans(series: Series) -> Spans:
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
