"""Tries every fault and writes the table in results/reliability/README.md (70 minutes on two cores).

python tests/slow/table.py [--every N]      # everything
python tests/slow/table.py --processes [--tries N]      # the second table alone: what befalls processes and machines
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from damaged_files import carry_out as carry_out_damages
from faults import FAULTS, SCENARIOS, carry_out, compile_shim
from process_faults import ROWS
from process_faults import carry_out as carry_out_process

PAGE = Path(__file__).parents[2] / "results" / "reliability" / "README.md"
PROCESSES = PAGE.with_name("processes.md")
PROCESSES_TEXT = """# Reliability: what befalls processes and machines

The same runs as in [the table of file operations](README.md), each disturbed once (or killed again and again) and then
resumed. A try is **held** if the run ended by itself, by the signal, or with a message and no traceback, and the
resumed run is equal, bit for bit, to one that nothing disturbed. Disks are tmpfs, mounted as root; the clock is the one
that Python reads; memory is limited with `ulimit -v`, where an abort inside a library counts as a kill.
Of the row *random kills* the number is that of the kills. The last four rows are sweeps of three such runs on this
machine. After a kill the sweep is repeated at once; of two sweeps at once, each must end by itself. Such a try is held
if there are three runs, each equal, bit for bit, to that of an undisturbed sweep, and with two sweeps begun once only.

{how}

| fault | tried | held | failed |
|---|---|---|---|
{rows}

`python tests/slow/table.py --processes` tries all of it (1,000 kills, 20 starts at once);
`python tests/slow/table.py --processes --tries 5` tries less of each row.
Sweeps that import everything anew, on this machine, on Slurm and on Ray, with workers, parents, jobs and nodes killed,
are in `tests/e2e/test_sweep.py`, `test_slurm.py` and `test_ray.py`, two owners of one run on a shared file system in
`test_two_machines.py`.
"""
TEXT = """# Reliability: faults tried, held, failed

The runs make five records of `builtin:nano` with a checkpoint after each, on one thread. A point is **held** if
`--resume` after the fault gives the same run as without it, bit for bit: records (except times), samples, summary,
newest weights and optimiser state. The run itself may end with an error of this package, never with a traceback.

A small preloaded library (`tests/slow/shim.c`) counts the file operations below the run directory and makes the
faults: SIGKILL before an operation, a write torn in half and then SIGKILL, ENOSPC or EIO from one operation, or
ENOSPC from one operation and all later ones. A power cut is modelled: after SIGKILL only the synced bytes are left,
under all names ("names kept") or under the names each folder had when it was last synced ("names lost"). The first
100 operations are tried for `--fresh` over a finished run, and the last 50 for the end of a run with
`keep_checkpoints = false`.

Damaged files: each file of a killed run, and each one except the checkpoints of a finished run, is removed, emptied,
cut in half, overwritten, flipped at four places, replaced by other JSON, by a file of another run, by a FIFO or by a
folder, or has lines removed or repeated. A run is held if it is made again or refused with a message; it fails if it
hangs, shows a traceback, or gives different numbers.

{how}

| scenario | fault | tried | held | failed |
|---|---|---|---|---|
{rows}

Of these {tried}, {failed} failed. To try everything (both tables: 70 minutes on two cores), run
`python tests/slow/table.py`, or with pytest `python -m pytest -m slow tests/slow`. A selection runs in the fast suite.
Kills at random, stops, disks, memory, clocks and starts at once are [a table of their own](processes.md).
"""


def processes(rows: list[tuple[str, dict[str, Any]]], how: str) -> None:
    """Writes the table of what befalls processes and machines, a page of its own beside the first."""
    lines = "\n".join(f"| {name} | {r['tried']} | {r['held']} | {len(r['failed'])} |" for name, r in rows)
    how = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores; {how}."
    PROCESSES.write_text(PROCESSES_TEXT.format(how=how, rows=lines), encoding="utf-8")


def write(rows: list[tuple[str, str, dict[str, Any]]], how: str) -> None:
    cells = [(name, fault, r["tried"], r["held"], len(r["failed"])) for name, fault, r in rows]
    lines = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cells)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    tried, failed = sum(row[2] for row in cells), sum(row[4] for row in cells)
    PAGE.write_text(TEXT.format(how=how, rows=lines, tried=f"{tried:,}", failed=failed), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="try every n-th operation only")
    parser.add_argument("--processes", action="store_true", help="only what befalls processes and machines")
    parser.add_argument("--tries", type=int, help="of each such row; by default those of the whole campaign")
    chosen = parser.parse_args()
    how = "all tries" if chosen.tries is None else f"{chosen.tries} tries of each row"
    processes([(row, carry_out_process(row, chosen.tries)) for row in ROWS], how)
    if chosen.processes:
        return
    every: int = chosen.every
    which = "every operation" if every == 1 else f"one operation in {every}"
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=PAGE.parents[2])
    how = f"Commit {done.stdout.strip()}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores; {which} of each row."
    rows: list[tuple[str, str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        shim = compile_shim(Path(folder))
        points = ("--every", str(every))
        calls: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
            (scenario, fault): partial(carry_out, scenario, fault, shim, *points)
            for scenario in SCENARIOS
            for fault in FAULTS
        }
        calls |= {
            (f"{state} run", "damaged file"): partial(carry_out_damages, state) for state in ("killed", "finished")
        }
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each call has one thread of computation, or none
            for key, row in zip(calls, pool.map(lambda call: call(), calls.values()), strict=True):
                rows.append((*key, row))
                sys.stdout.write(f"{rows[-1]}\n")
                sys.stdout.flush()
    write(rows, how)


if __name__ == "__main__":
    main()
