"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from types import TracebackType
from typing import Self, cast

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from collapselab.cli.overview import duration
from collapselab.cli.text import one_line, plain, sparkline
from collapselab.collapse.numbers import label, live_names
from collapselab.collapse.summary import is_warned_of
from collapselab.collapse.warning import ALARMS, SIGNALS, Warnings
from collapselab.collapse.words import FATES, Fate, rules_in_words
from collapselab.config.schema import RunConfig
from collapselab.records import Record
from collapselab.step.parts import Parts
from collapselab.sweep.estimate import time_left

SPARK_STEPS = 40
WORDS_WIDTH = 62  # of the panel, for frame, labels, values and changes
LINES_EVERY_S = 2.0  # without a terminal: at most one line in this time


class Progress:
    """Shows the records of one run as they come."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._records: list[Record] = []
        self._warnings = Warnings.of(ALARMS if is_warned_of(config) else ())
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._started = self._first_shown = self._last_line = time.monotonic()
        self._first_step = 0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def start(self, parts: Parts, history: Sequence[Record]) -> None:
        """Says what begins, once everything is loaded."""
        learner = parts.learner.loaded
        resumed = f", resumed at step {len(history)}" if history else ""
        self._console.print(plain(f"{learner.name}: {learner.num_parameters:,} parameters{resumed}"), soft_wrap=True)
        self._records, self._first_step = list(history), len(history)
        for record in history:
            self._warnings = self._warnings.see(record.step, record.values)
        self._started = time.monotonic()

    def show(self, record: Record) -> None:
        """Shows one more record."""
        self._records.append(record)
        self._warnings = self._warnings.see(record.step, record.values)
        if record.step == self._first_step:
            self._first_shown = time.monotonic()
        if self._live:
            self._live.update(self._panel(), refresh=True)
            return
        now = time.monotonic()
        if record.step == self._first_step or record.values["ended_by"] or now - self._last_line >= LINES_EVERY_S:
            self._last_line = now
            self._console.print(plain(self._line(record)), soft_wrap=True)

    def _line(self, record: Record) -> str:
        numbers = "  ".join(f"{word} {_number(record.number(name))}" for name, word in live_names(self._config.data))
        degenerate = f"degenerate {100 * (record.number('degenerate_share') or 0.0):.0f} %{_loss_word(record)}"
        if self._warnings.since is not None:
            degenerate += f"  warning since step {self._warnings.since}"
        return f"step {record.step:>4}  {numbers}  {degenerate}  {self._times(record)}"

    def _panel(self) -> Panel:
        record, config = self._records[-1], self._config
        table = Table.grid(padding=(0, 2))
        table.add_row(
            "", Text("now", style="dim"), Text("since 0", style="dim"), Text("from step 0 to now", style="dim")
        )
        for name, _ in live_names(config.data):
            self._add_row(table, name)
        phases = ("generate", "update", "evaluate")
        seconds = " · ".join(f"{phase} {record.number(f'seconds_{phase}') or 0:.2f} s" for phase in phases)
        sample = Text(one_line(record.samples[0].text) if record.samples else "", overflow="ellipsis", no_wrap=True)
        body = Group(
            table,
            Text(verdict_so_far(record)),
            *self._warning(),
            Text(self._times(record)),
            Text(seconds, style="dim"),
            sample,
        )
        title = plain(f"{config.model}  lr {config.optim.lr:g}  step {record.step}/{config.stop.max_steps}")
        return Panel(body, title=title, width=min(100, self._console.width))

    def _warning(self) -> list[Text]:
        """The early warning that lasts, as a line of the panel."""
        return [
            Text(f"early warning since step {watch.since}: {SIGNALS[watch.alarm.signal].label}", style="yellow")
            for watch in self._warnings.on[:1]
        ]

    def _add_row(self, table: Table, name: str) -> None:
        values = [record.number(name) for record in self._records]
        latest = next((v for v in reversed(values) if v is not None), None)
        first = next((v for v in values if v is not None), None)
        change = None if latest is None or first is None else latest - first
        words = "" if change is None else f"{change:+.3f}".replace("-", "−")
        table.add_row(plain(label(name)), _number(latest), words, sparkline(squeezed(values, self._spark_width())))

    def _spark_width(self) -> int:
        return max(8, min(SPARK_STEPS, self._console.width - WORDS_WIDTH))

    def _times(self, record: Record) -> str:
        """Time spent, the pace, and what is left; a run ends at the collapse, or at the last step allowed."""
        now = time.monotonic()
        times = duration(now - self._started)
        done = record.step - self._first_step
        if done < 1:
            return times
        pace_s = (now - self._first_shown) / done
        times += f", {1 / max(pace_s, 1e-9):.2g} steps/s"
        if record.values["ended_by"]:
            return times
        expected_s, most_s = time_left(self._config, record.step, pace_s, *self._landmarks())
        left = f"at most {duration(most_s)}" if expected_s is None else f"about {duration(expected_s)}"
        return f"{times}, {left} left"

    def _landmarks(self) -> tuple[int | None, int | None]:
        """The first step at which most of the last samples were degenerate, and that of total collapse, so far."""
        shares = [record.number("degenerate_share") or 0.0 for record in self._records]
        is_on_its_way = [record.values.get("reasons") == ["low-diversity"] for record in self._records]
        majority = next((i for i, share in enumerate(shares) if share >= 0.75), None)
        before = self._config.collapse.window - 1
        whole = (
            i for i, share in enumerate(shares) if share == 1 and not any(is_on_its_way[max(0, i - before) : i + 1])
        )
        return majority, next(whole, None)


def squeezed(values: Sequence[float | None], width: int) -> list[float | None]:
    """The values as at most `width` means of neighbours, so that a row of bars goes back to step 0."""
    count = min(width, len(values))
    edges = [round(i * len(values) / max(1, count)) for i in range(count + 1)]
    parts = ([v for v in values[a:b] if v is not None and math.isfinite(v)] for a, b in pairwise(edges))
    return [fmean(part) if part else None for part in parts]


def verdict_so_far(record: Record) -> str:
    """The state of the run after a record, in words: its samples, then its loss on human text."""
    loss = record.values.get("loss_fate")
    if loss == "diverged":
        return _with_meaning("diverged")
    after = f"; {_with_meaning(loss)}" if isinstance(loss, str) else ""
    share = record.number("degenerate_share")
    if share is None:
        return "not judged: samples under 100 tokens" + after
    reasons = record.values.get("reasons")
    why = f" (this sample: {rules_in_words(reasons)})" if isinstance(reasons, list) and reasons else ""
    if share == 0:
        return ("no degenerate sample so far" if after else "healthy so far") + why + after
    return f"{100 * share:.0f} % of the last samples are degenerate{why}{after}"


def _with_meaning(fate: str) -> str:
    return f"{fate}: {FATES[cast(Fate, fate)].meaning}"


def _loss_word(record: Record) -> str:
    loss = record.values.get("loss_fate")
    return f"  {loss}" if isinstance(loss, str) else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
