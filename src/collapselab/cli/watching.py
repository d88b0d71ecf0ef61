"""`collapselab watch`: follows the completions that a trainer writes, with a live view, alarms and an exit code."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from collapselab.cli.text import note, one_line, plain, stderr_console
from collapselab.errors import CollapselabError, InputError, doing
from collapselab.monitor.monitor import CollapseMonitor
from collapselab.monitor.troubles import Event
from collapselab.monitor.watch import Rollouts, follow
from collapselab.records import dumps


class Troubled(CollapselabError):
    """The training that is watched needs attention: exit code 1."""


def watch(
    folder: Positional[Path],
    tokenizer: str | None = None,
    out: Path | None = None,
    until: Literal["verdict", "warning", "never"] = "verdict",
    once: bool = False,
    idle_s: float | None = None,
    json: bool = False,
) -> None:
    """Follows the completions that TRL, verl or prime-rl write, and says when they collapse; exit code 1 if they do.

    TRL writes them with log_completions=True, verl with trainer.rollout_data_dir, prime-rl in rollouts/step_N.

    Args:
        folder: the trainer's output folder, or the one with the files of completions
        tokenizer: the model whose tokenizer reads the text (a name as in `collapselab models`); default: builtin
        out: also write a run directory, for collapselab report
        until: end with exit code 1 at a verdict (collapse, template, …), already at a warning, or never
        once: judge what is there now, and end
        idle_s: end if no new step came for so many seconds; default: follow until Ctrl-C
        json: print events as JSON, one per line
    """
    from collapselab.inputs.tokenizers import builtin_tokenizer

    if idle_s is not None and idle_s <= 0:
        raise InputError(f"--idle-s is more than 0, received {idle_s:g}", "leave it out to follow until Ctrl-C")
    if tokenizer is None:
        chosen = builtin_tokenizer()
    else:
        from collapselab.inputs.models import load_tokenizer

        with doing(f"reading the tokenizer of {tokenizer}"):
            chosen = load_tokenizer(tokenizer)
    monitor = CollapseMonitor(out, tokenizer=chosen, name=folder.resolve().name, on_warning=(), on_verdict=())
    num_steps = 0
    try:
        with View(stderr_console(), monitor) as view, doing(f"reading {folder}"):
            for rollouts in follow(folder, once=once, idle_s=idle_s, on_wait=view.refresh):
                num_steps += 1
                known = {} if rollouts.reward is None else {"reward": rollouts.reward}
                ids = [chosen.encode(text) for text in rollouts.texts]
                events = monitor.observe(rollouts.step, ids, groups=rollouts.prompts, values=known)
                view.show(rollouts, events)
                _tell(events, json, until)
    finally:
        monitor.finish("collapse" if monitor.state.onset_step is not None else "budget")
    if not num_steps:
        raise InputError(f"{folder}: no completions in it", "collapselab watch --help says what the trainers write")
    note(f"{num_steps} steps, {len(monitor.events) or 'no'} warnings and verdicts")


def _tell(events: list[Event], json: bool, until: str) -> None:
    for event in events:
        if json:
            print(dumps(asdict(event)), flush=True)  # noqa: T201
        is_end = until == event.stage or (until == "warning" and event.stage == "verdict")
        sentence = f"{event.name} at step {event.step}: {event.message}"
        if is_end:
            raise Troubled(sentence, "`--until never` goes on watching")
        note(f"{event.stage}: {sentence}")


class View:
    """A live panel on a terminal, one line per step elsewhere."""

    def __init__(self, console: Console, monitor: CollapseMonitor) -> None:
        self._console, self._monitor = console, monitor
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._rows: list[dict[str, Any]] = []
        self._latest: Rollouts | None = None

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
            self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, rollouts: Rollouts, events: list[Event]) -> None:
        """Shows one more step."""
        monitor = self._monitor
        self._latest = rollouts
        values = monitor.latest
        self._rows.append({name: values.get(name) for name in _SHOWN})
        if self._live:
            self.refresh()
        else:
            known = [(name, word) for name, word in _SHOWN.items() if values.get(name) is not None]
            numbers = "  ".join(f"{word} {_number(values[name])}" for name, word in known)
            self._console.print(plain(f"step {rollouts.step:>6}  {numbers}  {self._verdict()}"), soft_wrap=True)

    def refresh(self) -> None:
        """Draws the panel again."""
        if self._live:
            self._live.update(self._panel(), refresh=True)

    def _verdict(self) -> str:
        monitor = self._monitor
        share = monitor.state.degenerate_share
        told = "not judged" if share is None else f"degenerate {100 * share:.0f} %"
        since = monitor.warnings.since
        return told if since is None else f"{told}  warning since step {since}"

    def _panel(self) -> Panel:
        from collapselab.cli.live import SPARK_STEPS, sparkline

        if self._latest is None:
            return Panel(Text("waiting for completions"), width=min(100, self._console.width))
        table = Table.grid(padding=(0, 2))
        for name, word in _SHOWN.items():
            values = [row[name] for row in self._rows]
            table.add_row(word, _number(values[-1]), sparkline(values[-SPARK_STEPS:]))
        sample = one_line(self._latest.texts[0]) if self._latest.texts else ""
        body = Group(table, Text(self._verdict()), Text(sample, overflow="ellipsis", no_wrap=True))
        return Panel(body, title=plain(f"step {self._latest.step}"), width=min(100, self._console.width))


_SHOWN = {
    "reward": "reward",
    "num_tokens": "tokens",
    "seq_rep_4": "repeated 4-grams",
    "match_entropy_nats": "entropy of the text",
    "overlap_across": "overlap across prompts",
}


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "–"
