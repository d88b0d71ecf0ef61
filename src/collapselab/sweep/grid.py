"""From base settings and what varies to an ordered list of runs: pure functions, without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any, cast

from collapselab.config import presets
from collapselab.config.overrides import override, settings
from collapselab.config.safeguards import shown
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, nearest
from collapselab.records import flatten

Axes = Mapping[str, Sequence[object]]
MAX_RUNS = 100_000  # a configuration takes kilobytes, and nobody waits for more runs
MAX_NUMBER = 10**18  # Python refuses to print integers of several thousand digits
MAX_NAME_LENGTH = 100  # file systems allow 255 bytes, but tables need shorter names


@dataclass(frozen=True)
class Sweep:
    """Base settings and what varies, by dotted name: the product of `grid`, paired `zipped` and `listed` settings.

    Raises:
        InputError: an unknown setting, an empty axis, unequal lengths in `zipped`, a setting in two of the parts, a
            number of more than 18 digits, or more than 100,000 runs.
    """

    base: RunConfig
    grid: Axes = field(default_factory=dict[str, Sequence[object]])
    zipped: Axes = field(default_factory=dict[str, Sequence[object]])
    listed: Sequence[Mapping[str, object]] = ()

    def __post_init__(self) -> None:
        _check_axes(self)
        if self.num_runs > MAX_RUNS:
            raise InputError(
                f"a sweep has at most {MAX_RUNS:,} runs, this one has {self.num_runs:,}: {_factors(self)}",
                "give fewer values, or make several sweeps",
            )

    @property
    def num_runs(self) -> int:
        """The size of the product of all parts, counted without making it."""
        num_steps = max(map(len, self.zipped.values()), default=1)
        return prod(map(len, self.grid.values())) * num_steps * max(1, len(self.listed))

    @property
    def varying(self) -> tuple[str, ...]:
        """The settings that the sweep sets, in the order of its description."""
        return tuple(dict.fromkeys([*self.grid, *self.zipped, *(name for entry in self.listed for name in entry)]))


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: its directory's name, its configuration, and the settings that the sweep sets for it."""

    name: str
    config: RunConfig
    changes: Mapping[str, object]


def expand(sweep: Sweep) -> tuple[PlannedRun, ...]:
    """The runs: every combination of the grid, times every position of `zipped`, times every entry of `listed`.

    The first axis of the grid varies slowest, the list fastest. A name is made of the settings that the sweep sets
    (`lr-2e-05-seed-1`). It is safe in a file system, and unique.

    Raises:
        InputError: a value breaks a rule, or two runs are the same.
    """
    runs: list[tuple[RunConfig, dict[str, object]]] = []
    for changes in _combinations(sweep):
        config = override(sweep.base, changes)
        values = dict(flatten(config.model_dump())) | {"safeguards": shown(config.safeguards)}
        runs.append((config, {name: values.get(name, given) for name, given in changes.items()}))
    short = _short_names(sweep.varying)
    names = [_join(f"{short[key]}-{_slug(value)}" for key, value in changes.items()) for _, changes in runs]
    _check_distinct([(name, config) for name, (config, _) in zip(names, runs, strict=True)])
    unique = _unique(names, [config.run_id for config, _ in runs])
    return tuple(PlannedRun(name, *run) for name, run in zip(unique, runs, strict=True))


def rebase(sweep: Sweep, changes: Mapping[str, object]) -> Sweep:
    """The sweep with some of its base settings changed.

    Raises:
        InputError: a setting is unknown, breaks a rule, or is one that the sweep varies.
    """
    clash = next((name for name in changes if name.replace("-", "_") in sweep.varying), None)
    if clash is not None:
        raise InputError(f"--{clash} is set for each run by the sweep", "change the sweep, or leave the option out")
    return replace(sweep, base=override(sweep.base, changes))


def from_settings(tree: Mapping[str, object]) -> Sweep:
    """The sweep of a TOML file, from its settings by dotted name (`overrides.load_toml`).

    `preset` and the settings outside `sweep` are the base; `sweep.grid`, `sweep.zip` and `sweep.list` are what varies.

    Raises:
        InputError: no axis, an axis that is not a list, or an unknown part of `sweep`; and whatever `Sweep` refuses.
    """
    base = {name: value for name, value in tree.items() if not name.startswith("sweep.")}
    parts: dict[str, dict[str, Any]] = {"grid": {}, "zip": {}, "list": {}}
    for name, value in tree.items():
        if name in base:
            continue
        part, _, setting = name.removeprefix("sweep.").partition(".")
        if part not in parts:
            raise InputError(f"unknown part of a sweep {name!r}", nearest(part, parts))
        parts[part][setting] = value
    for part in ("grid", "zip"):
        if "" in parts[part]:
            received = parts[part][""]
            raise InputError(f"sweep.{part} must be a table, received {received!r}", f"begin it with [sweep.{part}]")
    if not any(parts.values()):
        raise InputError("the file has no sweep", "add [sweep.grid], [sweep.zip] or [[sweep.list]]")
    config = override(presets.load(str(base.pop("preset", "paper"))), base)
    return Sweep(config, _spelled(parts["grid"]), _spelled(parts["zip"]), _entries(parts["list"]))


def _spelled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings may be written with hyphens, as on the command line."""
    return {name.replace("-", "_"): value for name, value in values.items()}


def _entries(part: Mapping[str, Any]) -> tuple[Mapping[str, object], ...]:
    if not part:
        return ()
    entries: object = part.get("")
    if len(part) > 1 or not isinstance(entries, list) or not entries:
        raise InputError("sweep.list must be a list of tables with at least one", "begin each with [[sweep.list]]")
    tables = cast(list[object], entries)
    if wrong := [entry for entry in tables if not isinstance(entry, dict)]:
        raise InputError(f"sweep.list must hold tables, received {wrong[0]!r}", "begin each with [[sweep.list]]")
    return tuple(_spelled(dict(flatten(cast(dict[str, Any], entry)))) for entry in tables)


def _check_axes(sweep: Sweep) -> None:
    known = {*dict(settings()), "numerics"}  # `override` knows one word for that whole section
    for name in sweep.varying:
        if name not in known:
            raise InputError(f"unknown setting {name!r}", nearest(name, known))
    for part, axes in (("grid", sweep.grid), ("zip", sweep.zipped)):
        for name, values in axes.items():
            if not isinstance(cast(object, values), (list, tuple)):
                raise InputError(f"sweep.{part}: {name} must be a list, received {values!r}", f"{name} = [{values!r}]")
            if not values:
                raise InputError(f"sweep.{part}: {name} has no value", "give at least one, or leave the setting out")
    entries = [item for entry in sweep.listed for item in entry.items()]
    numbers = [(n, v) for axes in (sweep.grid, sweep.zipped) for n, values in axes.items() for v in values] + entries
    if large := next((n for n, v in numbers if isinstance(v, int) and abs(v) >= MAX_NUMBER), None):
        raise InputError(f"{large} has a number of more than 18 digits", "no setting is that large")
    lengths = {name: len(values) for name, values in sweep.zipped.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"sweep.zip needs lists of one length: {found}", "sweep.grid makes every combination")
    in_list = {name for entry in sweep.listed for name in entry}
    twice = [name for name, count in Counter([*sweep.grid, *sweep.zipped, *in_list]).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is in two parts of the sweep", "vary it in only one: grid, zip or list")


def _factors(sweep: Sweep) -> str:
    parts = [f"{len(values):,} of {name}" for name, values in sweep.grid.items()]
    parts += [f"{len(next(iter(sweep.zipped.values()))):,} steps of zip"] if sweep.zipped else []
    return " × ".join([*parts, *([f"{len(sweep.listed):,} of list"] if sweep.listed else [])])


def _combinations(sweep: Sweep) -> Iterable[dict[str, object]]:
    grid = [dict(zip(sweep.grid, values, strict=True)) for values in product(*sweep.grid.values())]
    steps = zip(*sweep.zipped.values(), strict=True)
    zipped: list[dict[str, object]] = [dict(zip(sweep.zipped, values, strict=True)) for values in steps] or [{}]
    for parts in product(grid, zipped, sweep.listed or ({},)):
        yield {name: value for part in parts for name, value in part.items()}


def _check_distinct(runs: Sequence[tuple[str, RunConfig]]) -> None:
    """Two runs with one id would share a directory; settings that change no number do not distinguish them."""
    first: dict[str, str] = {}
    for name, config in runs:
        if config.run_id in first:
            raise InputError(
                f"two runs of the sweep are the same: {first[config.run_id]} and {name}",
                "give each value once; settings that change no number (such as threads) do not make a different run",
            )
        first[config.run_id] = name


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """`optim.lr` as lr; the whole dotted name, with hyphens, if two names have the same short form."""
    tails = {name: name.rpartition(".")[2] for name in names}
    counts = Counter(tails.values())
    return {name: tail if counts[tail] == 1 else name.replace(".", "-") for name, tail in tails.items()}


def _slug(value: object) -> str:
    """A value in letters, digits, `.`, `_`, `+` and `-`; of a path the last part, of an empty text "blank"."""
    if isinstance(value, (tuple, list)):
        return "+".join(map(_slug, cast(Sequence[object], value)))
    text = str(value).lower() if isinstance(value, bool) or value is None else str(value)
    tail = text.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]+", "-", tail, flags=re.ASCII).strip("-.") or "blank"


def _join(parts: Iterable[str]) -> str:
    return "-".join(parts) or "base"


def _unique(names: Sequence[str], run_ids: Sequence[str]) -> list[str]:
    """The names, with the run's id where a name is too long or occurs twice (some file systems ignore case)."""
    counts = Counter(name.lower() for name in names)
    pairs = zip(names, run_ids, strict=True)
    fits = [len(name) <= MAX_NAME_LENGTH and counts[name.lower()] == 1 for name in names]
    room = MAX_NAME_LENGTH - len(run_ids[0]) - 1
    return [name if fit else f"{name[:room]}-{run_id}" for (name, run_id), fit in zip(pairs, fits, strict=True)]


def sharded(runs: Sequence[PlannedRun], shard: str | None) -> list[PlannedRun]:
    """Every n-th run of a sweep, beginning with the i-th, for a shard `i/n`; all of them for None.

    Raises:
        InputError: it is no shard, or there are fewer runs than shards.
    """
    if shard is None:
        return list(runs)
    words = shard.split("/")
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    if len(words) != 2 or len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1]:
        raise InputError(
            f"--shard must be i/n with i from 1 to n, received {shard!r}",
            "the third of eight machines has --shard 3/8; from an index that begins at 0: --shard $((INDEX + 1))/8",
        )
    if numbers[1] > len(runs):
        raise InputError(f"--shard {shard}: the sweep has only {len(runs)} runs", "use at most as many shards as runs")
    return list(runs[numbers[0] - 1 :: numbers[1]])
