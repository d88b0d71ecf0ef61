"""Follows a folder in which a trainer writes its completions, and reads each step once it is complete."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from collapselab.errors import InputError

# Where the step is in a path: TRL's completions/completions_00010.parquet (`log_completions`), verl's 10.jsonl
# (`trainer.rollout_data_dir`), prime-rl's step_10/train_rollouts.jsonl.
FORMS: dict[str, re.Pattern[str]] = {
    "TRL": re.compile(r"(?:^|/)completions_(\d+)\.parquet$"),
    "prime-rl": re.compile(r"(?:^|/)step_(\d+)/(?:train_)?rollouts\.jsonl$"),
    "verl": re.compile(r"(?:^|/)(\d+)\.jsonl$"),
}
_COMPLETION = ("completion", "output", "response", "completions", "text")
_PROMPT = ("prompt", "input", "example_id")
_REWARD = ("reward", "score")
_ADVANTAGE = "advantage"  # in TRL's files, beside one column of numbers per reward function, named after it
_SETTLED_S = 1.0  # a file is complete once a later step exists, or it has not grown for this long


@dataclass(frozen=True)
class Rollouts:
    """The completions of a step, the prompt of each, and their mean reward (`None`: unknown)."""

    step: int
    texts: tuple[str, ...]
    prompts: tuple[str, ...]
    reward: float | None
    path: Path


def step_files(folder: Path) -> list[tuple[int, Path]]:
    """The files of completions below a folder, by step; of several for one step, the first by name."""
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder.parent).as_posix()
        match = next((match for form in FORMS.values() if (match := form.search(name)) is not None), None)
        if match is not None and path.is_file():
            found.setdefault(int(match[1]), path)
    return sorted(found.items())


def read_rollouts(step: int, path: Path) -> Rollouts:
    """The completions of a file.

    Raises:
        ValueError: it is not complete yet, or damaged.
        InputError: pyarrow is missing, or no field holds a completion.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    if not rows:
        raise ValueError("no rows")
    name = next((name for name in _COMPLETION if name in rows[0]), None)
    if name is None:
        raise InputError(
            f"{path} has no completions: its fields are {', '.join(map(str, rows[0]))}",
            f"completions are looked for in {', '.join(_COMPLETION)}",
        )
    prompt = next((key for key in _PROMPT if key in rows[0]), None)
    texts = tuple(_text(row.get(name)) for row in rows)
    prompts = tuple("" if prompt is None else json.dumps(row.get(prompt), default=str) for row in rows)
    rewards = [x for row in rows if (x := _reward(row)) is not None]
    return Rollouts(step, texts, prompts, fmean(rewards) if rewards else None, path)


def follow(
    folder: Path,
    *,
    once: bool = False,
    idle_s: float | None = None,
    look_every_s: float = 1.0,
    on_wait: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Rollouts]:
    """The completions of each step in order, as they come; steps that come late are skipped.

    Args:
        folder: the trainer's output folder, or the one with the files themselves.
        once: end with what is there now.
        idle_s: end if nothing new came for so long; none: never.
        look_every_s: time between looks.
        on_wait: called before each wait.
        sleep: waits.

    Raises:
        InputError: no such folder, or a file without completions.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "name the folder in which the trainer writes its completions")
    last, news = -1, time.monotonic()
    while True:
        files = [(step, path) for step, path in step_files(folder) if step > last]
        for i, (step, path) in enumerate(files):
            is_settled = once or i + 1 < len(files) or time.time() - path.stat().st_mtime >= _SETTLED_S
            try:
                rollouts = read_rollouts(step, path) if is_settled else None
            except InputError:
                raise
            except (ValueError, OSError):
                rollouts = None
                if i + 1 < len(files):
                    continue  # a later step exists, so this file stays damaged
            if rollouts is None:
                break
            last, news = step, time.monotonic()
            yield rollouts
        else:
            if once:
                return
        if once or (idle_s is not None and time.monotonic() - news >= idle_s):
            return
        on_wait()
        sleep(look_every_s)


def _reward(row: Mapping[str, Any]) -> float | None:
    """The reward of a row; in TRL's files the sum over its reward functions, as if all had the weight 1."""
    names = [name for name in _REWARD if name in row][:1]
    if not names and _ADVANTAGE in row:
        names = [name for name, value in row.items() if isinstance(value, float) and name != _ADVANTAGE]
    known = [x for name in names if isinstance(x := row[name], (int, float)) and math.isfinite(x)]
    return sum(known) if known else None


def _json_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [cast(dict[str, Any], json.loads(line)) for line in lines if line.strip()]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    from collapselab.rundir.parquet import check_pyarrow

    check_pyarrow()
    import pyarrow.parquet

    # pyarrow's ArrowInvalid, for a file that is not complete, is a ValueError.
    return cast(list[dict[str, Any]], cast(Any, pyarrow.parquet).read_table(path).to_pylist())


def _text(completion: Any) -> str:
    """The text of a completion: a string, or the contents of a conversation's messages, joined."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        return _text(cast(Mapping[str, Any], completion).get("content"))
    if isinstance(completion, Sequence):
        return "\n".join(filter(None, (_text(part) for part in cast(Sequence[Any], completion))))
    return ""
