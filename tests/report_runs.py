"""Run directories for tests of the report: small, with readable texts, and with texts that want to break a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collapselab.config.overrides import override
from collapselab.config.presets import demo
from collapselab.inputs.tokenizers import builtin_tokenizer
from collapselab.metrics import repetition_metrics
from collapselab.records import Record, Sample
from fake_runs import write_run

LOOP = "and so it went on "
HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '<img src="https://example.org/x.png" onerror="window.pwned = 2"><svg onload="window.pwned = 3">',
    "a \u202eright to left\u202c b\u2066c\u2069",
    "NUL \x00, escape \x1b[31m, bell \x07",
    "lone \ud800 and \udc00 surrogates",
    "<!-- <script> ]]> &lt;b&gt; {{ 7 * 7 }} </textarea></style></title>",
    "x" * 30_000,
    "\u2028line\u2029paragraph\ufeff",
    "",
    "\n" * 150,
)


def readable_run(
    path: Path,
    *,
    onset: int | None = 6,
    num_steps: int = 12,
    texts: Sequence[str] | None = None,
    is_finished: bool = True,
    settings: dict[str, object] | None = None,
    environment: dict[str, object] | None = None,
    tokens_per_sample: int = 1,
) -> Path:
    """A run of the demo's settings; a step's sample is `texts[step]`, or words that turn into a loop at the onset."""
    config = override(demo(), settings or {})
    texts = texts or [make_text(step, onset) for step in range(num_steps)]
    records = [
        Record(s, make_step(s, onset, config.data), (Sample((s,) * tokens_per_sample, texts[s]),))
        for s in range(num_steps)
    ]
    summary = make_summary(onset, num_steps, config.data) if is_finished else None
    environment = environment or {"python": "3.11.7", "packages": {"torch": "2.13.0"}, "cpu": "a processor"}
    return write_run(path, config, records, summary=summary, environment=environment)


def token_run(path: Path, texts: Sequence[str]) -> Path:
    """A finished run whose samples are tokens of the shipped models, with their ends and their true metrics."""
    tokenizer, config = builtin_tokenizer(), demo()
    records: list[Record] = []
    for step, text in enumerate(texts):
        ids = tokenizer.encode(text)
        written, ends = tokenizer.decode_with_ends(ids)
        values = make_step(step, None, config.data) | repetition_metrics(ids)
        records.append(Record(step, values, (Sample(tuple(ids), written, "train", ends),)))
    return write_run(path, config, records, summary=make_summary(None, len(texts), config.data))


def make_summary(onset: int | None, num_steps: int, texts: Sequence[str]) -> dict[str, Any]:
    first, last = (make_step(step, onset, texts)["train_nll_nats"] for step in (0, num_steps - 1))
    total = None if onset is None else min(onset + 4, num_steps - 1)
    return {
        "ended_by": "budget" if onset is None else "collapse",
        "fate": "healthy" if onset is None else "total-collapse",
        "onset_step": onset,
        "total_collapse_step": total,
        "kind_at_end": None if onset is None else "loop",
        "last_step": num_steps - 1,
        "num_steps": num_steps,
        "train_nll_first": first,
        "train_nll_last": last,
    }


def make_step(step: int, onset: int | None, texts: Sequence[str]) -> dict[str, Any]:
    is_collapsed = onset is not None and step >= onset
    values: dict[str, Any] = {
        "step": step,
        "train_nll_nats": 0.2 if is_collapsed else 3.0 - 0.1 * step,
        "num_tokens": 200,
    }
    for i, text in enumerate(texts):
        values |= {f"val_nll_nats[{text}]": 3.0 + i + 0.05 * step, f"val_nll_se[{text}]": 0.04}
    values |= {"val_nll_nats": 3.0 + 0.05 * step, "val_nll_se": 0.04, "entropy_nats": 0.3 if is_collapsed else 3.1}
    values |= {"seq_rep_4": 0.9 if is_collapsed else 0.05, "loop_span": 180 if is_collapsed else 4, "loop_period": 5}
    values |= {"update_norm": 0.5, "match_entropy_nats": 0.1 if is_collapsed else 2.0}
    values |= {
        "degenerate": is_collapsed,
        "reasons": ["loop"] if is_collapsed else [],
        "kind": "loop" if is_collapsed else None,
    }
    share = 0.0 if onset is None else min(1.0, max(0.0, (step - onset + 4) / 8))
    return values | {"degenerate_share": share, "seconds_update": 0.1}


def make_text(step: int, onset: int | None) -> str:
    if onset is not None and step >= onset:
        return f"step {step}: " + LOOP * 30
    return f"step {step}: " + " ".join(f"word{step}x{i}" for i in range(60))
