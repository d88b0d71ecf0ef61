"""`collapselab report`: one page about any runs, and on request every figure and table as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from tyro.conf import Positional, arg

from collapselab.cli.places import check_folder
from collapselab.cli.text import note
from collapselab.errors import InputError, RunFailed, doing

if TYPE_CHECKING:  # pandas takes a third of a second, which --help need not wait for
    from collapselab.rundir.frames import Runs

Frame = Any  # pandas has no complete types

TITLE = "Collapse of self-trained language models"


def report(
    runs: Positional[tuple[Path, ...]],
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.html"),
    figures: Path | None = None,
    title: str = TITLE,
) -> None:
    """Writes one page about runs: verdicts, figures, an explorer of what was written at each step, tables, settings.

    Args:
        runs: run directories, and folders of them; finished, running or crashed
        out: the page, a file that needs no network
        figures: write each figure as SVG, PNG and PDF, and each table as CSV, Markdown and LaTeX, into this folder too
        title: the page's title
    """
    if out.is_dir():
        raise InputError(f"--out {out} is a folder", f"name a file, for example {out / 'report.html'}")
    check_folder(out.parent, "--out")
    if figures is not None:
        check_folder(figures, "--figures")
    with doing(f"reading {', '.join(map(str, runs))}"):
        loaded = load(runs)
    write_report(loaded, out, figures, title)
    raise_if_left_out(loaded)


def write_report(runs: Runs, out: Path, figures: Path | None, title: str) -> None:
    """Writes the page, and every figure and table as files if `figures` is a folder, and says where they are."""
    from collapselab.report.page import write_page

    for damage in runs.damages:
        note(("left out: " if damage.is_left_out else "warning: ") + damage.message)
    page = write_page(runs, out, title=title)
    note(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    if figures is not None:
        from collapselab.report.files import write_files

        paths = write_files(runs, figures)
        note(f"figures and tables: {len(paths)} files in {figures}")


def raise_if_left_out(runs: Runs) -> None:
    """Ends the command with an error if a damaged run is missing from what was written."""
    if runs.num_left_out:
        num_runs = runs.num_left_out + len(runs.runs)
        raise RunFailed(
            f"{runs.num_left_out} of {num_runs} runs left out: their files are damaged (see above)",
            "bring the files back, or make these runs again with --fresh",
        )


def load(paths: Sequence[Path]) -> Runs:
    """The frames of all runs in some directories; of several, runs are named by their path below the common folder.

    Damaged runs are left out, and are in `damages`.

    Raises:
        InputError: no directory, one without a run, or no run that is not damaged.
    """
    if not paths:
        raise InputError("a report needs at least one run directory", "for example collapselab report runs/demo")
    from collapselab.rundir.frames import Damage, Runs, check_any_left, read_runs

    if len(paths) == 1:
        return check_any_left(read_runs(paths[0]))
    resolved = list(dict.fromkeys(path.resolve() for path in paths))
    common = Path(os.path.commonpath([path.parent for path in resolved]))
    parts: list[tuple[Frame, Frame, Frame]] = []
    damages: dict[str, Damage] = {}  # by message, for the same reason as `known`
    for path in resolved:
        # A run may be given by itself and in its folder.
        known = {str(name) for rows, _, _ in parts for name in rows["run"]}
        found = read_runs(path)
        parts.append(_named(found, path, common, known))
        damages |= {damage.message: damage for damage in found.damages}
    runs, steps, samples = (_stacked(frames) for frames in zip(*parts, strict=True))
    return check_any_left(Runs(runs, steps, samples, tuple(damages.values())))


def _named(runs: Runs, path: Path, common: Path, known: set[str]) -> tuple[Frame, Frame, Frame]:
    """The frames with runs under their paths, without those already known."""
    from collapselab.rundir.layout import RunDir

    place, is_run = path.relative_to(common), RunDir(path).holds_a_run()

    def named(frame: Frame) -> Frame:
        frame = frame.assign(run=[str(place if is_run else place / name) for name in frame["run"]])
        return frame[~frame["run"].isin(known)]

    return named(runs.runs), named(runs.steps), named(runs.samples)


def _stacked(frames: Sequence[Frame]) -> Frame:
    """Frames below each other. Columns that only some have are unknown in the others, and keep their type."""
    import pandas as pd

    columns = [cast(list[str], frame.columns.tolist()) for frame in frames]
    names = list(dict.fromkeys(name for part in columns for name in part))
    kinds: dict[str, Any] = {
        name: frame[name].dtype for frame, part in zip(frames, columns, strict=True) for name in part
    }
    nullable = {n: kind for n, kind in kinds.items() if isinstance(kind, pd.api.extensions.ExtensionDtype)}
    rows: dict[str, list[Any]] = {
        name: [value for frame in frames for value in (frame[name] if name in frame else [None] * len(frame))]
        for name in names
    }
    return pd.DataFrame(rows, columns=pd.Index(names)).astype(nullable)
