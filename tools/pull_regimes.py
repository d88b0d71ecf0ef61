"""Does the pull H(p) - H(q) order the regimes better than KL(q‖p)? Exploratory (docs/sampler.md).

python tools/pull_regimes.py FOLDER [FOLDER ...]

The first folder is the one that thresholds and constants are chosen on (the map); others are judged by them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from collapselab import load_runs
from collapselab.analysis.sampler import arms
from collapselab.analysis.survival import Frame

BOUNDS = np.round(np.arange(-0.5, 0.5, 0.005), 3)


def best_bound(regime: Frame, pull: Frame, name: str, sign: int) -> float:
    """The pull above (sign 1) or below which most arms are judged rightly; the median of equally good ones."""
    right = np.array([((regime == name) == (sign * pull > sign * bound)).mean() for bound in BOUNDS])
    return float(np.median(BOUNDS[right == right.max()]))


def law(frozen: Frame, pull: str) -> Frame:
    """log(onset × relative update × pull), constant where onset = C / (update × pull); NaN without a pull to freeze."""
    return np.log(
        np.maximum(frozen["onset"], 0.5) * frozen["relative_update_norm"] * frozen[pull].where(frozen[pull] > 0)
    )


def known_arms(folders: list[Path]) -> Frame:
    table: Frame = pd.concat([arms(load_runs(folder)) for folder in folders])
    return table[table["pull_nats"].notna()]


def main(chosen_on: Path, *others: Path) -> None:
    """Prints the bounds, and for both groups the share of arms judged rightly and the error of the law."""
    chosen = known_arms([chosen_on])
    freeze, melt = (best_bound(chosen["regime"], chosen["pull_nats"], *end) for end in (("freeze", 1), ("melt", -1)))
    print(f"freeze above {freeze:+.3f} nats, melt below {melt:+.3f} nats")
    frozen = chosen[chosen["regime"] == "freeze"]
    constants = {name: law(frozen, name).mean() for name in ("sharpening_nats", "pull_nats")}
    for name, table in {"chosen on": chosen, **({"others": known_arms(list(others))} if others else {})}.items():
        regime, value = table["regime"], table["pull_nats"]
        said = np.select([value > freeze, value < melt], ["freeze", "melt"], "drift")
        print(f"{name}: {(said == regime).sum()} of {len(table)} arms judged rightly")
        for arm, is_said, is_found, pull in zip(table["arm"], said, regime, value, strict=True):
            if is_said != is_found:
                print(f"  {arm}: pull {pull:+.3f}, said {is_said}, is {is_found}")
        for measure, constant in constants.items():
            error = np.abs(np.exp(constant - law(table[regime == "freeze"], measure)) - 1)
            words = f"onset = {np.exp(constant):.3g} / (update × {measure})"
            print(f"  {words}: median error {100 * np.nanmedian(error):.0f} %")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
