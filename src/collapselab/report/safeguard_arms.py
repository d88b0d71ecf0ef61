"""The arms of a comparison of safeguards, for its table and figures: judged once, named, and ranked."""

from __future__ import annotations

import weakref
from typing import Any

from collapselab.analysis.safeguard_runs import LOWER_RATE, NONE, PURE, Family, families
from collapselab.analysis.safeguards import BEYOND, DELAYS, NO_ONSET, table
from collapselab.analysis.survival import Frame
from collapselab.report.values import short
from collapselab.rundir.frames import Runs

BEST = 5
_LASTING = (NO_ONSET, f"{NO_ONSET}, {BEYOND}")
_known: dict[int, tuple[Frame, list[Family]]] = {}


def judged(runs: Runs) -> tuple[Frame, list[Family]]:
    """`safeguards.table` with a column `name`, and the families it is made of; made once per `Runs`."""
    if id(runs) not in _known:
        every = families(runs)
        found: Frame = table(every)
        if len(found):
            found = found.assign(name=[arm_in_words(arm) for arm in found["arm"]])
        _known[id(runs)] = found, every
        weakref.finalize(runs, _known.pop, id(runs), None)
    return _known[id(runs)]


def shown_family(runs: Runs) -> tuple[Frame, Family] | None:
    """The rows and runs of the family with the most arms, for figures; `None` if nothing is compared."""
    found, every = judged(runs)
    if not every:
        return None
    first = every[0].reference.iloc[0]
    return found[(found["model"] == first["model"]) & found["arm"].isin(every[0].rows["arm"])], every[0]


def arm_in_words(arm: str) -> str:
    """The name of an arm in a figure."""
    if arm.startswith(f"{LOWER_RATE}("):
        return f"rate {short(float(arm[len(LOWER_RATE) + 1 : -1]))}"
    return {NONE: "no safeguard", PURE: "pure sampling"}.get(arm, arm)


def num_lasting(rows: Frame) -> int:
    """How many safeguards have an arm of which no run has an onset."""
    others = _safeguards(rows)
    return int(others.loc[others["verdict"].isin(_LASTING), "kind"].nunique())


def _safeguards(rows: Frame) -> Frame:
    return rows[~rows["kind"].isin([NONE, PURE, LOWER_RATE])]


def best_arms(rows: Frame) -> list[str]:
    """The best safeguards, one arm each, of which it is said that they delay beyond their steps, or have no onset.

    No onset comes first, among these the smaller rise of human loss at step 200; then the larger delay. Pure sampling,
    `none` and lower rates are beside them anyway.
    """
    others = _safeguards(rows)
    is_good = others["verdict"].isin([*_LASTING, f"{DELAYS} {BEYOND}"])
    others = others[is_good].assign(has_onset=others["num_onsets"] > 0, minus_delay=-others["delay"].astype(float))
    lasting = others["rise_200"].where(~others["has_onset"])
    ordered: Any = others.assign(order=lasting.fillna(0.0)).sort_values(
        ["has_onset", "order", "minus_delay"], kind="stable"
    )
    return ordered.drop_duplicates("kind")["arm"].tolist()[:BEST]
