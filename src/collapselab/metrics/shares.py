"""How sure a share is that was counted."""

from __future__ import annotations


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """The exact interval of a binomial share; `None` for no trials.

    Competing definitions: Wilson's is narrower, but may cover less than its confidence at shares near 0.

    Reference: Clopper and Pearson 1934.
    """
    assert 0 <= successes <= trials, (successes, trials)
    if trials == 0:
        return None
    # scipy.special and not scipy.stats, whose import alone takes most of a second.
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high
