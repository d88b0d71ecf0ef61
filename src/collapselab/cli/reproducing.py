"""`collapselab reproduce`: the paper's experiments on one tier, then verdicts, figures, tables and the page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from collapselab.cli.executing import shares
from collapselab.cli.faults import only_warned
from collapselab.cli.overview import duration
from collapselab.cli.places import check_folder
from collapselab.cli.reporting import load, raise_if_left_out, write_report
from collapselab.cli.sweeping import (
    carry_out_shown,
    check_numbers,
    print_plan,
    raise_if_damaged,
    raise_what_is_left,
)
from collapselab.cli.text import note, stdout_console, table
from collapselab.errors import InputError
from collapselab.rundir.layout import RunDir
from collapselab.sweep.grid import Sweep, expand
from collapselab.sweep.schedule import Task, place
from collapselab.sweep.tiers import EQUAL_UPDATES, Tier, about_equal_updates, equal_updates, load_tier, plan

if TYPE_CHECKING:  # pandas takes a third of a second, which --help need not wait for
    from collapselab.rundir.frames import Runs


MAX_SEEDS = 1000


def reproduce(
    tier: Literal["builtin", "smollm2", "gpt2"] = "builtin",
    quick: bool = False,
    seeds: int | None = None,
    out: Annotated[Path | None, arg(aliases=["-o"])] = None,
    device: Literal["cpu", "cuda"] = "cpu",
    workers: int | None = None,
    retries: int = 1,
    dry_run: bool = False,
    data_dir: Path | None = None,
) -> None:
    """Reproduces the paper: all sweeps of a tier, then verdicts, figures, tables and the page.

    If repeated, it continues: finished runs are kept, the others resume from their last checkpoint.

    Args:
        tier: the shipped models (builtin), SmolLM2-135M (smollm2), or the paper's models (gpt2)
        quick: fewer models, learning rates and seeds; builtin: a few minutes on two cores
        seeds: runs of each arm; by default 5 for builtin, 3 otherwise, and 3 or 2 with --quick
        out: the folder of runs/, figures/ and report.html; by default runs/reproduce-<tier>, with -quick
        device: where the models run
        workers: runs side by side; by default what cores and memory allow
        retries: how often a failed run is tried again
        dry_run: list the runs and the time they may take, and stop
        data_dir: where texts are or are downloaded to (also COLLAPSELAB_DATA)
    """
    check_numbers(workers, retries)
    if seeds is not None and seeds > MAX_SEEDS:
        raise InputError(f"--seeds must be at most {MAX_SEEDS}, received {seeds}", "5 to 20 are usual")
    asked = load_tier(tier, seeds, quick=quick, device=device)
    out = out or Path("runs") / (f"reproduce-{tier}" + ("-quick" if quick else ""))
    _check_folder(out)
    tasks = _tasks(asked.sweeps, out)
    if dry_run:
        expected = [*tasks, *_expected(asked, tasks, out)]
        print_plan(expected, shares(expected, workers), out / "runs", json=False)
        raise_if_damaged(expected)
        return

    def carry_out(tasks: Sequence[Task]) -> None:
        asked_for = {"tier": tier, "quick": quick, "seeds": seeds}
        if tasks and carry_out_shown(tasks, shares(tasks, workers), retries, data_dir, asked_for):
            raise_what_is_left(tasks, stopped=True)

    started = time.monotonic()
    carry_out(tasks)
    matched = _matched(asked, tasks, out)
    carry_out(matched)
    tasks = [*tasks, *matched]
    note(f"runs: {duration(time.monotonic() - started)}")
    title = f"Collapse of self-trained language models: {tier}" + (", quick" if quick else "")
    try:
        _write(tasks, out, title)
    finally:
        raise_what_is_left(tasks, stopped=False)


def _check_folder(out: Path) -> None:
    """Refuses what would be found out only after all runs."""
    for path in (out, out / "runs", out / "figures"):
        check_folder(path, "--out")
    if (out / "report.html").is_dir():
        raise InputError(f"{out / 'report.html'} is a folder", "choose another folder with --out")


def _tasks(sweeps: Mapping[str, Sweep], out: Path) -> list[Task]:
    """A task for each run, in a folder of its sweep below `out`/runs."""
    tasks: list[Task] = []
    for name, runs in plan(sweeps).items():
        for task in place(runs, out / "runs" / name):
            tasks.append(replace(task, run=replace(task.run, name=f"{name}/{task.run.name}")))
    return tasks


def _matched(asked: Tier, tasks: Sequence[Task], out: Path) -> list[Task]:
    """The runs at equal update size, whose learning rates the finished ones tell."""
    if not asked.sized:
        return []
    try:
        matched = equal_updates(asked, load(_begun(tasks)))
    except InputError as error:
        note(f"{EQUAL_UPDATES} is left out: {error.message}")
        return []
    return _tasks({**asked.sweeps, EQUAL_UPDATES: matched}, out)[len(tasks) :]


def _expected(asked: Tier, tasks: Sequence[Task], out: Path) -> list[Task]:
    """Those runs, or as many like them while their learning rates are unknown."""
    if not asked.sized or all(task.state == "done" for task in tasks):
        return _matched(asked, tasks, out)
    folder = out / "runs" / EQUAL_UPDATES
    about = [replace(run, name=f"{EQUAL_UPDATES}/about-{run.name}") for run in expand(about_equal_updates(asked))]
    return [Task(run, folder / run.name) for run in about]


def _begun(tasks: Sequence[Task]) -> list[Path]:
    return [task.path for task in tasks if RunDir(task.path).holds_a_run()]


def _write(tasks: Sequence[Task], out: Path, title: str) -> None:
    """Verdicts on standard output, the page and all files below `out`; nothing if no run began."""
    started, paths = time.monotonic(), _begun(tasks)
    if not paths:
        return
    runs = load(paths)
    with only_warned("the verdicts are not shown"):  # the page has them
        _print_verdicts(runs)
    write_report(runs, out / "report.html", out / "figures", title)
    note(f"verdicts, figures, tables and page: {duration(time.monotonic() - started)}")
    _show_regimes(runs, out / "figures" / "barcodes.png")
    raise_if_left_out(runs)


def _print_verdicts(runs: Runs) -> None:
    from collapselab.analysis.hypotheses import judge

    verdicts = table("", "claim", "verdict", "effect", "estimate, 95 % interval", "p (Holm)")
    for found in judge(runs):
        ends = "" if found.low is None or found.high is None else f" [{found.low:.3g}, {found.high:.3g}]"
        estimate = "–" if found.effect is None else f"{found.effect:.3g}{ends}"
        p_value = "–" if found.p_adjusted is None else f"{found.p_adjusted:.2g}"
        verdicts.add_row(found.key, found.claim, found.verdict, found.effect_name, estimate, p_value)
    stdout_console().print(verdicts)


def _show_regimes(runs: Runs, picture: Path) -> None:
    """The picture of freeze, drift and melt side by side, if there is one, and what is seen in it."""
    from collapselab.report.figures import barcodes

    regimes = barcodes.select(runs)
    if regimes is not None and picture.is_file():
        note(f"picture: {picture} ({barcodes.in_a_line(regimes)})")
