"""What a person sees while a sweep goes on: a live table on a terminal, plain lines elsewhere; read from the files."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from collapselab.cli.text import plain
from collapselab.collapse.words import ENDED_BY
from collapselab.rundir.progress import Glance, glance
from collapselab.sweep.estimate import Estimate, estimate
from collapselab.sweep.resources import Share
from collapselab.sweep.schedule import State, Task

LOOK_EVERY_S = 1.0
LOOK_SHARE = 0.05  # of the time, at most: a thousand runs on a shared file system take long to look at
LINES_EVERY_S = 30.0  # without a terminal: how far the runs are, besides a line for each begin and end
WIDE = 100  # columns from which names and bars have room
LINES_AROUND = 4  # of the terminal, besides the rows
SHOWN_FIRST: tuple[State, ...] = (
    *("running", "elsewhere", "failed", "damaged", "interrupted", "done", "queued", "waiting"),
)


class Overview:
    """Shows the tasks of a sweep as their states change and their run directories grow."""

    def __init__(self, tasks: Sequence[Task], share: Share, console: Console) -> None:
        self._tasks, self._share, self._console = tasks, share, console
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._names = without_shared([task.run.name for task in tasks])
        self._seen = [glance(task.path) for task in tasks]
        self._states = [(task.state, task.num_attempts) for task in tasks]
        self._last_look, self._pause_s = 0.0, LOOK_EVERY_S
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def tick(self) -> None:
        """Looks again, where something changed or a second has passed (longer, if looking takes long)."""
        states = [(task.state, task.num_attempts) for task in self._tasks]
        changed = [i for i, (now, before) in enumerate(zip(states, self._states, strict=True)) if now != before]
        if not changed and time.monotonic() - self._last_look < self._pause_s:
            return
        self._states, self._last_look = states, time.monotonic()
        for i, task in enumerate(self._tasks):
            if i in changed or task.state in ("running", "elsewhere"):
                self._seen[i] = glance(task.path)
        self._pause_s = max(LOOK_EVERY_S, (time.monotonic() - self._last_look) / LOOK_SHARE)
        if self._live:
            self._live.update(self._table(), refresh=True)
            return
        for i in changed:
            self._say(f"{self._tasks[i].run.name}: {told(self._tasks[i], self._seen[i])}")
        if time.monotonic() - self._last_line >= LINES_EVERY_S:
            self._last_line = time.monotonic()
            self._say(self._total(self._estimate()))

    def _say(self, line: str) -> None:
        self._console.print(plain(line), soft_wrap=True)

    def _estimate(self) -> Estimate:
        """What is left; the runs that go on come first, as they do on the workers."""
        pairs = zip(self._tasks, self._seen, strict=True)
        runs = [(task.state != "running", i, task.run.config, seen) for i, (task, seen) in enumerate(pairs)]
        ordered = sorted(runs, key=lambda run: run[:2])
        result = estimate([(config, seen) for _, _, config, seen in ordered], self._share)
        places = sorted(range(len(runs)), key=[i for _, i, _, _ in ordered].__getitem__)
        most, likely = ([times[i] for i in places] for times in (result.runs_s, result.likely_runs_s))
        return replace(result, runs_s=tuple(most), likely_runs_s=tuple(likely))

    def _total(self, left: Estimate) -> str:
        counts = Counter(task.state for task in self._tasks)
        states = [f"{counts[state]} {state}" for state in SHOWN_FIRST if counts[state] and state != "done"]
        time_left = _time_left(left.likely_s, left.most_s, is_guess=left.is_guess)
        return ", ".join([f"{counts['done']} of {len(self._tasks)} done", *states]) + (
            f"; {time_left} left" if time_left else ""
        )

    def _table(self) -> Group:
        left = self._estimate()
        table = Table(box=None, pad_edge=False)
        is_narrow = self._console.width < WIDE
        table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=24 if is_narrow else None)
        table.add_column("")
        table.add_column("step", no_wrap=True)
        table.add_column("so far", no_wrap=True, overflow="ellipsis")
        table.add_column("left", no_wrap=True)
        ranked = sorted(range(len(self._tasks)), key=lambda i: SHOWN_FIRST.index(self._tasks[i].state))
        num_rows = max(1, self._console.height - LINES_AROUND)
        for i in ranked[:num_rows]:
            task, seen = self._tasks[i], self._seen[i]
            step, max_steps = seen.step or 0, task.run.config.stop.max_steps
            bar = ProgressBar(
                total=1, completed=1 if task.state == "done" else step / max(1, max_steps), width=8 if is_narrow else 20
            )
            of_run = left.likely_runs_s[i], left.runs_s[i]
            shown = "" if task.state == "done" else _time_left(*of_run, is_guess=left.is_guess)
            name = plain(self._names[i])
            table.add_row(name, bar, f"{step}/{max_steps}", plain(told(task, seen, with_step=False)), shown)
        hidden = len(ranked) - num_rows
        more = [Text(f"… and {hidden} more", style="dim")] if hidden > 0 else []
        return Group(table, *more, Text(self._total(left)))


def _time_left(likely_s: float | None, most_s: float | None, *, is_guess: bool) -> str:
    if most_s == 0:
        return ""
    if likely_s is not None:
        return f"{'some' if is_guess else 'about'} {duration(likely_s)}"
    if is_guess and most_s is not None:
        return f"some {duration(most_s)} at most"
    return "" if most_s is None else f"at most {duration(most_s)}"


def without_shared(names: Sequence[str]) -> list[str]:
    """Names without the parts that all of them share: of `lr-2e-05-seed-0` and `lr-2e-05-seed-1` the seeds.

    A part begins with a letter after a hyphen or a slash. If nothing would be left of a name, all stay whole.
    """
    parts = [re.split(r"(?<=[-/])(?=[a-zA-Z])", name) for name in names]
    if len({len(of_name) for of_name in parts}) != 1 or len(names) < 2:
        return list(names)
    differ = [len({part.rstrip("-/") for part in column}) > 1 for column in zip(*parts, strict=True)]
    short = ["".join(part for part, is_own in zip(of_name, differ, strict=True) if is_own) for of_name in parts]
    return [name.rstrip("-/") for name in short] if all(short) else list(names)


def told(task: Task, seen: Glance, *, with_step: bool = True) -> str:
    """The state of one run in words; its step may stand elsewhere."""
    at = "" if seen.step is None or not with_step else f" at step {seen.step}"
    if task.state == "done" and seen.summary is not None:
        onset = seen.summary.get("onset_step")
        ended_by = ENDED_BY[seen.summary["ended_by"]].label
        if not with_step:
            return ended_by + ("" if onset is None else f", onset {onset}")
        return f"{ended_by}{at}" + ("" if onset is None else f", onset at step {onset}")
    if task.state == "running":
        again = f"attempt {task.num_attempts}, " if task.num_attempts > 1 else ""
        return again + _so_far(seen, with_step=with_step)
    why = f" ({task.message})" if task.message else ""
    return f"{task.state}{at}{why}"


def _so_far(seen: Glance, *, with_step: bool) -> str:
    if seen.step is None:
        return "begins"
    share, loss = seen.degenerate_share, seen.loss_fate
    if share is None:
        words = ["not judged", loss]
    elif share == 0:
        words = [loss or "healthy so far"]
    else:
        words = [
            f"{100 * share:.0f} % of the last samples degenerate" if with_step else f"{100 * share:.0f} % degenerate",
            loss,
        ]
    return ", ".join(filter(None, [f"step {seen.step}" if with_step else "", *words]))


def duration(seconds: float) -> str:
    """A time in the unit that suits it; less than a second is one."""
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
