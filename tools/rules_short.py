"""Measures the rules for short samples and for whole corpora: human text, built kinds (results/rules/).

    python tools/rules_short.py human TOKENIZERS TEXTS --half 1     # short-half-1.csv
    python tools/rules_short.py kinds TOKENIZERS                    # short-kinds.csv
    python tools/rules_short.py whole TEXTS --half 1                # whole-half-1.csv
    python tools/rules_short.py bounds TOKENIZERS TEXTS             # what the rules' metrics reach on half 0 (printed)

TEXTS is what `rules_texts.py` wrote; TOKENIZERS holds `gpt2.json` and `smollm2.json` (the builtin one is added).
Thresholds were chosen on half 0. Windows of 20, 50 and 80 tokens begin at the start of a line or of a sentence, as
answers do.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import default_rng
from rules_cases import KINDS, Pool
from tokenizers import Tokenizer

from collapselab.collapse.audit.likeness import Copies, Kept, Openings, likeness
from collapselab.collapse.audit.samples import Judge, Judged
from collapselab.collapse.audit.whole import judge_whole
from collapselab.collapse.short import SHORT_RULES
from collapselab.config.schema import Collapse
from collapselab.metrics.shares import clopper_pearson

ROOT = Path(__file__).parents[1]
BUILTIN = ROOT / "src" / "collapselab" / "builtin"
OUT = ROOT / "results" / "rules"
LENGTHS, PER_GENRE, MAX_DOCUMENTS = (20, 50, 80), 300, 50
_START = re.compile(r"(?:^|\n|(?<=[.!?;:])\s)(?=\S)")
Rows = list[dict[str, object]]


def judges(folder: Path) -> dict[str, Judge]:
    """A judge under each tokenizer."""
    paths = {path.stem: path for path in sorted(folder.glob("*.json"))} | {"builtin": BUILTIN / "tokenizer.json"}
    return {name: _judge(Tokenizer.from_file(str(path))) for name, path in paths.items()}


def _judge(tokenizer: Tokenizer) -> Judge:
    return Judge(
        lambda texts: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)],
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        Collapse(),
    )


def genres(texts: Path, half: int) -> Iterator[tuple[str, str, list[str]]]:
    """(group, genre, documents) of one half."""
    for path in sorted(texts.glob("*.jsonl")):
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        kept = [document for document in found if document["half"] == half][:MAX_DOCUMENTS]
        if kept:
            yield kept[0]["group"], kept[0]["genre"], [document["text"] for document in kept]


def windows(documents: list[str], judge: Judge, length: int, count: int) -> list[Judged]:
    """Windows of `length` tokens from the starts of lines and sentences, spread evenly over documents."""
    quota = max(1, -(-count // len(documents)))
    pieces: list[str] = []
    for text in documents:
        starts = [found.end() for found in _START.finditer(text)]
        chosen = [starts[(2 * i + 1) * len(starts) // (2 * quota)] for i in range(quota)] if starts else []
        pieces += [text[start : start + 12 * length] for start in dict.fromkeys(chosen)]
    ids = [ids[:length] for ids in judge.encode(pieces) if len(ids) >= length][:count]
    return judge.judge_ids(ids, [judge.decode(sample.tolist()) for sample in ids])


def human(texts: Path, folder: Path, half: int) -> None:
    rows: Rows = []
    for name, judge in judges(folder).items():
        for group, genre, documents in genres(texts, half):
            for length in LENGTHS:
                found = [judged.verdict for judged in windows(documents, judge, length, PER_GENRE)]
                rows.append(
                    {"group": group, "genre": genre, "tokenizer": name, "tokens": length, "half": half} | _count(found)
                )
        print(name, flush=True)
        write(f"short-half-{half}.csv", rows)
    summary(rows)


def _count(verdicts: list) -> dict[str, object]:
    broken = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    flagged = sum(verdict.degenerate is True for verdict in verdicts)
    low, high = clopper_pearson(flagged, len(verdicts)) or (math.nan, math.nan)
    counts = {"windows": len(verdicts), "flagged": flagged, "low": round(low, 5), "high": round(high, 5)}
    return counts | {rule: broken[rule] for rule in SHORT_RULES}


def summary(rows: Rows) -> None:
    """Prints the pooled shares by tokenizer, group and length."""
    keys = sorted({(str(r["tokenizer"]), str(r["group"]), int(str(r["tokens"]))) for r in rows})
    for key in keys:
        chosen = [r for r in rows if (r["tokenizer"], r["group"], r["tokens"]) == key]
        flagged, total = (sum(int(str(r[name])) for r in chosen) for name in ("flagged", "windows"))
        low, high = clopper_pearson(flagged, total) or (math.nan, math.nan)
        print(*key, f"{flagged} of {total}: {100 * flagged / total:.2f} % [{100 * low:.2f}, {100 * high:.2f}]")


def bounds(texts: Path, folder: Path) -> None:
    """Prints quantiles of what the rules look at, on half 0."""
    for name, judge in judges(folder).items():
        values: dict[tuple[str, int, str], list[float]] = {}
        for group, _, documents in genres(texts, 0):
            for length in LENGTHS:
                for judged in windows(documents, judge, length, PER_GENRE):
                    m = judged.metrics
                    span, period = float(m["loop_span"] or 0), float(m["loop_period"] or 1)
                    for what, value in {
                        "seq_rep_2": m["seq_rep_2"], "top": m["top_token_share"],
                        "loop": span / length if span >= 3 * period else 0.0,
                    }.items():  # fmt: skip
                        values.setdefault((group, length, what), []).append(float(value or 0))
        for key in sorted(values):
            shown = " ".join(f"{q}:{np.quantile(values[key], q):.2f}" for q in (0.9, 0.99, 0.995, 0.998, 1))
            print(name, *key, len(values[key]), shown)


def kinds(folder: Path) -> None:
    """Of each built kind, how many of 16 samples are flagged at each length."""
    pool = Pool.of((BUILTIN / "texts" / "austen.txt").read_text(encoding="utf-8"))
    rows: Rows = []
    for name, judge in judges(folder).items():
        for kind in KINDS:
            texts = [KINDS[kind](default_rng([zlib.crc32(kind.encode()), i]), pool) for i in range(16)]
            row: dict[str, object] = {"kind": kind, "tokenizer": name, "samples": 16}
            for length in (*LENGTHS, 200):
                ids = [ids[:length] for ids in judge.encode(texts)]
                found = judge.judge_ids(ids, [judge.decode(sample.tolist()) for sample in ids])
                row[f"flagged_{length}"] = sum(judged.verdict.degenerate is True for judged in found)
            rows.append(row)
    write("short-kinds.csv", rows)
    for name in sorted({str(row["tokenizer"]) for row in rows}):
        chosen = [row for row in rows if row["tokenizer"] == name]
        for length in (*LENGTHS, 200):
            most = sum(2 * int(str(row[f"flagged_{length}"])) >= 16 for row in chosen)
            print(name, length, f"{most} of {len(chosen)} kinds have half of their samples flagged")


def whole(texts: Path, half: int) -> None:
    """Corpora of human text judged as a whole: texts of one genre, of 60 to 400 tokens, in any order."""
    judge = _judge(Tokenizer.from_file(str(BUILTIN / "tokenizer.json")))
    rows: Rows = []
    for group, genre, documents in genres(texts, half):
        encoded = [ids for ids in judge.encode(documents) if len(ids) >= 100]
        rng = default_rng([half, zlib.crc32(genre.encode())])
        reasons: Counter[str] = Counter()
        flagged = total = 0
        for num_texts in (12, 45):
            for _ in range(10):
                samples = []
                for _ in range(num_texts):
                    ids = encoded[int(rng.integers(len(encoded)))]
                    length = int(rng.integers(60, 400))
                    start = int(rng.integers(max(1, len(ids) - length)))
                    samples.append(ids[start : start + length])
                found = _whole(samples, judge)
                reasons.update(found.reasons)
                flagged += found.degenerate
                total += 1
        low, high = clopper_pearson(flagged, total) or (math.nan, math.nan)
        rows.append({"group": group, "genre": genre, "half": half, "documents": len(encoded), "corpora": total,
            "flagged": flagged, "low": round(low, 4), "high": round(high, 4),
            "reasons": " ".join(f"{reason}:{count}" for reason, count in reasons.most_common())})  # fmt: skip
        print(rows[-1], flush=True)
    write(f"whole-half-{half}.csv", rows)


def _whole(samples: list, judge: Judge):
    kept, copies, openings = Kept(), Copies(), Openings()
    for ids in samples:
        kept.add(ids)
        copies.add(ids.tobytes())
    return judge_whole(kept.ids, likeness(kept, copies, openings, None), judge, True, None)


def write(name: str, rows: Rows) -> None:
    with (OUT / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("human", "kinds", "whole", "bounds"))
    parser.add_argument("folders", type=Path, nargs="+", help="TOKENIZERS TEXTS, or TEXTS for whole")
    parser.add_argument("--half", type=int, default=0, choices=(0, 1))
    args = parser.parse_args()
    if args.what == "whole":
        whole(args.folders[0], args.half)
    elif args.what == "kinds":
        kinds(args.folders[0])
    elif args.what == "bounds":
        bounds(args.folders[1], args.folders[0])
    else:
        human(args.folders[1], args.folders[0], args.half)


if __name__ == "__main__":
    main()
