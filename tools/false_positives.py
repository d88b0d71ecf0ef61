"""Measures how often the degenerate rules flag human text: results/false-positives/.

    python tools/false_positives.py --data-dir DIR [--show]

DIR holds `wikitext-2/{valid,test}.txt`, `ptb/{valid,test}.txt` and `gpt2-bpe/{vocab.json,merges.txt}`; this repository
contains none of them, only the resulting numbers. The shipped texts and tokenizer are also measured. `--show` prints
the flagged windows.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer, Tokenizer

from collapselab.collapse.audit import Audit, Decode, Diagnosis, Encode, audit, diagnose_ids
from collapselab.config.schema import Collapse
from collapselab.metrics.repetition import find_loop
from collapselab.metrics.shares import clopper_pearson

ROOT = Path(__file__).parents[1]
BUILTIN = ROOT / "src" / "collapselab" / "builtin"
OUT = ROOT / "results" / "false-positives"
WINDOWS = (100, 200, 512, 1024)
RULES = ("seq_rep_4", "loop", "match_entropy", "top_token_share", "whitespace")
# Token counts of the standard files; other counts mean a different text or tokenizer.
EXPECTED_GPT2_TOKENS = {"wikitext-2 valid": 258_659, "ptb valid": 92_830}


@dataclass(frozen=True)
class Row:
    """One row of the table: a text under a tokenizer, in windows of one length."""

    text: str
    tokenizer: str
    window: int
    num_windows: int
    flagged: int
    ci95_low: float
    ci95_high: float
    seq_rep_4: int
    loop: int
    loop_if_strict: int
    match_entropy: int
    top_token_share: int
    whitespace: int
    max_seq_rep_4: float
    max_loop_span: int
    max_loop_span_strict: int
    min_match_entropy_nats: float
    max_top_token_share: float


def texts(data_dir: Path) -> dict[str, Path]:
    human = {
        f"{text} {split}": data_dir / text / f"{split}.txt"
        for text in ("wikitext-2", "ptb")
        for split in ("valid", "test")
    }
    return human | {f"{name} (builtin)": BUILTIN / "texts" / f"{name}.txt" for name in ("austen", "moby-dick")}


def tokenizers(data_dir: Path) -> dict[str, tuple[Encode, Decode]]:
    bpe = data_dir / "gpt2-bpe"
    gpt2 = ByteLevelBPETokenizer(str(bpe / "vocab.json"), str(bpe / "merges.txt"))
    builtin = Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))
    return {
        name: (lambda text, t=t: t.encode(text, add_special_tokens=False).ids, lambda ids, t=t: t.decode(ids))
        for name, t in (("gpt2", gpt2), ("builtin", builtin))
    }


def windows(ids: list[int], length: int) -> Iterator[tuple[str, list[int]]]:
    """Disjoint windows, so that an interval may treat them as separate trials; the remainder is dropped."""
    for start in range(0, len(ids) - length + 1, length):
        yield str(start), ids[start : start + length]


def is_strict_loop(sample: Diagnosis, thresholds: Collapse) -> bool:
    """The loop rule with strict loops, to see what tolerance costs."""
    loop = find_loop(sample.token_ids, tolerant=False)
    if loop is None or loop.period is None:
        return False
    return loop.span >= max(thresholds.loop_copies * loop.period, thresholds.loop_share * len(sample.token_ids))


def make_row(text: str, tokenizer: str, window: int, result: Audit) -> Row:
    by_rule = Counter(reason for sample in result.samples for reason in sample.verdict.reasons)
    values = {
        name: [sample.metrics[name] for sample in result.samples]
        for name in ("seq_rep_4", "loop_span", "loop_span_strict", "match_entropy_nats", "top_token_share")
    }
    interval = clopper_pearson(result.num_degenerate, result.num_judged)
    assert interval is not None, "no windows"
    assert result.num_judged == len(result.samples), (text, tokenizer, window)
    return Row(
        text, tokenizer, window, result.num_judged, result.num_degenerate, *(round(bound, 6) for bound in interval),
        **{rule: by_rule[rule] for rule in RULES},
        loop_if_strict=sum(is_strict_loop(sample, Collapse()) for sample in result.samples),
        max_seq_rep_4=round(max(values["seq_rep_4"]), 3),
        max_loop_span=max(values["loop_span"]),
        max_loop_span_strict=max(values["loop_span_strict"]),
        min_match_entropy_nats=round(min(values["match_entropy_nats"]), 3),
        max_top_token_share=round(max(values["top_token_share"]), 3),
    )  # fmt: skip


def flagged_line(text: str, tokenizer: str, window: int, sample: Diagnosis, decode: Decode) -> dict[str, object]:
    metrics = {
        name: round(value, 3) if isinstance(value := sample.metrics[name], float) else value
        for name in (
            "seq_rep_4",
            "loop_period",
            "loop_span",
            "loop_span_strict",
            "match_entropy_nats",
            "top_token_share",
        )
    }
    placeholders = decode(list(sample.token_ids)).count("<unk>")
    reasons = " ".join(sample.verdict.reasons)
    start = {"text": text, "tokenizer": tokenizer, "window": window, "first_token": int(sample.place)}
    return start | {"reasons": reasons, "kind": sample.verdict.kind} | metrics | {"placeholders": placeholders}


def measure(data_dir: Path, *, show: bool) -> tuple[list[Row], list[dict[str, object]]]:
    rows: list[Row] = []
    flagged: list[dict[str, object]] = []
    for tokenizer, (encode, decode) in tokenizers(data_dir).items():
        ids_of = {text: encode(path.read_text(encoding="utf-8")) for text, path in texts(data_dir).items()}
        for text, expected in EXPECTED_GPT2_TOKENS.items():
            assert tokenizer != "gpt2" or len(ids_of[text]) == expected, (text, len(ids_of[text]), expected)
        for window in WINDOWS:
            everything: list[Diagnosis] = []
            for text, ids in ids_of.items():
                result = audit(tuple(diagnose_ids(at, cut, decode, Collapse()) for at, cut in windows(ids, window)))
                rows.append(make_row(text, tokenizer, window, result))
                broken = [sample for sample in result.samples if sample.verdict.degenerate]
                flagged += [flagged_line(text, tokenizer, window, sample, decode) for sample in broken]
                for sample in broken if show else []:
                    print(f"--- {text}, {tokenizer}, {window} tokens at {sample.place}: {sample.verdict}")
                    print(decode(list(sample.token_ids)))
                everything += result.samples
            rows.append(make_row("all", tokenizer, window, audit(tuple(everything))))
            print(f"{tokenizer} {window}: {rows[-1].flagged} of {rows[-1].num_windows}", flush=True)
    return rows, flagged


def write_csv(path: Path, lines: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def write_markdown(path: Path, lines: list[dict[str, object]]) -> None:
    def cells(values: Iterator[object] | list[str]) -> str:
        return "| " + " | ".join(map(str, values)) + " |"

    head = [field.name for field in fields(Row)]
    table = [cells(head), cells(["---"] * len(head)), *(cells(iter(line.values())) for line in lines)]
    path.write_text("\n".join(table) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--show", action="store_true", help="print the flagged windows")
    args = parser.parse_args()
    rows, flagged = measure(args.data_dir, show=args.show)
    OUT.mkdir(parents=True, exist_ok=True)
    lines = [{field.name: getattr(row, field.name) for field in fields(Row)} for row in rows]
    write_csv(OUT / "table.csv", lines)
    write_markdown(OUT / "table.md", lines)
    if flagged:
        write_csv(OUT / "flagged.csv", flagged)
    else:
        (OUT / "flagged.csv").unlink(missing_ok=True)
    print(json.dumps({"flagged": len(flagged), "rows": len(rows)}))


if __name__ == "__main__":
    main()
