"""H6: does the loop collapse on text that is not its own? Every threshold here is decided in advance."""

from __future__ import annotations

from collections.abc import Sequence

from collapselab.analysis.comparisons import CONTROL, LOOKING, condition, distinct, unguarded
from collapselab.analysis.evidence import Finding, Material, missing
from collapselab.analysis.intervals import share_interval, share_test
from collapselab.analysis.survival import Frame
from collapselab.analysis.trend import log_rank_trend

MOST_SHARE, RARE_SHARE = 1 / 2, 0.10
KINDS = {"real": "real text", "other": "another model's text", "frozen": "the text of a frozen copy of the same model"}


def controls_do_not_collapse(material: Material, kinds: Sequence[str]) -> Finding:
    """The share of control runs that collapse, of those seen for as long as own-text runs needed; the worst kind's.

    Controls train on real text, on another model's, or on that of a frozen copy of the same model, beside own-text runs
    with all other settings equal. For each kind there are two tests: the log-rank test against these runs, by strata
    of the other settings, seeds as clusters; and the exact test that fewer than half of the controls collapse. The
    claim is about all kinds, so the p-value is the largest. Against it speaks the exact test that more than a tenth of
    a kind collapse, corrected for the number of kinds.

    Controls are judged by probes; where own-text runs were too, only those are compared with.
    """
    seen = distinct(unguarded(material.runs), judged_by="probe")
    is_self = (seen["train.source"] == "other") & (seen["train.other_model"] == seen["model"])
    seen = seen.assign(kind=seen["train.source"].mask(is_self, "frozen"))
    seen = seen.assign(stratum=condition(seen, (*LOOKING, *CONTROL)))
    parts = {kind: _beside_own(seen, kind) for kind in kinds}
    absent = [KINDS[kind] for kind in kinds if parts[kind].empty]
    if absent:
        return missing(f"needs runs on {' and on '.join(absent)} beside own-text runs that collapse, settings equal")
    tests = [
        log_rank_trend(part["duration"], part["is_event"], part["kind"] == "own", part["stratum"], part["seed"])
        for part in parts.values()
    ]
    counts = {kind: _num_collapsed(part, kind) for kind, part in parts.items()}
    shares = [share_interval(*count) for count in counts.values()]
    worst = max(shares, key=lambda share: -1.0 if share.estimate is None else share.estimate)
    p_values = [test.p_value for test in tests]
    p_values += [share_test(*count, MOST_SHARE, is_more=False) for count in counts.values()]
    known = [p for p in p_values if p is not None]
    is_later = all(test.statistic is not None and test.statistic > 0 for test in tests)
    is_seen = all(n > 0 for _, n in counts.values())
    against = [share_test(*count, RARE_SHARE, is_more=True) for count in counts.values()]
    p_against = min(1.0, len(counts) * min(1.0 if p is None else p for p in against)) if is_seen else None
    used = seen[seen["run"].isin([run for part in parts.values() for run in part["run"]])]
    note = "; ".join(f"{hits} of {n} collapse on {KINDS[kind]}" for kind, (hits, n) in counts.items())
    if (used.loc[used["kind"] == "own", "collapse.source"] == "stream").any():
        note += "; own-text runs are judged by their training samples, controls by probes, which see onset later"
    p_for = max(known) if len(known) == len(p_values) else None
    return Finding(worst, p_for, p_against, int(is_later), len(used), used["seed"].nunique(), note)


def _beside_own(seen: Frame, kind: str) -> Frame:
    """The runs of a control and the own-text runs in the strata that have both, where an own-text run collapsed."""
    part = seen[seen["kind"].isin(["own", kind])]
    is_own, stratum = part["kind"] == "own", part["stratum"]
    is_probed = is_own & (part["collapse.source"] == "probe")
    part = part[~is_own | is_probed | ~is_probed.groupby(stratum).transform("any")]
    is_own, stratum = part["kind"] == "own", part["stratum"]
    has_collapse = (is_own & part["is_event"]).groupby(stratum).transform("any")
    return part[has_collapse & (~is_own).groupby(stratum).transform("any")]


def _num_collapsed(part: Frame, kind: str) -> tuple[int, int]:
    """How many control runs collapsed, of how many that did or were seen for as long as own-text runs needed."""
    own_onset = part["duration"].where((part["kind"] == "own") & part["is_event"])
    needed = own_onset.groupby(part["stratum"]).transform("max")
    control = part[(part["kind"] == kind) & (part["is_event"] | (part["duration"] >= needed))]
    return int(control["is_event"].sum()), len(control)
