"""One run as the live page shows it: its curves, the text of a step, and the report made of it."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any, cast

from collapselab.report.explorer import MAX_SAMPLE_CHARS, with_tokens
from collapselab.rundir.layout import RunDir, are_token_ends, read_lines
from collapselab.rundir.line_files import some_lines
from collapselab.serve.watching import number

MAX_POINTS = 600
MAX_SAMPLES = 8
NO_CURVE = ("step", "seconds_", "val_nll_se", "full_", "loop_", "num_tokens")


def curves(rundir: RunDir) -> dict[str, Any]:
    """The recorded numbers of at most 600 steps, evenly spread: `steps`, and `values` by name.

    Raises:
        OSError: there are no records.
    """
    lines = some_lines(rundir.steps, MAX_POINTS)
    names = dict.fromkeys(name for line in lines for name, value in line.items() if number(value) is not None)
    drawn = [name for name in names if not name.startswith(NO_CURVE)]
    return {
        "steps": [number(line.get("step")) for line in lines],
        "values": {name: [number(line.get(name)) for line in lines] for name in drawn},
    }


def samples(rundir: RunDir, step: int) -> list[dict[str, Any]]:
    """The samples of a step, long ones cut; none if the step has none.

    Raises:
        InputError: the file is damaged.
    """
    found = [line for line in read_lines(rundir.samples) if line.get("step") == step]
    return [_sample(line) for line in found[:MAX_SAMPLES]]


def _sample(line: dict[str, Any]) -> dict[str, Any]:
    """A sample as the report has it: a long text cut, and the lengths of its tokens where they were recorded."""
    text, ids, ends = str(line.get("text")), line.get("token_ids"), line.get("token_ends")
    sample: dict[str, Any] = {"role": str(line.get("role")), "text": text[:MAX_SAMPLE_CHARS]}
    sample |= {"cut": len(text) - MAX_SAMPLE_CHARS} if len(text) > MAX_SAMPLE_CHARS else {}
    is_whole = isinstance(ids, list) and are_token_ends(ends, text, cast(list[int], ids))
    return with_tokens(sample, cast(list[int], ids), ends) if is_whole else sample


class Reports:
    """Report pages, made one at a time when asked for; the last is kept while the files of its runs stay the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[object, str]] = {}

    def page(self, folder: Path, signature: object) -> str:
        """The page of all runs below a folder, as HTML.

        Raises:
            InputError: there is no run, or every run is damaged.
        """
        from collapselab.report.page import write_page
        from collapselab.rundir.frames import check_any_left, read_runs

        with self._lock:
            kept = self._kept.get(folder)
            if kept is None or kept[0] != signature:
                with tempfile.TemporaryDirectory() as place:
                    path = write_page(check_any_left(read_runs(folder)), Path(place) / "report.html")
                    self._kept = {folder: (signature, path.read_text(encoding="utf-8"))}  # one: pages have megabytes
            return self._kept[folder][1]
