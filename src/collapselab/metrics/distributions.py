"""Two sets of texts compared as distributions of embeddings, and the diversity of one: on demand, not in a run.

Each is refused below the number of samples at which it means anything. Embeddings are rows (N, D), for example
those of `step.embeddings.embed`; values of different embeddings are not comparable.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from collapselab.errors import InputError

Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class OnDemand:
    """The least number of samples of a metric, the reason, and what it needs."""

    min_samples: int
    why: str
    needs: str


ON_DEMAND: dict[str, OnDemand] = {
    "mauve": OnDemand(
        1000,
        "clusters of few points differ by chance, and its value is biased upward",
        "pip install 'collapselab[mauve]'",
    ),
    "vendi_score": OnDemand(
        100, "it cannot exceed the number of samples, and of few it tells that number rather than their diversity", "–"
    ),
    "frechet_distance": OnDemand(
        1000, "covariances of few samples are singular, and its value is biased upward", "more samples than dimensions"
    ),
}


def mauve(samples_ND: Rows, human_ND: Rows, *, seed: int = 0) -> float:
    """MAUVE in (0, 1]: the area under the divergence frontier of two quantised distributions; 1 if they are equal.

    Biased upward, by less as samples grow: Pillutla et al. use 5,000 of each; compare equal numbers only. Competing
    definitions: the interpolated (MAUVE*) and smoothed variants; the scaling constant is 5, as in the paper.

    Raises:
        InputError: under 1,000 of either kind, numbers of unequal width, or the extra is not installed.

    Reference: Pillutla et al. 2021, 2023.
    """
    _check("mauve", samples_ND, human_ND)
    library: Any = _library("mauve", "mauve")
    found = library.compute_mauve(
        p_features=human_ND, q_features=samples_ND, seed=seed, verbose=False, mauve_scaling_factor=5
    )
    return float(found.mauve)


def vendi_score(samples_ND: Rows) -> float:
    """The effective number of different samples: e^entropy of the eigenvalues of their cosine similarities / N.

    1 if all are equal, N if all are orthogonal. Competing definitions: other similarities, and orders of entropy other
    than 1. Grows with N: compare equal numbers.

    Raises:
        InputError: under 100 samples, or one without direction (all 0).

    Reference: Friedman & Dieng 2023.
    """
    _check("vendi_score", samples_ND)
    norms_N = np.linalg.norm(samples_ND, axis=1)
    if not norms_N.all():
        raise InputError(
            "vendi_score needs a direction of each sample, received a row of zeros", "leave empty samples out"
        )
    unit_ND = samples_ND.astype(np.float64) / norms_N[:, None]
    # The similarities (N, N) and this matrix (D, D) have the same eigenvalues except zeros; the smaller is quicker.
    smaller = unit_ND @ unit_ND.T if len(unit_ND) <= unit_ND.shape[1] else unit_ND.T @ unit_ND
    shares = np.linalg.eigvalsh(smaller / len(unit_ND))
    shares = shares[shares > 1e-12]
    return math.exp(-float(np.sum(shares * np.log(shares))))


def frechet_distance(samples_ND: Rows, human_ND: Rows) -> float:
    """The Fréchet distance of two normal distributions with the means and covariances of the embeddings.

    |m - h|² + tr(S + H - 2 (S H)^(1/2)). Sees no higher moment, so a mode that is lost may go unnoticed. Biased upward:
    compare equal numbers. Competing definitions: its square root; the kernel distance, which has no bias.

    Raises:
        InputError: under 1,000 of either kind, no more samples than dimensions, or numbers of unequal width.

    Reference: Dowson & Landau 1982; Heusel et al. 2017 (FID); Semeniuta et al. 2018 (of text).
    """
    _check("frechet_distance", samples_ND, human_ND)
    width, fewest = samples_ND.shape[1], min(len(samples_ND), len(human_ND))
    if fewest <= width:
        raise InputError(
            f"frechet_distance needs more samples than the {width} dimensions, received {fewest}: "
            "else covariances are singular",
            "give more samples, or project the embeddings",
        )
    samples, human = samples_ND.astype(np.float64), human_ND.astype(np.float64)
    difference = samples.mean(0) - human.mean(0)
    s_DD, h_DD = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (samples, human))
    # The trace of (S H)^(1/2) is the sum of the roots of the eigenvalues of S^(1/2) H S^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(s_DD)
    root_DD = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root_DD @ h_DD @ root_DD).clip(min=0)).sum()
    return float(difference @ difference + np.trace(s_DD) + np.trace(h_DD) - 2 * cross)


def _check(name: str, *sets: Rows) -> None:
    kind = ON_DEMAND[name]
    for rows in sets:
        if rows.ndim != 2:
            raise InputError(f"{name} needs embeddings (N, D), received the shape {rows.shape}", "one row per sample")
        if len(rows) < kind.min_samples:
            raise InputError(
                f"{name} needs at least {kind.min_samples:,} samples, received {len(rows):,}: {kind.why}",
                "write more samples",
            )
    if len({rows.shape[1] for rows in sets}) > 1:
        raise InputError(
            f"{name} needs embeddings of one width, received {[rows.shape[1] for rows in sets]}",
            "embed both sets with one model",
        )


def _library(name: str, extra: str) -> Any:
    try:
        return cast(Any, importlib.import_module(name))
    except ImportError:
        raise InputError(f"{name} is not installed", f"pip install 'collapselab[{extra}]'") from None
