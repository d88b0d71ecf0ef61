"""Rules for samples of 20 to 99 tokens, as chats have them: too short for the rules of `rules.SAMPLE_RULES`.

Thresholds were chosen on one half of human text, and their false positives measured on the other (results/rules).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from collapselab.collapse.rules import SampleVerdict, Seen, sample_kind
from collapselab.collapse.surface import stutter_share
from collapselab.records import Value

MIN_SHORT_TOKENS = 20
_LOOP_COPIES, _LOOP_SHARE, _LOOP_TOKENS = 3.0, 0.5, 16
_SEQ_REP_2, _SEQ_REP_2_PER_DOUBLING = 0.6, 0.1
_TOP_TOKEN_SHARE = 0.6
_VISIBLE_SHARE = 0.2
_STUTTER_SHARE = 0.4


def _loops(seen: Seen) -> bool:
    """The longest loop has three copies, and spans half of the sample and 16 tokens."""
    period, span = _number(seen.values["loop_period"]), _number(seen.values["loop_span"])
    return span >= max(_LOOP_COPIES * period, _LOOP_SHARE * seen.num_tokens, _LOOP_TOKENS)


def _repeats(seen: Seen) -> bool:
    """`seq_rep_2` ≥ 0.60 at 20 tokens and 0.10 more per doubling: repeats add up with the length."""
    bound = _SEQ_REP_2 + _SEQ_REP_2_PER_DOUBLING * math.log2(max(1.0, seen.num_tokens / MIN_SHORT_TOKENS))
    return _number(seen.values["seq_rep_2"]) >= bound


def _is_white(seen: Seen) -> bool:
    return seen.visible_tokens is not None and seen.visible_tokens < _VISIBLE_SHARE * seen.num_tokens


SHORT_RULES: dict[str, Callable[[Seen], bool]] = {
    "seq_rep_2": _repeats,
    "loop": _loops,
    "top_token_share": lambda seen: _number(seen.values["top_token_share"]) >= _TOP_TOKEN_SHARE,
    "whitespace": _is_white,
    "stutter": lambda seen: seen.text is not None and stutter_share(seen.text) >= _STUTTER_SHARE,
}


def judge_short(seen: Seen) -> SampleVerdict:
    """The verdict on a sample of 20 to 99 tokens by `SHORT_RULES`."""
    assert seen.num_tokens >= MIN_SHORT_TOKENS or seen.visible_tokens is not None, seen
    reasons = tuple(name for name, is_broken in SHORT_RULES.items() if is_broken(seen))
    return SampleVerdict(bool(reasons), reasons, sample_kind(reasons, seen.values.get("loop_period") == 1))


def _number(value: Value) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan  # unknown: no rule holds
