"""`collapselab reproduce`: the paper's experiments on one tier, then verdicts, figures, tables and the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import arg

from collapselab.cli.overview import duration
from collapselab.cli.reporting import load, write_report
from collapselab.cli.sweeping import carry_out_shown, check_numbers, print_plan, raise_what_is_left, shares
from collapselab.cli.text import stdout_console
from collapselab.sweep.grid import Sweep
from collapselab.sweep.schedule import Task, place
from collapselab.sweep.tiers import EQUAL_UPDATES, equal_updates, load_tier, plan

if TYPE_CHECKING:  # pandas takes a third of a second, which --help need not wait for
    from collapselab.frames import Runs


def reproduce(
    tier: Literal["builtin", "smollm2", "gpt2"] = "builtin",
    quick: bool = False,
    seeds: int | None = None,
    out: Annotated[Path | None, arg(aliases=["-o"])] = None,
    workers: int | None = None,
    retries: int = 1,
    dry_run: bool = False,
    data_dir: Path | None = None,
) -> None:
    """Reproduces the paper: all sweeps of a tier, then verdicts, figures, tables and the page.

    Repeated, it goes on where it was: finished runs are kept, the others resume from their last checkpoint.

    Args:
        tier: the shipped models (builtin), SmolLM2-135M (smollm2), or the paper's models (gpt2)
        quick: fewer models, learning rates and seeds; builtin: a few minutes on two cores
        seeds: runs of each arm; by default 5 for builtin, 3 otherwise, and 3 or 2 with --quick
        out: the folder of runs/, figures/ and report.html; by default runs/reproduce-<tier>, with -quick
        workers: runs side by side; by default what cores and memory allow
        retries: how often a failed run is tried again
        dry_run: list the runs and the time they may take, and stop
        data_dir: where texts lie or are downloaded to (also COLLAPSELAB_DATA)
    """
    check_numbers(workers, retries)
    asked, out = load_tier(tier, seeds, quick=quick), out or Path("runs") / _folder(tier, quick=quick)
    tasks = _tasks(asked.sweeps, out)
    if dry_run:
        print_plan(tasks, shares(tasks, workers), out / "runs", json=False)
        if asked.sized:
            _note(f"then runs of {' and '.join(asked.sized[1:])} at rates that make their updates equally large")
        return
    started, asked_for = time.monotonic(), {"tier": tier, "quick": quick, "seeds": seeds}
    stopped = carry_out_shown(tasks, shares(tasks, workers), retries, data_dir, asked_for)
    if asked.sized and all(task.state == "done" for task in tasks):
        matched = {EQUAL_UPDATES: equal_updates(asked, load([out / "runs"]))}
        tasks, num_done = _tasks({**asked.sweeps, **matched}, out), len(tasks)
        stopped = carry_out_shown(tasks[num_done:], shares(tasks[num_done:], workers), retries, data_dir, asked_for)
    if stopped:
        raise_what_is_left(tasks, stopped=True)
    _note(f"runs: {duration(time.monotonic() - started)}")
    _write(out, f"Collapse of self-trained language models: {tier}" + (", quick" if quick else ""))
    raise_what_is_left(tasks, stopped=False)


def _folder(tier: str, *, quick: bool) -> str:
    return f"reproduce-{tier}" + ("-quick" if quick else "")


def _tasks(sweeps: Mapping[str, Sweep], out: Path) -> list[Task]:
    """A task for each run, in a folder of its sweep below `out`/runs."""
    named = [replace(run, name=f"{name}/{run.name}") for name, runs in plan(sweeps).items() for run in runs]
    return place(named, out / "runs")


def _write(out: Path, title: str) -> None:
    """Verdicts on standard output, the page and all files below `out`."""
    started = time.monotonic()
    runs = load([out / "runs"])
    _print_verdicts(runs)
    write_report(runs, out / "report.html", out / "figures", title)
    _note(f"verdicts, figures, tables and page: {duration(time.monotonic() - started)}")


def _print_verdicts(runs: Runs) -> None:
    from collapselab.hypotheses import judge

    table = Table(box=None, pad_edge=False)
    for column in ("", "claim", "verdict", "effect", "estimate, 95 % interval", "p (Holm)"):
        table.add_column(column, overflow="fold")
    for found in judge(runs):
        ends = "" if found.low is None or found.high is None else f" [{found.low:.3g}, {found.high:.3g}]"
        estimate = "–" if found.effect is None else f"{found.effect:.3g}{ends}"
        p_value = "–" if found.p_adjusted is None else f"{found.p_adjusted:.2g}"
        table.add_row(found.key, found.claim, found.verdict, found.effect_name, estimate, p_value)
    stdout_console().print(table)


def _note(text: str) -> None:
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)
