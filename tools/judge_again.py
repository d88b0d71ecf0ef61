"""Judges runs again from their records, by the rules of this version, and says what moves.

python tools/judge_again.py FOLDER [--vocabulary N] [--write]

FOLDER holds runs, or unpacked records of results/. `--write` puts the new words and steps into each summary.json;
`--vocabulary` is the number of tokens of the model, for runs whose summary.json does not say it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapselab.config import RunConfig
from collapselab.records import Record
from collapselab.rundir import RunDir, read_json, read_lines, write_json
from collapselab.summary import state_values

STEPS = ("onset", "total_collapse", "recovered", "degraded", "severe", "lost", "diverged")
JUDGED = ("state", *(f"{name}_step" for name in STEPS), "degenerate_share", "last_step")


def judged_again(rundir: RunDir, vocab_size: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary as it is, and as the rules of this version make it; kinds stay, since packed runs lack samples."""
    old = read_json(rundir.summary)
    config = RunConfig.model_validate(read_json(rundir.config)["config"])
    size = old.get("vocab_size") or vocab_size
    if size is None:
        sys.exit(f"{rundir.summary}: does not say the model's number of tokens; give it with --vocabulary N")
    steps = [Record(line["step"], line) for line in read_lines(rundir.steps)]
    values = state_values(steps, config.collapse, size)
    return old, {**old, "vocab_size": size, **{name: values[name] for name in JUDGED}}


def moves(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, as `name: before → now`."""
    pairs = {name: (old.get(name), new[name]) for name in JUDGED}
    return [f"{name}: {before} → {now}" for name, (before, now) in pairs.items() if before != now]


def main(folder: Path, vocab_size: int | None, *, write: bool) -> None:
    """A line per run of which something moves, and how often each name does."""
    counts: Counter[str] = Counter()
    paths = sorted(path.parent for path in folder.rglob("summary.json"))
    for path in paths:
        old, new = judged_again(RunDir(path), vocab_size)
        found = moves(old, new)
        counts.update(move.partition(":")[0] for move in found)
        if found:
            sys.stdout.write(f"{path.relative_to(folder)}: {'; '.join(found)}\n")
        if write:
            write_json(RunDir(path).summary, new)
    told = ", ".join(f"{name} in {count}" for name, count in counts.items()) or "nothing moves"
    sys.stdout.write(f"{len(paths)} runs: {told}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.vocabulary, write=arguments.write)
