"""`python -m benchmarks`: the speed of a step, compared with the authors' method, `transformers` and the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from collapselab.cli import guarded
from collapselab.cli.arguments import read
from collapselab.cli.faults import only_warned
from collapselab.cli.places import check_folder
from collapselab.cli.text import note, plain, print_json, stdout_console
from collapselab.errors import InputError

if TYPE_CHECKING:  # importing them imports torch
    from benchmarks.measure import Spread
    from benchmarks.results import BenchResult, VariantResult

TRAINING_COPIES = 4  # weights, gradients and two moments; without updates, only weights
MIN_RUNS = 5  # for published figures
MAX_THREADS = 4096
DASH = "–"
PROGRAM = "python -m benchmarks"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmarks and exits, with the exit codes of `collapselab`."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(guarded(lambda: parse(given)(), PROGRAM))


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """The benchmark for these arguments, as a function without arguments.

    Raises:
        InputError: an unknown option, or a wrong value.
        SystemExit: --help; it has been printed.
    """
    return read(bench, PROGRAM, arguments, ("python -m benchmarks", "python -m benchmarks decode --model builtin:nano"))


def bench(
    task: Positional[
        Literal["iteration", "decode", "evaluate", "update", "metrics", "monitor", "growth"]
    ] = "iteration",
    model: str = "gpt2-shape",
    n: int = 5,
    threads: int | None = None,
    variants: str = "authors,transformers,exact,fast",
    skip_memory: bool = False,
    sizes: str | None = None,
    out: Path = Path("runs/growth"),
    json: bool = False,
) -> None:
    """Measures speed against the authors' method, plain transformers and the machine's limits.

    Args:
        task: a whole step (iteration), one phase of it, its metrics, the monitor, or how a step's cost grows (growth)
        model: a shape with random weights (gpt2-shape, smollm2-shape, …), or a name as in `collapselab models`
        n: runs of each variant, alternating, after one warm-up; for growth, runs per point
        threads: CPU threads; by default each variant's own choice
        variants: variants to compare, separated by commas; growth and metrics take exact and fast
        skip_memory: do not measure peak memory (which needs a separate process per variant)
        sizes: growth: the models of its first panel, separated by commas; by default GPT-2 shapes from 0.5 M to 1.5 B
        out: growth: the folder for growth.csv, .json, .svg and .png
        json: print JSON with every raw value
    """
    if n < 1:
        raise InputError(f"n must be at least 1, received {n}", f"published figures need at least {MIN_RUNS}")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise InputError(
            f"--threads must be from 1 to {MAX_THREADS}, received {threads}",
            "leave it out for each variant's default",
        )
    names = _split(variants)
    if task == "growth":
        _grow(model, [v for v in names if v in ("exact", "fast")], _split(sizes or ""), n, threads, out, json)
        return
    if task == "metrics":
        _metrics(model, [v for v in names if v in ("exact", "fast")], n, threads, json)
        return
    if task == "monitor":
        _monitor(model, n, threads, json)
        return
    from benchmarks.results import to_json
    from benchmarks.suite import bench as measure
    from benchmarks.workload import Workload

    workload = Workload(model, threads)
    result = measure(task, workload, n=n, variants=names, with_memory=not skip_memory, note=_note)
    if json:
        print_json(to_json(result))
    else:
        print_bench(result, stdout_console())


def print_bench(result: BenchResult, console: Console) -> None:
    """Prints a series: the machine and its ceilings, then each figure with its floor."""
    console.print(*map(plain, _header(result).splitlines()), sep="\n", soft_wrap=True)
    names = list(result.variants)
    table = Table(box=None, pad_edge=False)
    for column in ("", *names, "floor fp32", "floor bf16"):
        table.add_column(column, justify="left" if column == "" else "right", no_wrap=column == "")
    for label, cells in _rows(result):
        table.add_row(label, *cells)
    console.print(table)
    console.print(plain(_footer(result)), soft_wrap=True)


def _header(result: BenchResult) -> str:
    machine, rates = result.machine, {name: s.median for name, s in result.ceilings.items()}
    return (
        f"{result.task}, {result.model} ({result.size.parameters:,} parameters), {result.date}\n"
        f"{machine['cpu']}, {machine['cores']} cores, threads: {machine['threads']}, machine {machine['fingerprint']}\n"
        f"ceilings: reads {rates['read_bytes_per_s'] / 1e9:.1f} GB/s, matrix products "
        f"{rates['float32_flops_per_s'] / 1e12:.3g} TFLOP/s in float32, "
        f"{rates['bfloat16_flops_per_s'] / 1e12:.3g} in bfloat16"
    )


def _footer(result: BenchResult) -> str:
    text = f"median of {result.n} alternating runs (minimum to maximum); ratios compare runs of the same round"
    if result.task == "iteration" and "authors" in result.variants:
        text += "; the authors' method evaluates on two texts"
    if result.n < MIN_RUNS:
        text += f"; a published figure needs {MIN_RUNS} runs"
    return text


def _rows(result: BenchResult) -> Iterator[tuple[str, list[str]]]:
    """The lines of the table: label, one cell per variant, the two floors."""
    variants = list(result.variants.values())
    workload = result.workload
    labels = {
        "generate": f"generate {workload.max_new_tokens * workload.batch_size:,} tokens, s",
        "evaluate": f"evaluate {workload.evaluated_tokens:,} tokens, s",
        "update": "one update, s",
        "measure": "metrics, s",
    }
    for phase, label in labels.items():
        if any(phase in v.seconds_by_phase for v in variants):
            floor = [_number(result.floor_s[dtype].get(phase)) for dtype in ("float32", "bfloat16")]
            yield label, [*(_cell(v.seconds_by_phase.get(phase)) for v in variants), *floor]
    if result.task == "iteration":
        floor = [_number(sum(result.floor_s[dtype].values())) for dtype in ("float32", "bfloat16")]
        yield "whole step, s", [*(_cell(v.seconds) for v in variants), *floor]
    yield from _derived(result, variants)


def _derived(result: BenchResult, variants: Sequence[VariantResult]) -> Iterator[tuple[str, list[str]]]:
    figures: dict[str, Callable[[VariantResult], str]] = {
        "tokens per second": lambda v: _cell(v.tokens_per_s),
        "of the read bandwidth": lambda v: _cell(v.decode_bandwidth_share, 100, " %"),
        "of the matrix peak": lambda v: _cell(v.evaluate_peak_share, 100, " %"),
        **{f"× faster than {name}": _ratio_to(name) for name in result.variants},
    }
    for label, figure in figures.items():
        cells = [figure(v) for v in variants]
        if set(cells) != {DASH}:
            yield label, [*cells, DASH, DASH]
    if any(v.peak_rss_bytes is not None for v in variants):
        trains = result.task in ("iteration", "update")
        least = result.size.training_bytes if trains else result.size.training_bytes // TRAINING_COPIES
        peaks = [DASH if v.peak_rss_bytes is None else f"{v.peak_rss_bytes / 1e9:.2f}" for v in variants]
        yield "peak memory, GB", [*peaks, f"{least / 1e9:.2f}", DASH]


def _ratio_to(name: str) -> Callable[[VariantResult], str]:
    return lambda variant: _cell(variant.ratio_vs.get(name))


def _cell(value: Spread | None, scale: float = 1.0, unit: str = "") -> str:
    if value is None:
        return DASH
    middle, least, greatest = (_number(x * scale) for x in (value.median, value.least, value.greatest))
    return f"{middle}{unit}" if len(value.values) == 1 else f"{middle}{unit} ({least}–{greatest})"


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent for common magnitudes."""
    if value is None:
        return DASH
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1000 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"


def _grow(
    model: str, numerics: Sequence[str], sizes: Sequence[str], n: int, threads: int | None, out: Path, json: bool
) -> None:
    from benchmarks.growth import SIZES, cases, grow, save
    from benchmarks.growth_figure import growth_figure
    from collapselab.report.theme import save_figure

    check_folder(out, "--out")
    points, ceilings = grow(cases(model, sizes=sizes or SIZES, threads=threads), numerics, n=n, note=_note)
    out.mkdir(parents=True, exist_ok=True)
    table, tree = save(points, ceilings, out)
    pictures: tuple[Path, ...] = ()
    with only_warned("the figure is not drawn"):
        pictures = save_figure(growth_figure(points), out, "growth")
    if json:
        print(tree.read_text(encoding="utf-8"))  # noqa: T201
    else:
        stdout_console().print(*(plain(str(path)) for path in (table, tree, *pictures)), sep="\n", soft_wrap=True)


def _metrics(model: str, numerics: Sequence[str], n: int, threads: int | None, json: bool) -> None:
    from benchmarks.metrics import metric_costs
    from benchmarks.workload import Workload

    if not numerics:
        raise InputError("the task metrics needs exact or fast among --variants", "for example --variants exact")
    found = [metric_costs(Workload(model, threads), name, n) for name in numerics]
    if json:
        print_json([{**asdict(costs), "default_share": costs.default_share} for costs in found])
        return
    for costs in found:
        table = Table(box=None, pad_edge=False)
        for column in ("metrics of", "once, ms", "times per step", "share of a step"):
            table.add_column(column, justify="left" if column == "metrics of" else "right")
        for name, group in costs.groups.items():
            share = 100 * group.seconds.median * group.per_step / costs.step_s.median
            table.add_row(name, _cell(group.seconds, 1000), _number(group.per_step), f"{share:.2f} %")
        total = f"all default metrics: {100 * costs.default_share:.2f} % of a step of {_number(costs.step_s.median)} s"
        stdout_console().print(plain(f"{costs.model}, {costs.numerics}"), table, plain(total), sep="\n")


def _monitor(model: str, n: int, threads: int | None, json: bool) -> None:
    import torch

    from benchmarks.monitor import monitor_costs
    from benchmarks.workload import Workload
    from collapselab.monitor.probes import Probes

    if threads is not None:
        torch.set_num_threads(threads)
    costs = monitor_costs(Workload(model, threads), n, lambda done: _note(f"round {done} of {n + 1}"))
    if json:
        print_json({**asdict(costs), "observe_share": costs.observe_share, "probe_share": costs.probe_share})
        return
    lines = [
        f"{costs.model}, CPU seconds, n = {n} pairs in alternating order: median (minimum to maximum)",
        f"a step: {_cell(costs.step_s)}; watched, × {_cell(costs.ratio)}",
        f"judging its completions: {_cell(costs.observe_s, 1000)} ms, {100 * costs.observe_share:.2f} % of the step",
        f"a probe: {_cell(costs.probe_s)}; one per {Probes().every} steps: {100 * costs.probe_share:.2f} % of a step",
    ]
    stdout_console().print(*map(plain, lines), sep="\n", soft_wrap=True)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _note(message: str) -> None:
    note(f"collapselab: {message}")
