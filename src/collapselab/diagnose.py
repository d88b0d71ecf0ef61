"""An audit of any text: which samples of a file are degenerate, by which rules. Knows no tokenizer and no model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from scipy.special import betaincinv  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from collapselab.config import Collapse
from collapselab.errors import InputError
from collapselab.metrics import repetition_metrics
from collapselab.records import Value
from collapselab.verdicts import MIN_TOKENS, SampleVerdict, count_visible, judge_sample

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int]], str]

JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
_JSON_LINES_HINT = 'one object a line, with "text" or "token_ids" (a list of whole numbers from 0 on)'


@dataclass(frozen=True)
class Diagnosis:
    """One sample: where it stands ("tokens 0-199", "line 3"), its ids, verdict and metrics."""

    place: str
    token_ids: tuple[int, ...]
    verdict: SampleVerdict
    metrics: Mapping[str, Value]


@dataclass(frozen=True)
class Audit:
    """All samples of a file, and the share that is degenerate of those long enough to be judged.

    `interval` is Clopper-Pearson's at 95 %; it and `degenerate_share` are `None` if no sample could be judged.
    """

    samples: tuple[Diagnosis, ...]
    num_judged: int
    num_degenerate: int
    degenerate_share: float | None
    interval: tuple[float, float] | None
    kinds: Mapping[str, int]


def diagnose(
    path: Path,
    encode: Encode,
    decode: Decode | None,
    thresholds: Collapse,
    window: int = 200,
    *,
    ids_are_known: bool = True,
) -> Audit:
    """The audit of a file: plain text in windows of `window` tokens, or one sample a line (.jsonl, .ndjson).

    Windows are disjoint; what is left at the end is a sample too. A line's `token_ids` go before its `text`.

    Args:
        path: the file.
        encode: from text to token ids.
        decode: from token ids to text; `None`: the white-space rule is skipped.
        thresholds: the rules' settings.
        window: tokens a window of plain text, at least 100: shorter samples cannot be judged.
        ids_are_known: whether `decode` can read the `token_ids` of a file; if not, they are judged without it.

    Raises:
        InputError: no such file, not UTF-8, empty, a broken line (with its number), or a window under 100.
    """
    if window < MIN_TOKENS:
        raise InputError(
            f"windows need at least {MIN_TOKENS} tokens to be judged, received {window}", "the default is 200"
        )
    text = _read(path)
    samples = _lines(path, text, encode) if path.suffix in JSON_LINES_SUFFIXES else _windows(encode(text), window)
    return audit(
        tuple(
            diagnose_ids(place, ids, decode if is_text or ids_are_known else None, thresholds)
            for place, ids, is_text in samples
        )
    )


def diagnose_ids(place: str, ids: list[int], decode: Decode | None, thresholds: Collapse) -> Diagnosis:
    """The diagnosis of one sample."""
    metrics = repetition_metrics(ids)
    visible = None if decode is None else count_visible(ids, decode)
    return Diagnosis(place, tuple(ids), judge_sample(ids, thresholds, visible, metrics), metrics)


def audit(samples: tuple[Diagnosis, ...]) -> Audit:
    """The totals of samples already diagnosed."""
    judged = [sample.verdict for sample in samples if sample.verdict.degenerate is not None]
    kinds = Counter(verdict.kind for verdict in judged if verdict.kind is not None)
    num_degenerate = sum(verdict.degenerate is True for verdict in judged)
    return Audit(
        samples=samples,
        num_judged=len(judged),
        num_degenerate=num_degenerate,
        degenerate_share=num_degenerate / len(judged) if judged else None,
        interval=clopper_pearson(num_degenerate, len(judged)),
        kinds=dict(kinds.most_common()),
    )


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """The exact interval of a binomial share; `None` for no trials.

    Competing definitions: Wilson's is narrower, but may cover less than its confidence at shares near 0.

    Reference: Clopper and Pearson 1934.
    """
    assert 0 <= successes <= trials, (successes, trials)
    if trials == 0:
        return None
    tail = (1 - confidence) / 2
    # scipy.special and not scipy.stats, whose import alone takes most of a second.
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", "give the path of a text or JSON-lines file"
        ) from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte {error.start} is {raw[error.start]:#04x}", "save it as UTF-8"
        ) from None
    if not text.strip():
        raise InputError(f"{path} is empty", "there is nothing to diagnose")
    return text


def _windows(ids: list[int], window: int) -> Iterator[tuple[str, list[int], bool]]:
    for start in range(0, len(ids), window):
        cut = ids[start : start + window]
        yield f"tokens {start}-{start + len(cut) - 1}", cut, True


def _lines(path: Path, text: str, encode: Encode) -> Iterator[tuple[str, list[int], bool]]:
    """(place, ids, whether they were encoded here) of each line."""
    # Not str.splitlines: it also cuts at separators such as U+2028, which JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            ids, is_text = _line_ids(f"{path}, line {number}", line, encode)
            yield f"line {number}", ids, is_text


def _line_ids(where: str, line: str, encode: Encode) -> tuple[list[int], bool]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error.msg} at column {error.colno}", _JSON_LINES_HINT) from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is not an object, received {type(value).__name__}", _JSON_LINES_HINT)
    record = cast(dict[str, Any], value)
    if "token_ids" in record:
        return _token_ids(where, record["token_ids"]), False
    if "text" not in record:
        received = ", ".join(map(repr, record)) or "no keys"
        raise InputError(f'{where} has neither "text" nor "token_ids", received {received}', _JSON_LINES_HINT)
    if not isinstance(record["text"], str):
        raise InputError(f'{where}: "text" must be text, received {record["text"]!r}', _JSON_LINES_HINT)
    return encode(record["text"]), True


def _token_ids(where: str, value: Any) -> list[int]:
    rule = f'{where}: "token_ids" must be a list of whole numbers from 0 to 2^32 - 1'
    if not isinstance(value, list):
        raise InputError(f"{rule}, received {type(value).__name__}", _JSON_LINES_HINT)
    for position, token in enumerate(cast(list[Any], value)):
        # bool is an int in Python, and no token.
        if type(token) is not int or not 0 <= token < 2**32:
            raise InputError(f"{rule}, received {token!r} at position {position}", _JSON_LINES_HINT)
    return cast(list[int], value)
