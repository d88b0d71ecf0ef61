"""How much human text the rules flag, by genre and length: what stands beside the share of a corpus."""

from __future__ import annotations

from collections.abc import Mapping

GROUPS = ("prose", "code", "tables")
# Of windows of a length under the builtin tokenizer, held-out half (results/rules/human-half-1.csv, short-half-1.csv).
FLAGGED: dict[int, tuple[float, float, float]] = {
    20: (0.0006, 0.009, 0.002),
    50: (0.0013, 0.0131, 0.0),
    80: (0.0011, 0.0143, 0.0),
    100: (0.0056, 0.0292, 0.0119),
    200: (0.0023, 0.0198, 0.0114),
    512: (0.0029, 0.0253, 0.0257),
    1024: (0.0025, 0.0453, 0.0571),
}


def nearest_length(num_tokens: int) -> int:
    """The longest measured length that a text reaches; the shortest for shorter texts."""
    return max((length for length in FLAGGED if length <= num_tokens), default=min(FLAGGED))


def expected_shares(lengths: Mapping[int, int]) -> dict[str, float]:
    """The share that the rules would flag of human text with these numbers of texts per `nearest_length`."""
    total = sum(lengths.values())
    if not total:
        return {}
    return {
        group: sum(FLAGGED[length][i] * count for length, count in lengths.items()) / total
        for i, group in enumerate(GROUPS)
    }
