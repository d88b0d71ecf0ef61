"""Judges runs again from their records, by the rules of this version, and says what changes.

python tools/judge_again.py FOLDER [--vocabulary N] [--write]

FOLDER holds runs, or unpacked records of results/. `--write` puts the new words and steps into each summary.json;
`--vocabulary` is the model's number of tokens, for runs whose summary.json lacks it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapselab.rundir.judged_again import judged_again
from collapselab.rundir.layout import RunDir, read_json, write_json


def again(rundir: RunDir, vocab_size: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The existing summary, and the summary by the rules of this version."""
    old = read_json(rundir.summary)
    size = old.get("vocab_size") or vocab_size
    if size is None:
        sys.exit(f"{rundir.summary}: lacks the model's number of tokens; give it with --vocabulary N")
    return old, judged_again(rundir, {**old, "vocab_size": size}, size)


def moves(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, as `name: before → now`."""
    pairs = {name: (old.get(name), value) for name, value in new.items() if name != "vocab_size"}
    return [f"{name}: {before} → {now}" for name, (before, now) in pairs.items() if before != now]


def main(folder: Path, vocab_size: int | None, *, write: bool) -> None:
    """Prints a line for each run in which something changes, and how often each name does."""
    counts: Counter[str] = Counter()
    paths = sorted(path.parent for path in folder.rglob("summary.json"))
    for path in paths:
        old, new = again(RunDir(path), vocab_size)
        found = moves(old, new)
        counts.update(move.partition(":")[0] for move in found)
        if found:
            sys.stdout.write(f"{path.relative_to(folder)}: {'; '.join(found)}\n")
        if write:
            write_json(RunDir(path).summary, new)
    changes = ", ".join(f"{name} in {count}" for name, count in counts.items()) or "nothing changes"
    sys.stdout.write(f"{len(paths)} runs: {changes}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.vocabulary, write=arguments.write)
