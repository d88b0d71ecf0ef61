"""Judges packed runs by the rules of this version from their recorded metrics, and tabulates what moves.

    python tools/rules_moves.py FOLDER OUT.csv

FOLDER holds unpacked records of results/. Every sample is judged again from its metrics (`seq_rep_4`, loops, match
entropy, top token), with the thresholds of today; `whitespace` and `template` stay as recorded. What needs the
samples' ids or text, or samples of the untouched model, cannot be known: counting, stutter, layout, low diversity,
moved bounds.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from collapselab.collapse.course import CollapseState, Observation, advance, outcome
from collapselab.collapse.judging import with_losses
from collapselab.collapse.rules import MIN_TOKENS, SAMPLE_RULES, SampleVerdict, Seen, judge_step, most_common
from collapselab.collapse.start import Start
from collapselab.config.schema import Collapse
from collapselab.records import Record
from collapselab.rundir.layout import RunDir, read_json, read_lines

RULES, NAMES = Collapse(), ("onset_step", "total_collapse_step", "kind_at_onset", "kind_at_end")
KIND_OF = {"whitespace": "whitespace", "loop": "loop"}


def judged(record: Record, state: CollapseState) -> Observation:
    """What a step shows by the rules of today, as far as its record tells."""
    values = record.values
    num_tokens = int(record.number("num_tokens") or 0)
    if record.values["degenerate"] is None or num_tokens < MIN_TOKENS:
        return with_losses(Observation(record.step, None, ()), values)
    old = values["reasons"] if isinstance(values["reasons"], list) else []
    seen = Seen(num_tokens, values)
    reasons = [name for name, is_broken in SAMPLE_RULES.items() if is_broken(seen, RULES)]
    reasons += [name for name in ("whitespace",) if name in old]
    is_one = values["loop_period"] == 1 if "loop" in reasons else "top_token_share" in reasons
    kind = (
        "whitespace"
        if "whitespace" in reasons
        else "single-token"
        if is_one
        else "loop"
        if "loop" in reasons
        else "low-entropy"
    )
    start = Start.of([], values, RULES) if record.step == 0 else state.start
    step = judge_step(
        [()], [SampleVerdict(bool(reasons), tuple(reasons), kind if reasons else None)], [],
        record.number("train_nll_nats"),
        RULES, entropy_nats=record.number("entropy_nats"), start=start, vocab_size=state.vocab_size,
    )  # fmt: skip
    if "template" in old and not step.degenerate:
        step = type(step)(True, ("template",), "template")
    return with_losses(Observation(record.step, step, (), start=start), values)


def rows(folder: Path) -> Iterator[dict[str, object]]:
    for path in sorted(folder.rglob("summary.json")):
        rundir, old = RunDir(path.parent), read_json(path)
        config = read_json(rundir.config)["config"]
        if config["collapse"]["source"] != "stream" or config["generate"]["batch_size"] != 1:
            continue
        state, causes = CollapseState(old["vocab_size"]), list[str]()
        for line in read_lines(rundir.steps):
            record = Record(line["step"], line)
            seen = judged(record, state)
            state = advance(state, seen, RULES)
            if seen.verdict is not None and seen.verdict.degenerate != line["degenerate"]:
                causes.append("+" + seen.verdict.reasons[0] if seen.verdict.degenerate else "-" + line["reasons"][0])
        new = outcome(state)
        yield (
            {"run": str(path.parent.relative_to(folder)), "steps": old["num_steps"]}
            | {
                f"{name}_{when}": value
                for name in NAMES
                for when, value in (("before", old[name]), ("now", getattr(new, name)))
            }
            | {
                "fate_before": old["fate"],
                "fate_now": new.fate,
                "steps_that_moved": len(causes),
                "mostly": most_common(causes),
            }
        )


if __name__ == "__main__":
    found = list(rows(Path(sys.argv[1])))
    with open(sys.argv[2], "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
