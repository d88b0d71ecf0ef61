"""What a person sees while a sweep goes on: a live table on a terminal, plain lines elsewhere; read from the files."""

from __future__ import annotations

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
LINES_AROUND = 4  # of the terminal, besides the rows
SHOWN_FIRST: tuple[State, ...] = ("running", "elsewhere", "failed", "damaged", "interrupted", "done", "waiting")


class Overview:
    """Shows the tasks of a sweep as their states change and their run directories grow."""

    def __init__(self, tasks: Sequence[Task], share: Share, console: Console) -> None:
        self._tasks, self._share, self._console = tasks, share, console
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
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
        by_index = dict(zip((i for _, i, _, _ in ordered), result.runs_s, strict=True))
        return replace(result, runs_s=tuple(by_index[i] for i in range(len(runs))))

    def _total(self, left: Estimate) -> str:
        counts = Counter(task.state for task in self._tasks)
        states = [f"{counts[state]} {state}" for state in SHOWN_FIRST if counts[state] and state != "done"]
        most = "" if left.most_s is None else f"; at most {duration(left.most_s)} left"
        return ", ".join([f"{counts['done']} of {len(self._tasks)} done", *states]) + most

    def _table(self) -> Group:
        left = self._estimate()
        table = Table(box=None, pad_edge=False)
        for column in ("run", "", "step", "so far", "at most"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        ranked = sorted(range(len(self._tasks)), key=lambda i: SHOWN_FIRST.index(self._tasks[i].state))
        num_rows = max(1, self._console.height - LINES_AROUND)
        for i in ranked[:num_rows]:
            task, seen = self._tasks[i], self._seen[i]
            step, max_steps = seen.step or 0, task.run.config.stop.max_steps
            bar = ProgressBar(total=1, completed=1 if task.state == "done" else step / max(1, max_steps), width=20)
            remaining = left.runs_s[i] if task.state != "done" else None
            shown = "" if remaining is None else duration(remaining)
            table.add_row(plain(task.run.name), bar, f"{step}/{max_steps}", plain(told(task, seen)), shown)
        hidden = len(ranked) - num_rows
        more = [Text(f"… and {hidden} more", style="dim")] if hidden > 0 else []
        return Group(table, *more, Text(self._total(left)))


def told(task: Task, seen: Glance) -> str:
    """The state of one run in words."""
    at = "" if seen.step is None else f" at step {seen.step}"
    if task.state == "done" and seen.summary is not None:
        onset = seen.summary.get("onset_step")
        ended_by = ENDED_BY[seen.summary["ended_by"]].label
        return f"{ended_by}{at}" + ("" if onset is None else f", onset at step {onset}")
    if task.state == "running":
        again = f"attempt {task.num_attempts}, " if task.num_attempts > 1 else ""
        return again + _so_far(seen)
    why = f" ({task.message})" if task.message else ""
    return f"{task.state}{at}{why}"


def _so_far(seen: Glance) -> str:
    if seen.step is None:
        return "begins"
    after = "" if seen.loss_fate is None else f", {seen.loss_fate}"
    if seen.degenerate_share is None:
        return f"step {seen.step}, not judged{after}"
    if seen.degenerate_share == 0:
        return f"step {seen.step}{after or ', healthy so far'}"
    return f"step {seen.step}, {seen.degenerate_share:.0%} of the last samples degenerate{after}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
