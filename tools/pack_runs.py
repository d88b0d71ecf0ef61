"""Packs the records of runs for results/: every step, numbers to six digits, and a few samples of each run.

python tools/pack_runs.py runs/reproduce-builtin/runs results/builtin/records.tar.xz
tar xf results/builtin/records.tar.xz -C FOLDER && collapselab report FOLDER     (to read them)
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path
from typing import Any

from collapselab.errors import InputError
from collapselab.records import dumps
from collapselab.rundir.layout import RunDir, read_json, read_lines

SAMPLES_EVERY = 50
DIGITS = 6
EVENTS = ("warned_step", "onset_step", "total_collapse_step", "last_step")


def pack(folder: Path, out: Path) -> int:
    """Writes all run directories below a folder to one archive, in the order of their names; returns their number.

    Raises:
        InputError: there is none; an archive that is there already stays.
    """
    paths = sorted(p.parent for p in folder.rglob("config.json") if RunDir(p.parent).holds_a_run())
    if not paths:
        raise InputError(f"{folder} contains no run directory", "give a folder made by `collapselab reproduce`")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.tmp")
    with tarfile.open(temporary, "w:xz", preset=9) as archive:
        for path in paths:
            for name, text in thinned(RunDir(path)).items():
                member = tarfile.TarInfo(f"{path.relative_to(folder).as_posix()}/{name}")
                data = text.encode()
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    temporary.replace(out)
    return len(paths)


def thinned(rundir: RunDir) -> dict[str, str]:
    """The files of one run by name, without the checkpoints, the log and most samples."""
    paths = [rundir.config, rundir.env, rundir.status]
    files = {path.name: path.read_text(encoding="utf-8") for path in paths if path.exists()}
    steps, samples = list(read_lines(rundir.steps)), list(read_lines(rundir.samples))
    summary = read_json(rundir.summary) if rundir.summary.exists() else {}
    if summary:  # without the checksums of the records, which are thinned here
        files[rundir.summary.name] = dumps({k: v for k, v in summary.items() if k != "records"}, indent=1) + "\n"
    events = {summary.get(name) for name in EVENTS} | {max((line["step"] for line in samples), default=0)}
    kept = [line for line in samples if line["step"] % SAMPLES_EVERY == 0 or line["step"] in events]
    files[rundir.steps.name] = "".join(dumps(rounded(line)) + "\n" for line in steps)
    files[rundir.samples.name] = "".join(dumps(line) + "\n" for line in kept)
    return files


def rounded(line: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a record to six digits."""
    return {name: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for name, v in line.items()}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(Path, sys.argv[1:])
    sys.stdout.write(f"{target}: {pack(source, target)} runs, {target.stat().st_size / 1e6:.1f} MB\n")
