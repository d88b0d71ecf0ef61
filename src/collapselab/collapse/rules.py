"""Whether a sample and a step are degenerate: pure functions of token ids, text and losses, without torch.

Each rule is a function with a line in `SAMPLE_RULES` or in `judge_step`. Thresholds are settings (`config.Collapse`),
moved by a run's own start (`collapse.start`); results/rules says how they were chosen, docs/collapse.md what they miss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from collapselab.collapse.start import SHORT_TOKENS, Start, diversity_of, four_grams, seq_rep_4_growth
from collapselab.collapse.surface import counting_span, stutter_share
from collapselab.config.schema import Collapse
from collapselab.metrics import repetition_metrics
from collapselab.metrics.repetition import Ids, ngrams
from collapselab.records import Value

MIN_TOKENS = 100
UNDER_MIN_TOKENS = f"under_{MIN_TOKENS}_tokens"
SAMPLE_KINDS = ("whitespace", "single-token", "loop", "counting", "low-entropy")
LESS_SEQ_REP_4, _MAX_SEQ_REP_4 = 0.2, 0.95


@dataclass(frozen=True)
class SampleVerdict:
    """Whether a sample is degenerate (`None`: too short to say), by which rules, and of which kind."""

    degenerate: bool | None
    reasons: tuple[str, ...] = ()
    kind: str | None = None


@dataclass(frozen=True)
class StepVerdict:
    """The same of a step: its samples taken together, and what only a run's history can say.

    `entropy_drop_nats`, `distinct_4_share`: what `low-diversity` looks at (`diversity_change`); `None`: unknown.
    """

    degenerate: bool | None
    reasons: tuple[str, ...] = ()
    kind: str | None = None
    entropy_drop_nats: float | None = None
    distinct_4_share: float | None = None


def count_visible(ids: Ids, decode: Callable[[list[int]], str]) -> int:
    """The number of tokens whose text is not all white space."""
    is_visible = {token: bool(decode([token]).strip()) for token in set(ids)}
    return sum(is_visible[token] for token in ids)


@dataclass(frozen=True)
class Seen:
    """What the rules of a sample look at: its length and metrics, visible tokens and text (`None`: unknown)."""

    num_tokens: int
    values: Mapping[str, Value]
    visible_tokens: int | None = None
    text: str | None = None


def repeats(seen: Seen, thresholds: Collapse) -> bool:
    """`seq_rep_4` ≥ 0.80, 0.70 below 200 tokens, and more beyond (`start.seq_rep_4_growth`).

    Lists and code of 200 tokens reach 0.6 to 0.8, prose 0.4; a loop exceeds 0.9.
    """
    return _number(seen.values, "seq_rep_4") >= seq_rep_4_bound(seen.num_tokens, thresholds)


def seq_rep_4_bound(num_tokens: float, thresholds: Collapse) -> float:
    """The bound of `seq_rep_4` for a sample of this length."""
    if num_tokens < SHORT_TOKENS:
        return thresholds.seq_rep_4_short
    bound = thresholds.seq_rep_4 + seq_rep_4_growth(num_tokens, thresholds)
    return min(bound, max(_MAX_SEQ_REP_4, thresholds.seq_rep_4))


def loops(seen: Seen, thresholds: Collapse) -> bool:
    """The longest loop, of a period up to T / 3, spans three copies and a quarter of the sample.

    Reference: Holtzman et al. 2020 ask for three copies, at the sample's end.
    """
    period = 0.0 if seen.values["loop_period"] is None else _number(seen.values, "loop_period")
    min_span = max(thresholds.loop_copies * period, thresholds.loop_share * max(seen.num_tokens, MIN_TOKENS))
    return _number(seen.values, "loop_span") >= min_span


def is_predictable(seen: Seen, thresholds: Collapse) -> bool:
    """Match entropy ≤ 0.30 nats, and nearly as many repeated 4-grams as `repeats` asks for (0.2 fewer).

    The second condition since one long passage that stands twice, as in a licence, makes long matches: 0.17 nats with
    0.3 of repeated 4-grams.
    """
    min_seq_rep_4 = seq_rep_4_bound(seen.num_tokens, thresholds) - LESS_SEQ_REP_4
    return (
        _number(seen.values, "seq_rep_4") >= min_seq_rep_4
        and _number(seen.values, "match_entropy_nats") <= thresholds.match_entropy_nats
    )


def counts(seen: Seen, thresholds: Collapse) -> bool:
    """A loop but for numbers that go up or down by one step spans half of the text (`surface.counting_span`)."""
    return seen.text is not None and counting_span(seen.text) >= _COUNTING_SHARE


def stutters(seen: Seen, thresholds: Collapse) -> bool:
    """At least 0.4 of the words equal the word before (`surface.stutter_share`)."""
    return seen.text is not None and stutter_share(seen.text) >= _STUTTER_SHARE


# A numbered list of equal lines is human in a form or a table of contents, though not for half of a sample.
_COUNTING_SHARE, _STUTTER_SHARE = 0.5, 0.4

SAMPLE_RULES: dict[str, Callable[[Seen, Collapse], bool]] = {
    "seq_rep_4": repeats,
    "loop": loops,
    "match_entropy": is_predictable,
    "top_token_share": lambda seen, t: _number(seen.values, "top_token_share") >= t.top_token_share,
    "whitespace": lambda seen, t: seen.visible_tokens is not None and seen.visible_tokens < t.min_visible_tokens,
    "counting": counts,
    "stutter": stutters,
}


def unspaced(ids: Ids, decode: Callable[[list[int]], str]) -> list[int]:
    """The ids with each run of blanks (tokens of spaces and tabs, not of line ends) as its first token."""
    is_blank = {token: not decode([token]).strip(" \t") for token in set(ids)}
    if not any(is_blank.values()):
        return list(ids)
    return [token for i, token in enumerate(ids) if not (i and is_blank[token] and is_blank[ids[i - 1]])]


def judge_sample(
    ids: Ids,
    thresholds: Collapse,
    visible_tokens: int | None,
    metrics: Mapping[str, Value] | None = None,
    text: str | None = None,
    unspaced: Ids | None = None,
) -> SampleVerdict:
    """The verdict on one sample by `SAMPLE_RULES`; undefined (`None`) under 100 tokens.

    Args:
        ids: the sample without its prompt.
        thresholds: the rules' settings.
        visible_tokens: tokens that are not white space (`count_visible`); `None`: unknown, and the rule is skipped.
        metrics: `repetition_metrics(ids)`, where already known.
        text: the sample's text; `None`: unknown, and counting is not looked for.
        unspaced: the sample with each run of blanks as one token (`unspaced`): layout, which some tokenizers
            write a token a blank, is no repetition. `None`: unknown, and blanks count as other tokens do.
    """
    if len(ids) < MIN_TOKENS:
        return SampleVerdict(None, (UNDER_MIN_TOKENS,))
    if unspaced is not None and len(unspaced) < len(ids):
        ids, metrics = unspaced, None
    values = repetition_metrics(ids) if metrics is None else metrics
    return judge_seen(Seen(len(ids), values, visible_tokens, text), thresholds)


def judge_seen(seen: Seen, thresholds: Collapse) -> SampleVerdict:
    """The verdict by `SAMPLE_RULES` on what is known of a sample long enough to be judged."""
    reasons = tuple(name for name, is_broken in SAMPLE_RULES.items() if is_broken(seen, thresholds))
    return SampleVerdict(bool(reasons), reasons, sample_kind(reasons, seen.values.get("loop_period") == 1))


def _number(values: Mapping[str, Value], name: str) -> float:
    value = values[name]
    return float(value) if isinstance(value, (int, float)) else math.nan  # of a few tokens: no rule holds


def sample_kind(reasons: Sequence[str], is_period_1: bool) -> str | None:
    """The kind of a sample from the rules that it breaks and from whether its longest loop has period 1."""
    if not reasons:
        return None
    if "whitespace" in reasons:
        return "whitespace"
    # "a b a b …" has a top token share of .5 and is a loop of two tokens, not of one.
    if is_period_1 if "loop" in reasons else "top_token_share" in reasons:
        return "single-token"
    return next((kind for kind in ("loop", "counting") if kind in reasons), "low-entropy")


def judge_step(
    samples: Sequence[Ids],
    verdicts: Sequence[SampleVerdict],
    earlier_samples: Sequence[Ids],
    own_nll_nats: float | None,
    thresholds: Collapse,
    *,
    entropy_nats: float | None = None,
    start: Start | None = None,
    vocab_size: int | None = None,
) -> StepVerdict:
    """The verdict on a step: at least half of its samples are degenerate, or a rule of the step is broken.

    Args:
        samples: what the model wrote at this step.
        verdicts: `judge_sample` of each; an undefined one counts as not degenerate.
        earlier_samples: those of the window's earlier steps (`CollapseState.earlier_samples`).
        own_nll_nats: the loss on the model's own text per token; `None` where the step trains on other text.
        thresholds: the rules' settings.
        entropy_nats: mean entropy of the distributions that the samples were drawn from; `None` as for the loss.
        start: what the run's own start was; `None`: unknown, and nothing is compared with it.
        vocab_size: V; `None`: unknown.

    Undefined (`None`) if every sample is too short and no rule of the step is broken.
    """
    assert len(samples) == len(verdicts) > 0, (len(samples), len(verdicts))
    broken = [verdict for verdict in verdicts if verdict.degenerate]
    is_broken = 2 * len(broken) >= len(samples)
    reasons = list(dict.fromkeys(reason for verdict in broken for reason in verdict.reasons)) if is_broken else []
    drop, share = diversity_change([*earlier_samples, *samples], start)
    rules = {
        "frozen": own_nll_nats is not None and own_nll_nats <= thresholds.frozen_nll_nats,
        "melted": _is_melted(own_nll_nats, entropy_nats, start, vocab_size, thresholds),
        "template": _is_template(samples, earlier_samples, thresholds.template_share),
        "low-diversity": _is_alike(drop, share, thresholds),
    }
    of_step = [name for name, is_true in rules.items() if is_true]
    reasons += of_step
    if not reasons and all(verdict.degenerate is None for verdict in verdicts):
        return StepVerdict(None, (UNDER_MIN_TOKENS,), None, drop, share)
    kind = most_common([verdict.kind for verdict in broken]) if is_broken else None
    return StepVerdict(bool(reasons), tuple(reasons), kind or next(iter(of_step), None), drop, share)


def _is_melted(
    own_nll_nats: float | None,
    entropy_nats: float | None,
    start: Start | None,
    vocab_size: int | None,
    thresholds: Collapse,
) -> bool:
    """Entropy or own loss near ln V, that of a uniform guess, or far above both losses of step 0.

    The loss on human text is part of the second bound since a single sample of step 0 may happen to be a loop, with a
    loss far below what the model usually has. A model that begins near a uniform guess has not melted by training.
    """
    known = [value for value in (own_nll_nats, entropy_nats) if value is not None]
    if not known:
        return False
    near_uniform = math.inf if vocab_size is None else thresholds.melted_share * math.log(vocab_size)
    at_start = math.inf if start is None or start.nll_nats is None else start.nll_nats
    if near_uniform <= at_start < math.inf:
        return False
    return max(known) >= min(near_uniform, at_start + thresholds.melted_rise_nats)


def _is_alike(drop: float | None, share: float | None, thresholds: Collapse) -> bool:
    """Templates with open slots have an entropy of tokens 1.25 nats lower; shared phrases leave 0.6 of the 4-grams."""
    if drop is None or share is None:
        return False
    return drop >= thresholds.entropy_drop_nats or share <= thresholds.distinct_4_share


def diversity_change(samples: Sequence[Ids], start: Start | None) -> tuple[float | None, float | None]:
    """How much less diverse the latest samples are than the start's, as many of them, cut to one length.

    (entropy of the start's tokens, pooled, − that of the latest; distinct 4-grams, pooled, / those of the start).
    Unknown without samples of the start, before there are as many, and if one has under 100 tokens.
    """
    if start is None or not start.samples or len(samples) < len(start.samples):
        return None, None
    latest = tuple(tuple(ids) for ids in samples[-len(start.samples) :])
    length = min(map(len, latest + start.samples))
    if length < MIN_TOKENS:
        return None, None
    entropy_at_start, distinct_at_start = diversity_of(start.samples, length)
    entropy, distinct = diversity_of(latest, length)
    return entropy_at_start - entropy, distinct / distinct_at_start


def _is_template(samples: Sequence[Ids], earlier_samples: Sequence[Ids], share: float) -> bool:
    earlier = [four_grams(tuple(ids)) for ids in earlier_samples]
    num_copied = 0
    for ids in samples:
        if len(ids) < MIN_TOKENS:
            continue
        own, counts, num_grams = four_grams(tuple(ids)), Counter(ngrams(ids, 4)), len(ids) - 3
        # A quotient: 0.55 * 100 is a little more than 55.
        num_copied += any(sum(counts[gram] for gram in own & known) / num_grams >= share for known in earlier)
    return num_copied > 0 and 2 * num_copied >= len(samples)


def most_common(kinds: Sequence[str | None]) -> str | None:
    """The kind met most often, `None` if there is none."""
    # The newest wins a tie.
    counts = Counter(kind for kind in reversed(kinds) if kind is not None)
    return counts.most_common(1)[0][0] if counts else None
