"""An audit in sentences: the verdict first, and what stands beside it."""

from __future__ import annotations

from collapselab.collapse.audit.human import expected_shares
from collapselab.collapse.audit.run import Audit
from collapselab.collapse.audit.tally import Tally, share_difference
from collapselab.collapse.words import percent

DOING = {
    "loop": ("loops", "loop"),
    "single-token": ("repeats one token", "repeat one token"),
    "whitespace": ("is white space", "are white space"),
    "counting": ("counts", "count"),
    "low-entropy": ("is repetitive without one loop", "are repetitive without one loop"),
    "template": ("copies the text before it", "copy the text before them"),
    "frozen": ("was written with certainty", "were written with certainty"),
    "low-diversity": ("is less diverse than the start", "are less diverse than the start"),
}
WHOLE_REASONS = {
    "template": "half of the texts or more are copies or near copies of others",
    "loop": "joined, the texts are one loop",
    "seq_rep_4": "joined, they repeat the same phrases",
    "match_entropy": "joined, nearly every token follows from the text before",
    "top_token_share": "joined, half of the tokens are one and the same",
    "whitespace": "joined, they are white space",
    "counting": "joined, they count",
    "stutter": "joined, they stutter",
}
BASELINES = {"reference": "the reference", "start": "its own start"}
_OPENING_SHARE = 0.05


def verdict_sentence(audit: Audit) -> str:
    """How many texts are degenerate, of which kinds, and from where on."""
    tally = audit.tally
    if tally.share is None or tally.interval is None:
        return f"none of {tally.num_samples:,} texts has the 20 tokens needed to be judged alone"
    noun = "windows" if set(audit.paths) == {""} and audit.is_ordered else "texts"
    low, high = tally.interval
    parts = [f"{tally.num_degenerate:,} of {tally.num_judged:,} {noun}, {percent(tally.share)} [{bounds(low, high)}]"]
    parts[0] += " degenerate"
    if tally.kinds:
        kinds = [f"{count:,} {DOING[kind][count > 1]}" for kind, count in tally.kinds.most_common()]
        parts[0] += ": " + ", ".join(kinds)
    if audit.likeness is not None and audit.likeness.openings:
        words, count = audit.likeness.openings[0]
        if count >= _OPENING_SHARE * audit.num_texts:
            parts.append(f"{count:,} begin with {words!r}")
    if audit.onset_row is not None:
        parts.append(f"onset at row {audit.onset_row:,}")
    return "; ".join(parts)


def whole_sentence(audit: Audit) -> str | None:
    """Whether the corpus as a whole is degenerate, and why; `None` if it is not."""
    if audit.whole is None or not audit.whole.degenerate:
        return None
    whole = audit.whole
    reasons = [WHOLE_REASONS[reason] for reason in whole.reasons if reason != "low-diversity"]
    if "low-diversity" in whole.reasons and whole.entropies and whole.distinct:
        (entropy, before), (distinct, distinct_before) = whole.entropies, whole.distinct
        reasons.append(
            f"it is less diverse than {BASELINES[whole.baseline or 'start']} (entropy of its tokens {entropy:.2f} "
            f"against {before:.2f} nats, distinct 4-grams {distinct:.2f} against {distinct_before:.2f})"
        )
    return "as a whole it is degenerate: " + "; ".join(reasons)


def human_sentence(audit: Audit) -> str | None:
    """What share of human text of the same lengths the rules flag."""
    shares = expected_shares(audit.lengths)
    if not shares:
        return None
    named = ", ".join(f"{percent(share)} of {group}" for group, share in shares.items())
    return f"of human text of these lengths the rules flag {named}"


def difference_sentence(tally: Tally, reference: Tally) -> str | None:
    """The difference between two shares, with its interval; `None` if one of them is unknown."""
    found = share_difference(tally, reference)
    if found is None:
        return None
    share, low, high = (100 * value for value in found)
    return (
        f"reference: {reference.num_degenerate:,} of {reference.num_judged:,}; "
        f"difference {share:+.1f} percentage points [{low:+.1f}, {high:+.1f}]"
    )


def bounds(low: float, high: float) -> str:
    """The bounds of a share in percent, to stand in brackets: 20, 49."""
    digits = 0 if high >= 0.0995 else 2
    return f"{100 * low:.{digits}f}, {100 * high:.{digits}f}"
