"""Whether a sample and a step are degenerate: pure functions of token ids and losses, without torch.

Thresholds are settings (`config.Collapse`); docs/collapse.md gives their false-positive rates on human text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from collapselab.config.schema import Collapse
from collapselab.metrics import repetition_metrics
from collapselab.metrics.repetition import Ids, ngrams
from collapselab.records import Value

MIN_TOKENS = 100
SHORT_TOKENS = 200
UNDER_MIN_TOKENS = f"under_{MIN_TOKENS}_tokens"
SAMPLE_KINDS = ("whitespace", "single-token", "loop", "low-entropy")


@dataclass(frozen=True)
class SampleVerdict:
    """Whether a sample is degenerate (`None`: too short to say), by which rules, and of which kind."""

    degenerate: bool | None
    reasons: tuple[str, ...] = ()
    kind: str | None = None


@dataclass(frozen=True)
class StepVerdict:
    """The same of a step: its samples taken together, and what only a run's history can say."""

    degenerate: bool | None
    reasons: tuple[str, ...] = ()
    kind: str | None = None


def count_visible(ids: Ids, decode: Callable[[list[int]], str]) -> int:
    """The number of tokens whose text is not all white space."""
    is_visible = {token: bool(decode([token]).strip()) for token in set(ids)}
    return sum(is_visible[token] for token in ids)


def judge_sample(
    ids: Ids, thresholds: Collapse, visible_tokens: int | None, metrics: Mapping[str, Value] | None = None
) -> SampleVerdict:
    """The verdict on one sample; undefined (`None`) under 100 tokens.

    Args:
        ids: the sample without its prompt.
        thresholds: the rules' settings.
        visible_tokens: tokens that are not white space (`count_visible`); `None`: unknown, and the rule is skipped.
        metrics: `repetition_metrics(ids)`, where already at hand.

    Reference: Holtzman et al. 2020 ask for three copies of a loop; the other rules are calibrated on human text.
    """
    if len(ids) < MIN_TOKENS:
        return SampleVerdict(None, (UNDER_MIN_TOKENS,))
    values = repetition_metrics(ids) if metrics is None else metrics
    copies_span = thresholds.loop_copies * _number(values, "loop_period") if values["loop_period"] is not None else 0.0
    min_seq_rep_4 = thresholds.seq_rep_4_short if len(ids) < SHORT_TOKENS else thresholds.seq_rep_4
    rules = {
        "seq_rep_4": _number(values, "seq_rep_4") >= min_seq_rep_4,
        "loop": _number(values, "loop_span") >= max(copies_span, thresholds.loop_share * len(ids)),
        "match_entropy": _number(values, "match_entropy_nats") <= thresholds.match_entropy_nats,
        "top_token_share": _number(values, "top_token_share") >= thresholds.top_token_share,
        "whitespace": visible_tokens is not None and visible_tokens < thresholds.min_visible_tokens,
    }
    reasons = tuple(name for name, is_broken in rules.items() if is_broken)
    return SampleVerdict(bool(reasons), reasons, _sample_kind(reasons, values.get("loop_period") == 1))


def _number(values: Mapping[str, Value], name: str) -> float:
    value = values[name]
    assert isinstance(value, (int, float)), f"{name} of a sample of at least {MIN_TOKENS} tokens is {value!r}"
    return float(value)


def _sample_kind(reasons: Sequence[str], is_period_1: bool) -> str | None:
    if not reasons:
        return None
    if "whitespace" in reasons:
        return "whitespace"
    # "a b a b …" has a top token share of .5 and is a loop of two tokens, not of one.
    if is_period_1 if "loop" in reasons else "top_token_share" in reasons:
        return "single-token"
    return "loop" if "loop" in reasons else "low-entropy"


def judge_step(
    samples: Sequence[Ids],
    verdicts: Sequence[SampleVerdict],
    earlier_samples: Sequence[Ids],
    own_nll_nats: float | None,
    thresholds: Collapse,
) -> StepVerdict:
    """The verdict on a step: at least half of its samples are degenerate, or it is frozen, or a template.

    Args:
        samples: what the model wrote at this step.
        verdicts: `judge_sample` of each; an undefined one counts as not degenerate.
        earlier_samples: those of the window's earlier steps (`CollapseState.earlier_samples`).
        own_nll_nats: the loss on the model's own text per token; `None` where the step trains on other text.
        thresholds: the rules' settings.

    Undefined (`None`) if every sample is too short and the step is not frozen.
    """
    assert len(samples) == len(verdicts) > 0, (len(samples), len(verdicts))
    broken = [verdict for verdict in verdicts if verdict.degenerate]
    is_broken = 2 * len(broken) >= len(samples)
    reasons = list(dict.fromkeys(reason for verdict in broken for reason in verdict.reasons)) if is_broken else []
    is_frozen = own_nll_nats is not None and own_nll_nats <= thresholds.frozen_nll_nats
    is_template = _is_template(samples, earlier_samples, thresholds.template_share)
    reasons += ["frozen"] * is_frozen + ["template"] * is_template
    if not reasons and all(verdict.degenerate is None for verdict in verdicts):
        return StepVerdict(None, (UNDER_MIN_TOKENS,))
    kind = most_common([verdict.kind for verdict in broken]) if is_broken else None
    return StepVerdict(
        bool(reasons), tuple(reasons), kind or ("frozen" if is_frozen else "template" if is_template else None)
    )


def _is_template(samples: Sequence[Ids], earlier_samples: Sequence[Ids], share: float) -> bool:
    earlier = [set(ngrams(ids, 4)) for ids in earlier_samples]
    num_copied = 0
    for ids in samples:
        if len(ids) < MIN_TOKENS:
            continue
        grams = list(ngrams(ids, 4))
        # A quotient: 0.55 * 100 is a little more than 55.
        num_copied += any(sum(gram in known for gram in grams) / len(grams) >= share for known in earlier)
    return num_copied > 0 and 2 * num_copied >= len(samples)


def most_common(kinds: Sequence[str | None]) -> str | None:
    """The kind met most often, `None` if there is none."""
    # The newest wins a tie.
    counts = Counter(kind for kind in reversed(kinds) if kind is not None)
    return counts.most_common(1)[0][0] if counts else None
