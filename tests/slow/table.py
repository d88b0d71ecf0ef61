"""Tries every fault and writes the table of results/reliability/README.md (an hour on two cores that are shared).

python tests/slow/table.py [--every N]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from damaged_files import carry_out as carry_out_damages
from faults import FAULTS, SCENARIOS, carry_out, compile_shim

PAGE = Path(__file__).parents[2] / "results" / "reliability" / "README.md"
TEXT = """# Reliability: faults tried, held, failed

Five records of `builtin:nano` with a checkpoint after each, one thread. A point is **held** if `--resume` after the
fault gives the run that was never disturbed, bit for bit: records without times, samples, summary, newest weights and
optimiser state; the run itself may end with an error of this package, never with a traceback.

Faults are made by a small library that is preloaded (`tests/slow/shim.c`) and counts the file operations below the run
directory: SIGKILL before an operation, a write torn in half and then SIGKILL, ENOSPC or EIO from one operation, ENOSPC
from one operation on. A power cut is modelled: after SIGKILL only the bytes that were synced are left, under all names
("names kept") or under those of each folder when it was last synced ("names lost"). Of `--fresh` over a finished run
the first 100 operations are tried, of the end of a run with `keep_checkpoints = false` the last 50.

Damaged files: each file of a killed run, and each one but the checkpoints of a finished run, is removed, emptied, cut
in half, overwritten, flipped at four places, replaced by other JSON, by a file of another run, by a FIFO or by a
folder, loses or repeats lines. Held is a run that is made again or is refused with a message; not one that hangs,
shows a traceback, or gives other numbers.

{how}

| scenario | fault | tried | held | failed |
|---|---|---|---|---|
{rows}

Of these {tried}, {failed} failed. Everything, for an hour or two: `python tests/slow/table.py`; with pytest:
`python -m pytest -m slow tests/slow`.
A selection runs in the fast suite.
"""


def write(rows: list[tuple[str, str, dict[str, Any]]], how: str) -> None:
    cells = [(name, fault, r["tried"], r["held"], len(r["failed"])) for name, fault, r in rows]
    lines = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cells)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    tried, failed = sum(row[2] for row in cells), sum(row[4] for row in cells)
    PAGE.write_text(TEXT.format(how=how, rows=lines, tried=f"{tried:,}", failed=failed), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="try every n-th operation only")
    every = parser.parse_args().every
    which = "every operation" if every == 1 else f"one operation in {every}"
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=PAGE.parents[2])
    how = f"Commit {done.stdout.strip()}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores; {which} of each row."
    rows: list[tuple[str, str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        shim = compile_shim(Path(folder))
        for scenario in SCENARIOS:
            for fault in FAULTS:
                rows.append((scenario, fault, carry_out(scenario, fault, shim, "--every", str(every))))
                _show(rows)
    for state in ("killed", "finished"):
        rows.append((f"{state} run", "damaged file", carry_out_damages(state)))
        _show(rows)
    write(rows, how)


def _show(rows: list[tuple[str, str, dict[str, Any]]]) -> None:
    sys.stdout.write(f"{rows[-1]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
