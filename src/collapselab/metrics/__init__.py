"""All metrics in one table: what each needs, what that costs, and its number as `steps.jsonl` records it.

A metric listed here is recorded whenever its group is computed, listed by `collapselab metrics`, and drawn if it names
a panel; tests/policy prints the line that the docs need.
"""

from __future__ import annotations

from collapselab.metrics.distributions import ON_DEMAND
from collapselab.metrics.kinds import NEEDS, Group, Metric, Needs, Window
from collapselab.metrics.matches import match_lengths
from collapselab.metrics.of_model import OF_MODEL
from collapselab.metrics.of_sample import OF_SAMPLE
from collapselab.metrics.of_window import OF_WINDOW
from collapselab.metrics.reference import BINS, Reference
from collapselab.metrics.repetition import Ids, entropy_of_matches, find_loop
from collapselab.records import Value

__all__ = [
    "BINS",
    "METRICS",
    "NEEDS",
    "ON_DEMAND",
    "Group",
    "Metric",
    "Needs",
    "Reference",
    "Window",
    "repetition_metrics",
    "that_need",
    "window_metrics",
]

METRICS: dict[str, Metric] = OF_SAMPLE | OF_WINDOW | OF_MODEL


def that_need(needs: Needs) -> dict[str, Metric]:
    """The metrics of one group, in the order of the table."""
    return {name: metric for name, metric in METRICS.items() if metric.needs == needs}


def repetition_metrics(ids: Ids) -> dict[str, Value]:
    """Every metric of a sample alone; match lengths and loops are computed once.

    CPU time measured on a Xeon core: 1.5 ms for 200 tokens, 5 ms for 1024.
    """
    lengths = match_lengths(ids)
    shared: dict[str, Value] = {
        "match_entropy_nats": entropy_of_matches(lengths),
        "longest_repeat": max(lengths) if lengths else None,
    }
    loop = find_loop(ids, tolerant=True)
    if loop is not None:
        shared |= {"loop_period": loop.period, "loop_span": loop.span}
        shared |= {"loop_copies": loop.copies, "loop_at_end": loop.at_end}
    functions = {name: metric.function for name, metric in METRICS.items() if metric.needs == "sample"}
    return {name: shared[name] if name in shared else f(ids) for name, f in functions.items() if f is not None}


def window_metrics(window: Window) -> dict[str, Value]:
    """Every metric of several samples."""
    functions = {name: metric.function for name, metric in METRICS.items() if metric.needs == "window"}
    return {name: f(window) for name, f in functions.items() if f is not None}
