"""`collapselab sweep`: many runs side by side, with an overview, a table of results, and a plan beforehand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from collapselab.cli.executing import EXECUTORS, local_executor
from collapselab.cli.faults import only_warned
from collapselab.cli.overview import Overview, duration, told
from collapselab.cli.text import note, plain, print_json, stderr_console, stdout_console
from collapselab.cli.text import table as new_table
from collapselab.collapse.words import ENDED_BY
from collapselab.errors import InputError, Interrupted, RunFailed
from collapselab.rundir.progress import Glance, glance
from collapselab.sweep.estimate import Estimate, estimate
from collapselab.sweep.executors.interface import Executor
from collapselab.sweep.grid import expand, rebase, sharded
from collapselab.sweep.presets import load
from collapselab.sweep.resources import Share
from collapselab.sweep.schedule import Task, carry_out, place


@dataclass(frozen=True)
class Options:
    """Executes many runs: SWEEP or FILE.toml, then any base setting as --NAME VALUE."""

    sweep: Annotated[Positional[str], arg(metavar="SWEEP")]
    """learning-rates, sizes, or a TOML file with [sweep.grid], [sweep.zip] or [[sweep.list]]"""
    out: Path | None = None
    """the folder of the run directories; by default runs/<name of the sweep>"""
    workers: int | None = None
    """runs side by side; by default what cores and memory allow"""
    retries: int = 1
    """how often a failed run is tried again"""
    dry_run: bool = False
    """list the runs and the time they may take, and stop"""
    data_dir: Path | None = None
    """where texts are or are downloaded to (also COLLAPSELAB_DATA)"""
    json: bool = False
    """print JSON instead of a table"""
    shard: str | None = None
    """i/n: only every n-th run, beginning with the i-th (1 to n), so that n machines share a sweep"""
    executor: Literal["local", "slurm", "ray"] = "local"
    """where the runs are executed: this machine, a Slurm cluster, a Ray cluster (docs/cluster.md)"""
    cpus_per_run: int | None = None
    """slurm, ray: cores of each run; by default one for small models, otherwise four"""
    gpus_per_run: float | None = None
    """slurm, ray: GPUs of each run; by default one with --device cuda"""
    memory_gib: float | None = None
    """slurm, ray: memory of each run; by default from the model's size"""
    minutes: int = 240
    """slurm: wall time of a job; before it ends, the run writes a checkpoint and its job is queued again"""
    slurm: str = ""
    """slurm: further options of sbatch, for example 'partition=gpu account=lab'"""
    address: str | None = None
    """ray: the cluster's address, or auto; by default a cluster on this machine"""
    runs_per_gpu: int | None = None
    """local: how many runs share a GPU, each in a process of its own; by default one"""


def sweep_command(options: Options, changes: dict[str, str]) -> None:
    """Executes many runs: every combination of the settings in a file, resumed where they stopped."""
    check_numbers(options.workers, options.retries)
    runs = sharded(expand(rebase(load(options.sweep), changes)), options.shard)
    tasks = place(runs, options.out or Path("runs") / Path(options.sweep).stem)
    chosen = EXECUTORS[options.executor](options, tasks)
    if chosen.said is not None:
        note(chosen.said)
    if options.dry_run:
        print_plan(tasks, chosen.share, tasks[0].path.parent, json=options.json, script=chosen.script)
        raise_if_damaged(tasks)
        return
    asked_for = {"sweep": options.sweep, "settings": changes}
    stopped = carry_out_shown(tasks, chosen.share, options.retries, options.data_dir, asked_for, chosen.make)
    with only_warned("the results are not shown"):  # they are in the run directories
        _print_results(tasks, options)
    raise_what_is_left(tasks, stopped=stopped)


def check_numbers(workers: int | None, retries: int) -> None:
    """Refuses numbers of workers and retries that make no sense."""
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, received {workers}", "leave it out to use all cores")
    if retries < 0:
        raise InputError(f"--retries must be at least 0, received {retries}", "0: a failed run stays failed")


def carry_out_shown(
    tasks: Sequence[Task],
    shared: Share,
    retries: int,
    data_dir: Path | None,
    asked_for: Mapping[str, object],
    make: Callable[[Share], Executor] = local_executor,
) -> bool:
    """Carries out tasks under an overview; returns whether it was told to stop."""
    console = stderr_console()
    console.print(plain(f"collapselab: {_counts(tasks)}; {_shared(shared)}"))
    for task in tasks:
        if task.state == "waiting" and task.message is not None:
            words = f"{task.run.name} is damaged and goes on from before the damage: {task.message}"
            console.print(plain(words), soft_wrap=True)
    executor = make(shared)
    with Overview(tasks, shared, console) as overview:
        return carry_out(
            tasks,
            executor,
            retries=retries,
            data_dir=data_dir,
            asked_for={**asked_for, "command": sys.argv[1:]},
            on_tick=overview.tick,
        )


def _counts(tasks: Sequence[Task]) -> str:
    finished = sum(task.state == "done" for task in tasks)
    return f"{len(tasks)} runs" + (f", {finished} finished before" if finished else "")


def _shared(shared: Share) -> str:
    workers = "1 worker" if shared.num_workers == 1 else f"{shared.num_workers} workers, each"
    return f"{workers} with {shared.num_threads} thread{'s' if shared.num_threads > 1 else ''}"


def print_plan(
    tasks: Sequence[Task], shared: Share, folder: Path, *, json: bool, script: Callable[[], str] | None = None
) -> None:
    """Prints the runs that would be carried out below a folder, the time they may take, and the job script."""
    seen = [glance(task.path) for task in tasks]
    is_due = [task.state != "damaged" for task in tasks]
    needed = estimate(
        [(task.run.config, look) for task, look, due in zip(tasks, seen, is_due, strict=True) if due], shared
    )
    due_s = iter(needed.runs_s)
    runs_s = [next(due_s) if due else None for due in is_due]
    if json:
        rows = [_row(task) | {"at_most_s": run_s} for task, run_s in zip(tasks, runs_s, strict=True)]
        total = {"at_most_s": needed.most_s, "likely_s": needed.likely_s, "basis": needed.basis}
        total |= {} if script is None else {"job_script": script()}
        print_json({**asdict(shared), **total, "runs": rows})
        return
    some = "some " if needed.is_guess else ""
    table = new_table("run", "state", "at most")
    for task, look, run_s in zip(tasks, seen, runs_s, strict=True):
        state = _planned_state(task, look)
        shown = "unknown" if run_s is None else some + duration(run_s)
        shown = "–" if task.state in ("done", "damaged") else shown
        is_named = task.path == folder / task.run.name
        name = task.run.name if is_named else f"{task.run.name}, in {task.path.name}"
        table.add_row(plain(name), plain(state), shown)
    lines = [f"{_counts(tasks)}, in {folder}; {_shared(shared)}", *_times(needed, some)]
    console = stdout_console()
    if console.is_terminal:  # a pipe keeps each sentence on one line
        lines = [part for line in lines for part in _wrapped(line, console.width)]
    mended = sum(task.state == "waiting" and task.message is not None for task in tasks)
    lines += [f"{mended} of {len(tasks)} runs damaged: a sweep goes on from before the damage"] if mended else []
    lines += [] if script is None else ["", *script().splitlines()]
    console.print(table, "", *map(plain, lines), sep="\n", soft_wrap=True)


def _wrapped(line: str, width: int) -> list[str]:
    """The line in lines of at most this width; paths and names stay whole."""
    return wrap(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _planned_state(task: Task, look: Glance) -> str:
    if task.state in ("done", "damaged"):
        return told(task, look)
    begun = "new" if look.step is None else f"begun, step {look.step}"
    return begun if task.message is None else f"{begun}, damaged: {task.message}"


def _times(needed: Estimate, some: str) -> list[str]:
    """The time of all runs, and how it was estimated."""
    if needed.most_s == 0:
        return []
    most = "time: " + ("unknown" if needed.most_s is None else f"at most {some}{duration(needed.most_s)}")
    if needed.likely_s is not None:
        most += f", {some}{duration(needed.likely_s)} if they end when they are expected to"
    return [most, *(f"  {line}" for line in needed.basis)]


def _print_results(tasks: Sequence[Task], options: Options) -> None:
    if options.json:
        print_json({"runs": [_row(task) for task in tasks]})
        return
    table = new_table("run", "ended by", "onset", "total collapse", "last step", "loss at first", "at last", "on")
    for task in tasks:
        seen = glance(task.path)
        if task.state != "done" or seen.summary is None:
            table.add_row(plain(task.run.name), plain(told(task, seen)))
            continue
        summary, loss = seen.summary, seen.summary["losses"][0]
        steps = [summary.get(name) for name in ("onset_step", "total_collapse_step", "last_step")]
        losses = [loss["first"], loss["last"]]
        cells = [ENDED_BY[summary["ended_by"]].label, *map(_step, steps), *map(_loss, losses), loss["text"]]
        table.add_row(plain(task.run.name), *map(plain, cells))
    stdout_console().print(table)


def _row(task: Task) -> dict[str, object]:
    """A run as a program reads it; unknown values are null."""
    summary = glance(task.path).summary or {}
    names = ("ended_by", "fate", "onset_step", "total_collapse_step", "last_step")
    return {
        "name": task.run.name,
        "path": str(task.path),
        "run_id": task.run.config.run_id,
        "changes": dict(task.run.changes),
        "status": task.state,
        "attempts": task.num_attempts,
        "message": task.message,
        **{name: summary.get(name) for name in names},
    }


def raise_what_is_left(tasks: Sequence[Task], *, stopped: bool) -> None:
    """Ends the command with the exit code of what was not done."""
    again = "repeat the command: finished runs are kept, the others go on from their last checkpoint"
    failed = [task for task in tasks if task.state == "failed"]
    undone = sum(task.state != "done" for task in tasks)
    if stopped:
        raise Interrupted(f"stopped with {undone} of {len(tasks)} runs not finished", again)
    if failed:
        message = f"{len(failed)} of {len(tasks)} runs failed: {_first_messages(failed)}"
        raise RunFailed(message, f"see {failed[0].log}; then {again}")
    raise_if_damaged(tasks)
    if undone:
        raise Interrupted(
            f"{undone} of {len(tasks)} runs were stopped, or reached their wall time (stop.max_seconds)", again
        )


def raise_if_damaged(tasks: Sequence[Task]) -> None:
    """Ends the command with an error if runs were left alone because their files are damaged."""
    damaged = [task for task in tasks if task.state == "damaged"]
    if damaged:
        raise RunFailed(
            f"{len(damaged)} of {len(tasks)} runs left alone: {_first_messages(damaged)}",
            "bring their files back, or remove their folders and repeat the command to make them again",
        )


def _first_messages(tasks: Sequence[Task]) -> str:
    told_first = [f"{task.run.name}: {task.message or 'unknown'}" for task in tasks[:3]]
    return "; ".join([*told_first, *([f"and {len(tasks) - 3} more"] if len(tasks) > 3 else [])])


def _step(step: int | None) -> str:
    return "–" if step is None else str(step)


def _loss(nats: float | None) -> str:
    return "–" if nats is None else f"{nats:.3f}"
