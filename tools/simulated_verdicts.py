"""How often each verdict is wrong, in made-up worlds: writes the table of results/statistics.

python tools/simulated_verdicts.py FILE.csv [NUM_WORLDS [CLAIM ...]]

Each claim has worlds in which it is empty, in which it is true by the smallest effect that would bear it out, and in
which it is clearly true. Seeds, and models where they are the units, have effects of their own, so that runs that share
one are alike; arms differ in their scatter; some runs are censored, and one is missing. The worlds are arrays, given to
the functions that `collapselab.analysis` gives its runs to.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from collapselab.analysis.controls import MOST_SHARE, RARE_SHARE
from collapselab.analysis.intervals import Estimate, arm_mean, share_interval, share_test
from collapselab.analysis.losses import ALMOST_ZERO_SHARE, MIN_AGREEMENT, MIN_RISE_NATS, within_arms
from collapselab.analysis.onsets import MAX_TIME_RATIO
from collapselab.analysis.times import log_time_ratio, log_time_ratio_of_models
from collapselab.analysis.trend import log_rank_trend

NUM_WORLDS = 500  # of each kind in which a verdict may be wrong; a fifth of it where power is counted
NUM_CLAIMS = 9  # the strictest correction: Holm's for the first of them

Draw = np.random.Generator
Pair = tuple[float, float]  # the p-values for (1 if the effect is not as claimed) and against


def grid(*sizes: int) -> tuple[NDArray[np.int_], ...]:
    return tuple(axis.ravel() for axis in np.meshgrid(*map(np.arange, sizes), indexing="ij"))


def t_tests(found: Estimate, empty: float, smallest: float, sign: int) -> Pair:
    value = found.value or 0.0
    p_for, p_against = found.p_value(empty), found.p_value(smallest)
    is_as_claimed, is_short = sign * (value - empty) > 0, sign * (value - smallest) < 0
    return (p_for or 1.0 if is_as_claimed else 1.0), (p_against or 1.0 if is_short else 1.0)


def early_rise(draw: Draw, rise: float, num_seeds: int) -> Pair:
    """H1. Rises whose scatter doubles with the rate."""
    arm, seed = grid(4, num_seeds)
    values = rise + 0.02 * 2.0**arm * (draw.normal(0, 0.5, num_seeds)[seed] + draw.normal(size=len(arm)))
    kept = np.arange(len(arm)) != draw.integers(len(arm))
    return t_tests(arm_mean(values[kept], arm[kept], seed[kept])[0], 0.0, MIN_RISE_NATS, 1)


def rate_hastens(draw: Draw, ratio: float, num_seeds: int) -> Pair:
    """H2. Turns whose dependence on the rate differs from seed to seed, of two models; some are censored."""
    model, rate, seed = grid(2, 4, num_seeds)
    slope = draw.normal(math.log(ratio), 0.1, num_seeds)[seed]
    time = 240 * np.exp(draw.normal(0, 0.2, num_seeds)[seed] + slope * rate + draw.normal(0, 0.2, len(rate)))
    kept = np.arange(len(rate)) != draw.integers(len(rate))
    columns = (np.minimum(np.round(time), 300), time < 300, rate.astype(float), model, seed)
    return t_tests(log_time_ratio(*(column[kept] for column in columns)), 0.0, math.log(MAX_TIME_RATIO), -1)


def share_left(draw: Draw, share: float, num_seeds: int) -> Pair:
    """H3, H3b. Shares with normal logarithms."""
    arm, seed = grid(4, num_seeds)
    logs = math.log(share / ALMOST_ZERO_SHARE) + draw.normal(0, 0.3, num_seeds)[seed] + draw.normal(0, 0.3, len(arm))
    kept = np.arange(len(arm)) != draw.integers(len(arm))
    return t_tests(arm_mean(logs[kept], arm[kept], seed[kept])[0], 0.0, 0.0, -1)


def size_hastens(draw: Draw, ratio: float, num_models: int) -> Pair:
    """H4, H4b. Models of doubled size with effects of their own (20 %), at two rates, three seeds each."""
    model, rate, seed = grid(num_models, 2, 3)
    logs = model * math.log(ratio) + draw.normal(0, 0.2, num_models)[model] - 0.7 * rate
    time = 200 * np.exp(logs + draw.normal(0, 0.2, 3)[seed] + draw.normal(0, 0.2, len(model)))
    columns = (np.minimum(np.round(time) + 1, 400), time < 400, model.astype(float), model, rate)
    return t_tests(log_time_ratio_of_models(*columns)[0], 0.0, math.log(MAX_TIME_RATIO), -1)


def texts_agree(draw: Draw, correlation: float, num_seeds: int) -> Pair:
    """H5. Rises on two texts in eight arms, correlated; what the seeds share is correlated alike."""
    arm, seed = grid(8, num_seeds)
    other = math.sqrt(1 - correlation**2)
    shared, single = draw.normal(0, 0.2, (2, num_seeds)), draw.normal(0, 0.3, (2, len(arm)))
    first = shared[0, seed] + single[0]
    second = correlation * first + other * (shared[1, seed] + single[1])
    found, p_exact = within_arms(first, second, arm, seed)
    p_for, p_against = t_tests(found, 0.0, MIN_AGREEMENT, 1)
    return max(p_for, p_exact if (found.value or 0) > 0 else 1.0), p_against


def controls(draw: Draw, chance: float, num_seeds: int) -> Pair:
    """H6b, and each kind of H6. Two arms; controls collapse by that chance, then as late as own text does."""
    arm, seed, is_own = grid(2, num_seeds, 2)
    luck = draw.normal(0, 0.5, num_seeds)[seed] + draw.normal(size=len(arm))
    collapses = (is_own == 1) | (luck < math.sqrt(1.25) * NormalDist().inv_cdf(chance))
    time = np.where(collapses, np.round(30 * np.exp(draw.normal(0, 0.3, len(arm)))), 150)
    test = log_rank_trend(time, collapses, is_own.astype(float), arm, seed)
    hits, num = int(collapses[is_own == 0].sum()), int((is_own == 0).sum())
    p_for = max(test.p_value or 1.0, share_test(hits, num, MOST_SHARE, is_more=False) or 1.0)
    p_against = share_test(hits, num, RARE_SHARE, is_more=True) or 1.0
    return (p_for if (test.statistic or 0) > 0 else 1.0), p_against


# claims: how a world is made, the effects where it is empty, barely true and clearly true, numbers of units
WORLDS: dict[str, tuple[Callable[[Draw, float, int], Pair], tuple[float, float, float], tuple[int, ...]]] = {
    "H1": (early_rise, (0.0, MIN_RISE_NATS, 0.15), (3, 5)),
    "H2": (rate_hastens, (1.0, MAX_TIME_RATIO, 0.5), (3, 5)),
    "H3, H3b": (share_left, (0.1, 0.1, 0.03), (3, 5)),
    "H4, H4b": (size_hastens, (1.0, MAX_TIME_RATIO, 0.7), (5, 6, 8, 10)),
    "H5": (texts_agree, (0.0, math.sin(math.pi * MIN_AGREEMENT / 2), 0.98), (3, 5, 8)),
    "H6, H6b": (controls, (MOST_SHARE, RARE_SHARE, 0.005), (5,)),
}


def rows(num_worlds: int, keys: list[str]) -> Iterator[dict[str, object]]:
    """A row a claim, number of units and world: the shares of worlds with a p below, in per cent, exact intervals."""
    for key in keys:
        make, effects, units = WORLDS[key]
        for num_units in units:
            for truth, effect in zip(("empty", "smallest", "clear"), effects, strict=True):
                if truth == "smallest" and effect == effects[0]:
                    continue  # one bound for both
                num = num_worlds if truth != "clear" else max(1, num_worlds // 5)
                generator = np.random.default_rng([sum(map(ord, key)), num_units, round(1000 * effect)])
                found = np.array([make(generator, effect, num_units) for _ in range(num)])
                row: dict[str, object] = {"claim": key, "units": num_units, "world": truth, "effect": f"{effect:.3g}"}
                row |= {"worlds": num}
                for side, p_values in zip(("for", "against"), found.T, strict=True):
                    row[f"{side}, p < .05"] = per_cent(p_values < 0.05)
                    row[f"{side}, p < .05/{NUM_CLAIMS}"] = per_cent(p_values < 0.05 / NUM_CLAIMS)
                yield row


def per_cent(hits: NDArray[np.bool_]) -> str:
    share = share_interval(int(hits.sum()), len(hits))
    estimate, low, high = (100 * (end or 0) for end in (share.estimate, share.low, share.high))
    return f"{estimate:.1f} [{low:.1f}, {high:.1f}]"


def main(path: str, num_worlds: int = NUM_WORLDS, *keys: str) -> None:
    """Writes each row as soon as it is known."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows(num_worlds, list(keys) or list(WORLDS)):
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *([int(sys.argv[2])] if len(sys.argv) > 2 else []), *sys.argv[3:])
