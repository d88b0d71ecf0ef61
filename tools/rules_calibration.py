"""Measures what the rules of collapse flag: human text, built kinds, untouched models (results/rules/).

    python tools/rules_calibration.py human TOKENIZERS TEXTS --half 1         # false positives by genre
    python tools/rules_calibration.py kinds TOKENIZERS                        # which built kinds are seen
    python tools/rules_calibration.py untouched TOKENIZERS SAMPLES --half 1   # false onsets of runs that do not change

TEXTS is what `rules_texts.py` wrote, SAMPLES what `untouched_samples.py` wrote, TOKENIZERS holds `gpt2.json` and
`smollm2.json` (the builtin one is added). Each writes its CSV into results/rules/. results/rules/protocol.md says why.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from rules_cases import KINDS, LOSSES, OF_TOKENS, Pool
from tokenizers import Tokenizer

from collapselab.collapse.course import ONSET_SHARE, CollapseState, Observation, advance
from collapselab.collapse.rules import SAMPLE_RULES, count_visible, judge_sample, judge_step, unspaced
from collapselab.collapse.start import Start, diversity_of
from collapselab.config.schema import Collapse
from collapselab.metrics.repetition import ngrams
from collapselab.metrics.shares import clopper_pearson

ROOT = Path(__file__).parents[1]
BUILTIN = ROOT / "src" / "collapselab" / "builtin"
OUT = ROOT / "results" / "rules"
WINDOWS = {100: 60, 200: 150, 512: 50, 1024: 40}  # tokens: windows at most per genre, half and tokenizer
MAX_DOCUMENTS, ALIKE_RUNS = 50, 400
# Losses on human text at step 0 (results/smollm2, results/builtin): the smallest of each tier, on the easier text.
HUMAN_NLL = {"smollm2": 4.18, "builtin": 3.36}
THRESHOLDS = Collapse()
Rows = list[dict[str, object]]


def tokenizers(folder: Path) -> dict[str, Tokenizer]:
    found = {name: Tokenizer.from_file(str(folder / f"{name}.json")) for name in ("gpt2", "smollm2")}
    return found | {"builtin": Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))}


class Judge:
    """Verdicts under one tokenizer, with the text of each token remembered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    def decode(self, ids: Sequence[int]) -> str:
        if len(ids) > 1:
            return self.tokenizer.decode(list(ids), skip_special_tokens=False)
        if ids[0] not in self._texts:
            self._texts[ids[0]] = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return self._texts[ids[0]]

    def __call__(self, ids: Sequence[int], thresholds: Collapse = THRESHOLDS):
        visible, text = count_visible(ids, self.decode), self.decode(ids)
        return judge_sample(ids, thresholds, visible, text=text, unspaced=unspaced(ids, self.decode))


def windows(documents: list[list[int]], length: int, count: int) -> Iterator[list[int]]:
    """At most `count` disjoint windows, spread evenly over documents and within each."""
    quota = max(1, -(-count // max(1, len(documents))))
    left = count
    for ids in documents:
        starts = range(0, len(ids) - length + 1, length)
        chosen = (
            starts if len(starts) <= quota else [starts[(2 * i + 1) * len(starts) // (2 * quota)] for i in range(quota)]
        )
        for start in chosen[:left]:
            yield ids[start : start + length]
        left -= min(left, len(chosen))


def human(texts: Path, folder: Path, half: int) -> Rows:
    rows: Rows = []
    for name, tokenizer in tokenizers(folder).items():
        judge = Judge(tokenizer)
        for path in sorted(texts.glob("*.jsonl")):
            documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            kept = [document for document in documents if document["half"] == half][:MAX_DOCUMENTS]
            if not kept:
                continue
            encoded = [tokenizer.encode(d["text"], add_special_tokens=False).ids for d in kept]
            for length, count in WINDOWS.items():
                verdicts = [judge(ids) for ids in windows(encoded, length, count)]
                broken = Counter(reason for verdict in verdicts for reason in verdict.reasons)
                flagged = sum(verdict.degenerate is True for verdict in verdicts)
                low, high = clopper_pearson(flagged, len(verdicts)) or (math.nan, math.nan)
                rows.append(
                    {
                        "group": kept[0]["group"],
                        "genre": kept[0]["genre"],
                        "tokenizer": name,
                        "tokens": length,
                        "half": half,
                    }
                    | {"windows": len(verdicts), "flagged": flagged, "low": round(low, 5), "high": round(high, 5)}
                    | {rule: broken[rule] for rule in SAMPLE_RULES}
                )
            write(f"human-half-{half}.csv", rows)
            print(name, path.stem, [(row["flagged"], row["windows"]) for row in rows[-len(WINDOWS) :]], flush=True)
    return rows


class Run:
    """A run made of given samples, judged as the loop judges."""

    def __init__(self, judge: Judge, start: Sequence[Sequence[int]], start_nll: float, vocab_size: int) -> None:
        values = {"train_nll_nats": start_nll, "val_nll_nats": start_nll}
        self.judge, self.start = judge, Start.of(start, values, THRESHOLDS)
        self.state = CollapseState(vocab_size, start=self.start)
        self.steps, self.reasons = 0, Counter[str]()

    def step(self, ids: Sequence[int], nll: float, entropy: float, verdict: object = None) -> None:
        sample = tuple(ids)
        found = judge_step(
            [sample], [verdict or self.judge(ids, self.start.thresholds)], self.state.earlier_samples(THRESHOLDS), nll,
            THRESHOLDS, entropy_nats=entropy, start=self.start, vocab_size=self.state.vocab_size,
        )  # fmt: skip
        self.reasons.update(found.reasons)
        self.state = advance(self.state, Observation(self.steps, found, (sample,)), THRESHOLDS)
        self.steps += 1


def kinds(folder: Path) -> Rows:
    """Of each kind: samples flagged, and what a run says that is healthy for 8 steps and then is of it."""
    pool = Pool.of((BUILTIN / "texts" / "austen.txt").read_text(encoding="utf-8"))
    other = (BUILTIN / "texts" / "moby-dick.txt").read_text(encoding="utf-8")
    rows: Rows = []
    for name, tokenizer in tokenizers(folder).items():
        judge, vocab_size = Judge(tokenizer), tokenizer.get_vocab_size()
        prose = tokenizer.encode(other, add_special_tokens=False).ids
        healthy = [prose[i : i + 200] for i in range(0, 16 * 200, 200)]
        for kind in (*KINDS, *OF_TOKENS, "tokens at random"):
            rngs = [default_rng([zlib.crc32(kind.encode()), i]) for i in range(16)]
            made = [sample_of(kind, rng, pool, tokenizer, vocab_size) for rng in rngs]
            uniform = math.log(vocab_size)
            nll = LOSSES.get(kind, 0.3) * uniform
            run = Run(judge, healthy[:8], 3.0, vocab_size)
            for ids in healthy[8:]:
                run.step(ids, 3.0, 3.0)
            for ids in made:
                run.step(ids, nll, nll)
            state = run.state
            rows.append(
                {"kind": kind, "tokenizer": name, "samples": len(made)}
                | {"flagged": sum(judge(ids).degenerate is True for ids in made)}
                | {"onset_step": state.onset_step, "total_collapse_step": state.total_collapse_step}
                | {"called": state.kind}
                | {"reasons": " ".join(f"{reason}:{count}" for reason, count in run.reasons.most_common())}
            )  # fmt: skip
    return rows


def sample_of(kind: str, rng: Generator, pool: Pool, tokenizer: Tokenizer, vocab_size: int) -> list[int]:
    if kind == "tokens at random":
        return rng.integers(0, vocab_size, 200).tolist()
    if kind in OF_TOKENS:
        num_healthy, period = OF_TOKENS[kind]
        begin = int(rng.integers(0, len(pool.text) - 4000))
        ids = tokenizer.encode(pool.text[begin : begin + 4000], add_special_tokens=False).ids
        return (ids[:num_healthy] + ids[num_healthy : num_healthy + period] * 200)[:200]
    ids = tokenizer.encode(KINDS[kind](rng, pool), add_special_tokens=False).ids
    return ids[:200]


def untouched(folder: Path, samples: Path, half: int, num_runs: int = 10_000, num_steps: int = 1000) -> Rows:
    """False onsets of runs whose steps are drawn with replacement from one half of the samples of an untouched model.

    Independent draws: at step 0 samples are independent given the weights, and in such a run the weights never change.
    Bounds are not moved by the start, which makes it an upper bound. Low diversity is looked for in 1,000 windows
    against 1,000 starts; where it occurs, 400 more runs have it too, drawn without replacement.
    """
    known = tokenizers(folder)
    rows: Rows = []
    for path in sorted(samples.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = lines[: len(lines) // 2] if half == 0 else lines[len(lines) // 2 :]
        name = "smollm2" if "smollm2" in path.stem else "builtin"
        rng = default_rng([half, zlib.crc32(path.stem.encode())])
        rows.append(
            {"model": path.stem, "half": half}
            | _resampled(lines, Judge(known[name]), HUMAN_NLL[name], rng, num_runs, num_steps)
        )
        print(rows[-1], flush=True)
    return rows


def _resampled(
    lines: list[dict[str, Any]], judge: Judge, human_nll: float, rng: Generator, num_runs: int, num_steps: int
) -> dict[str, object]:
    ids = [tuple(line["token_ids"]) for line in lines]
    verdicts = [judge(sample) for sample in ids]
    flagged = np.array([verdict.degenerate is True for verdict in verdicts])
    vocab_size = judge.tokenizer.get_vocab_size()
    losses = np.array([max(line["nll_nats"], line["entropy_nats"]) for line in lines])
    own = np.array([line["nll_nats"] for line in lines])
    pools = [diversity_of(tuple(ids[i] for i in rng.choice(len(ids), 8, replace=False)), 200) for _ in range(2000)]
    entropies, distinct = (np.array(values) for values in zip(*pools, strict=True))
    is_alike = (entropies[:1000, None] - entropies[None, 1000:] >= THRESHOLDS.entropy_drop_nats) | (
        distinct[None, 1000:] <= THRESHOLDS.distinct_4_share * distinct[:1000, None]
    )
    bound = THRESHOLDS.melted_share * math.log(vocab_size)
    onsets, melted = 0, 0
    for _ in range(num_runs):
        steps = rng.integers(0, len(ids), num_steps)
        hot = losses[steps] >= min(max(own[steps[0]], human_nll) + THRESHOLDS.melted_rise_nats, bound)
        melted += int(hot.sum())
        onsets += _has_onset(flagged[steps] | hot)
    with_alike = None
    if is_alike.any():
        alike, with_alike = Alike(ids), 0
        for _ in range(ALIKE_RUNS):
            steps = np.concatenate([rng.permutation(len(ids)) for _ in range(-(-num_steps // len(ids)))])[:num_steps]
            low_diversity = alike.steps(steps, rng.choice(len(ids), 8, replace=False))
            with_alike += _has_onset(flagged[steps] | low_diversity)
    low, high = clopper_pearson(onsets, num_runs) or (math.nan, math.nan)
    share = clopper_pearson(int(flagged.sum()), len(ids)) or (math.nan, math.nan)
    reasons = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    return {
        "samples": len(ids), "flagged": int(flagged.sum()), "flagged_low": round(share[0], 4),
        "flagged_high": round(share[1], 4), "runs": num_runs, "steps": num_steps, "false_onsets": onsets,
        "low": round(low, 5), "high": round(high, 5), "false_onsets_with_low_diversity": with_alike,
        "melted_per_1000_steps": round(melted / num_runs / num_steps * 1000, 3),
        "low_diversity": round(float(is_alike.mean()), 6), "entropy_spread": round(float(np.ptp(entropies)), 3),
        "reasons": " ".join(f"{reason}:{count}" for reason, count in reasons.most_common()),
    }  # fmt: skip


def _has_onset(degenerate: NDArray[np.bool_]) -> bool:
    counts = np.convolve(degenerate, np.ones(THRESHOLDS.window, int))[: len(degenerate)]
    streaks = np.convolve(counts / THRESHOLDS.window >= ONSET_SHARE, np.ones(THRESHOLDS.patience, int))
    return bool((streaks == THRESHOLDS.patience).any())


class Alike:
    """The rule of low diversity over the steps of a run, on counts (`rules.judge_step` is slower)."""

    def __init__(self, samples: Sequence[Sequence[int]]) -> None:
        numbers: dict[object, int] = {}
        rows = [[numbers.setdefault(token, len(numbers)) for token in ids] for ids in samples]
        self._counts = np.array([np.bincount(row, minlength=len(numbers)) for row in rows])
        grams: dict[object, int] = {}
        self._grams = [np.array([grams.setdefault(gram, len(grams)) for gram in ngrams(ids, 4)]) for ids in samples]

    def _diversity(self, chosen: Sequence[int]) -> tuple[float, float]:
        counts = self._counts[chosen].sum(axis=0)
        shares = counts[counts > 0] / counts.sum()
        grams = np.concatenate([self._grams[i] for i in chosen])
        return float(-(shares * np.log(shares)).sum()), len(np.unique(grams)) / len(grams)

    def steps(self, steps: NDArray[np.int_], start: NDArray[np.int_]) -> NDArray[np.bool_]:
        entropy, distinct = self._diversity(start)
        low = np.zeros(len(steps), bool)
        for t in range(7, len(steps)):
            now = self._diversity(steps[t - 7 : t + 1])
            low[t] = (
                now[0] <= entropy - THRESHOLDS.entropy_drop_nats or now[1] <= THRESHOLDS.distinct_4_share * distinct
            )
        return low


def write(name: str, rows: Rows) -> None:
    with (OUT / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("human", "kinds", "untouched"))
    parser.add_argument("tokenizers", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", help="TEXTS or SAMPLES")
    parser.add_argument("--half", type=int, default=0, choices=(0, 1))
    args = parser.parse_args()
    if args.what == "human":
        write(f"human-half-{args.half}.csv", human(args.folder, args.tokenizers, args.half))
    elif args.what == "kinds":
        write("kinds.csv", kinds(args.tokenizers))
    else:
        write(f"untouched-half-{args.half}.csv", untouched(args.tokenizers, args.folder, args.half))


if __name__ == "__main__":
    main()
