"""Our rules for a sample beside those of other projects, on the same samples (results/detectors/).

    python tools/detectors.py TEXTS RECORDS

TEXTS is what `rules_texts.py` wrote; RECORDS are unpacked records of builtin runs (results/builtin/records.tar.xz). The
rules of others are written anew from their descriptions, with their default thresholds. Labels come from elsewhere than
from any of the rules: text is human, or of a model before training, or built, or has a loss under 0.2 nats per token.
"""

from __future__ import annotations

import csv
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from numpy.random import default_rng
from rules_cases import KINDS, Pool
from tokenizers import Tokenizer

from collapselab.collapse.audit.samples import Judge
from collapselab.config.schema import Collapse
from collapselab.metrics.shares import clopper_pearson

ROOT = Path(__file__).parents[1]
BUILTIN = ROOT / "src" / "collapselab" / "builtin"
TOKENS, PER_GENRE, PER_KIND, MAX_NLL_NATS = 200, 60, 8, 0.2
Ids = Sequence[int]
Detector = Callable[[str, Ids], bool]


def repeated_words(text: str, n: int) -> float:
    """1 - distinct n-grams of words / n-grams of words."""
    words = text.split()
    grams = list(zip(*(words[k:] for k in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def trl(text: str, ids: Ids) -> bool:
    """The repetition penalty of open-r1, used with TRL: share of repeated 3-grams of lower-case words; here ≥ 0.5.

    Reference: Yeo et al. 2025 (2502.03373), appendix C.2. It is a penalty and has no threshold of its own.
    """
    return repeated_words(text.lower(), 3) >= 0.5


def trainsafe(text: str, ids: Ids) -> bool:
    """trainsafe's repetition check: more than 0.3 of the 4-grams of words repeat an earlier one; 8 words at least."""
    return len(text.split()) >= 8 and repeated_words(text, 4) > 0.3


def longest_run(ids: Ids, period: int) -> int:
    """The most tokens in a row that equal the token a period before, with the first copy."""
    longest = run = 0
    for i in range(period, len(ids)):
        run = run + 1 if ids[i] == ids[i - period] else 0
        longest = max(longest, run)
    return longest + period


def vllm(text: str, ids: Ids) -> bool:
    """vLLM's repetition detection: a pattern of up to 20 tokens, four times in a row, at any time while writing.

    Its settings have no default.
    """
    return any(longest_run(ids, p) >= 4 * p for p in range(1, 21))


def olmo(text: str, ids: Ids) -> bool:
    """OLMo's filter of training instances: a pattern of up to 13 tokens, 32 times in a row."""
    return any(longest_run(ids, p) >= 32 * p for p in range(1, 14))


def _duplicate_parts(parts: list[str]) -> tuple[float, float]:
    """(share of parts that equal an earlier one, share of the characters in them)."""
    seen: set[str] = set()
    again = [part for part in parts if part in seen or seen.add(part)]
    return len(again) / max(1, len(parts)), sum(map(len, again)) / max(1, sum(map(len, parts)))


def gopher(text: str, ids: Ids) -> bool:
    """Gopher's repetition rules. Reference: Rae et al. 2021, table A1."""
    for parts in (text.split("\n"), text.split("\n\n")):
        share, characters = _duplicate_parts([part.strip() for part in parts if part.strip()])
        if share > 0.30 or characters > 0.20:
            return True
    words = text.split()
    total = max(1, sum(map(len, words)))
    for n, bound in ((2, 0.20), (3, 0.18), (4, 0.16)):
        counts = Counter(zip(*(words[k:] for k in range(n)), strict=False))
        gram, count = max(counts.items(), key=lambda item: item[1] * sum(map(len, item[0])), default=((), 0))
        if count > 1 and count * sum(map(len, gram)) / total > bound:
            return True
    for n, bound in zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True):
        counts = Counter(zip(*(words[k:] for k in range(n)), strict=False))
        inside = {i + k for i in range(len(words) - n + 1) if counts[tuple(words[i : i + n])] > 1 for k in range(n)}
        if sum(len(words[i]) for i in inside) / total > bound:
            return True
    return False


def data_juicer(text: str, ids: Ids) -> bool:
    """data-juicer's character and word repetition filters (10-grams, at most 0.5).

    Of characters: the share of the sqrt(number of distinct 10-grams) commonest that repeat. Of words: the share of
    10-grams that occur more than once.
    """
    characters = sorted(Counter(text[i : i + 10] for i in range(len(text) - 9)).values(), reverse=True)
    num_single = characters.count(1)
    num_common = min(int(len(characters) ** 0.5), len(characters) - num_single)
    if characters and sum(characters[:num_common]) / sum(characters) > 0.5:
        return True
    words = text.lower().split()
    counts = Counter(tuple(words[i : i + 10]) for i in range(len(words) - 9)).values()
    return bool(counts) and sum(c for c in counts if c > 1) / sum(counts) > 0.5


OTHERS: dict[str, Detector] = {
    "TRL's 3-gram share": trl, "Gopher": gopher, "vLLM": vllm, "OLMo": olmo, "trainsafe": trainsafe,
    "data-juicer": data_juicer,
}  # fmt: skip


def main() -> None:
    texts, records = map(Path, sys.argv[1:])
    tokenizer = Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))
    judge = Judge(
        lambda batch: [e.ids for e in tokenizer.encode_batch_fast(batch, add_special_tokens=False)],
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        Collapse(),
    )
    rows: list[dict[str, object]] = []
    for label, samples in labelled(texts, records, judge).items():
        decoded = [judge.decode(list(ids)) for ids in samples]
        arrays = judge.encode([list(ids) for ids in samples])
        ours = [judged.verdict.degenerate is True for judged in judge.judge_ids(arrays, decoded)]
        found = {"collapselab": ours} | {
            name: [detector(text, ids) for text, ids in zip(decoded, samples, strict=True)]
            for name, detector in OTHERS.items()
        }
        for name, flags in found.items():
            low, high = clopper_pearson(sum(flags), len(flags)) or (0.0, 1.0)
            counts = {"samples": len(flags), "flagged": sum(flags), "share": round(sum(flags) / len(flags), 4)}
            rows.append({"text": label, "detector": name} | counts | {"low": round(low, 4), "high": round(high, 4)})
        print(label, {name: f"{sum(flags)}/{len(flags)}" for name, flags in found.items()}, flush=True)
    out = ROOT / "results" / "detectors"
    out.mkdir(exist_ok=True)
    with (out / "league.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def labelled(texts: Path, records: Path, judge: Judge) -> dict[str, list[list[int]]]:
    """Samples of 200 builtin tokens by what they are."""
    found: dict[str, list[list[int]]] = {}
    for path in sorted(texts.glob("*.jsonl")):
        documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        kept = [document for document in documents if document["half"] == 1][:PER_GENRE]
        if not kept:
            continue
        quota = -(-PER_GENRE // len(kept))
        for ids in judge.encode([document["text"] for document in kept]):
            starts = list(range(0, len(ids) - TOKENS + 1, TOKENS))
            chosen = starts[:: max(1, len(starts) // quota)][:quota]
            group = found.setdefault(f"human {kept[0]['group']}, half 1", [])
            group += [ids[start : start + TOKENS].tolist() for start in chosen]
    pool = Pool.of((BUILTIN / "texts" / "austen.txt").read_text(encoding="utf-8"))
    made = [KINDS[kind](default_rng([zlib.crc32(kind.encode()), i]), pool) for kind in KINDS for i in range(PER_KIND)]
    found[f"built kinds ({len(KINDS)})"] = [ids[:TOKENS].tolist() for ids in judge.encode(made)]
    for label, ids in recorded(records):
        found.setdefault(label, []).append(ids)
    return found


def recorded(records: Path) -> Iterator[tuple[str, list[int]]]:
    """(label, ids) of runs on own text: samples of step 0, and the first and last whose loss is below 0.2 nats.

    Runs that differ in the learning rate begin with equal samples, which count once.
    """
    known: set[tuple[int, ...]] = set()
    for path in sorted(records.glob("**/steps.jsonl")):
        if "controls" in path.parts:
            continue
        rows = [json.loads(line) for line in path.with_name("samples.jsonl").read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["role"] in ("train", "start") and len(row["token_ids"]) >= TOKENS]
        for ids in (row["token_ids"] for row in rows if row["step"] == 0):
            if tuple(ids) not in known:
                known.add(tuple(ids))
                yield "untouched builtin models", ids
        steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        losses = {row["step"]: row["train_nll_nats"] for row in steps if isinstance(row["train_nll_nats"], float)}
        sure = [row["token_ids"] for row in rows if losses.get(row["step"], 9.0) < MAX_NLL_NATS]
        yield from (("builtin models sure of their text", ids) for ids in sure[:1] + sure[1:][-1:])


if __name__ == "__main__":
    main()
