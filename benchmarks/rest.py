"""Writes results/performance/DATE-rest.json: timings that `python -m benchmarks` lacks, each measured five times.

python -m benchmarks.rest speculation FOLDER …    decoding with and without guesses, by collapsed models (checkpoints)
python -m benchmarks.rest rows MODEL …            a pass over one row and over 16, float32
python -m benchmarks.rest records MODEL …         share of a run spent on metrics, records and files
python -m benchmarks.rest checkpoints MODEL       steps with and without a checkpoint each
python -m benchmarks.rest sweep [STEPS]           eight builtin runs with two workers and with one
python -m benchmarks.rest threads MODEL           one thread and two, alone and beside a busy loop
python -m benchmarks.rest start                   commands that only print
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.models import SHAPES, locate
from benchmarks.probe import machine
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig, Sampling
from collapselab.engine.choose import make_engines
from collapselab.engine.decoding import generate
from collapselab.inputs.models import load_model
from collapselab.metrics import repetition_metrics
from collapselab.randomness import rng
from collapselab.rundir.frames import load_runs
from collapselab.runner import run

N = 5
RESULTS = Path(__file__).parents[1] / "results" / "performance"


def paired(first: Callable[[], float], second: Callable[[], float]) -> dict[str, object]:
    """Seconds of two alternatives in turn, and the ratio first / second of each round."""
    rounds = [(first(), second()) for _ in range(N)]
    ratios = [a / b for a, b in rounds]
    return {"seconds": rounds, "ratios": ratios, "median_ratio": statistics.median(ratios)}


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def speculation(folder: str) -> dict[str, object]:
    """Time of plain decoding divided by speculative decoding; the tokens must be equal."""
    loaded, made = load_model(folder), {}
    engine, _ = make_engines(loaded.model, "native", write="float32", score="float32")

    def write(speculate: bool, number: list[int]) -> float:
        def call() -> None:
            noise, prompt = [rng(0, "sample", number[0])], [[loaded.tokenizer.end_of_text_id]]
            made[speculate, number[0]] = generate(
                engine, prompt, Sampling(), noise, vocab_size=loaded.vocab_size, max_new_tokens=200,
                context=loaded.context_length, speculate=speculate,
            )  # fmt: skip

        took = seconds(call)
        number[0] += 1
        return took

    counters = {True: [0], False: [0]}
    write(False, counters[False]), write(True, counters[True])  # warm-up
    found = paired(lambda: write(False, counters[False]), lambda: write(True, counters[True]))
    pairs = [(made[False, i], made[True, i]) for i in range(N + 1)]
    assert all(a.token_ids == b.token_ids for a, b in pairs), "speculation changed a token"
    repeated = [repetition_metrics(a.token_ids[0])["seq_rep_4"] for a, _ in pairs]
    read, rows_read = engine.read, list[int]()

    def counted(tokens: Sequence[Sequence[int]], starts: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        rows_read.append(len(tokens[0]))
        return read(tokens, starts, last_only=last_only)

    engine.read = counted  # the other passes are single tokens, several in a call
    write(True, [N])
    found |= {"passes": [b.num_passes for _, b in pairs], "rows_read_in_the_last": rows_read}
    return found | {"model": folder, "repeated_4_grams": repeated}


def rows(model: str) -> dict[str, object]:
    """Milliseconds of a pass over one row and over 16 after 50 tokens, in float32: five medians of 400."""
    loaded = load_model(model)
    engine, _ = make_engines(loaded.model, "native", write="float32", score="float32")
    engine.begin(1, 66)
    engine.read([[0] * 50], [0])

    def ms(count: int) -> float:
        return 1000 * statistics.median(seconds(lambda: engine.read([[1] * count], [50])) for _ in range(400))

    return {"ms": [{count: ms(count) for count in (1, 16)} for _ in range(N)]}


def small_run(model: str, folder: Path, **changes: object) -> tuple[RunConfig, Path]:
    """A run with a few steps of the paper's size that does not end early."""
    located = locate(model, folder, 0) if model in SHAPES else model
    base: dict[str, object] = {
        "model": str(located), "data": ("austen",), "eval.full_every": 0,
        "stop.on_collapse": False, "stop.on_divergence": False,
    }  # fmt: skip
    return override(RunConfig(), base | changes), folder / "run"


def records(model: str) -> dict[str, object]:
    """Share of a run's time after its first step outside evaluation, writing and update."""
    shares: list[float] = []
    for numerics in ("exact", "fast"):
        with tempfile.TemporaryDirectory() as name:
            steps = 6 if model in SHAPES else 60
            config, out = small_run(model, Path(name), **{"stop.max_steps": steps, "numerics": numerics})
            times: list[float] = []
            run(config, out, on_record=lambda _, t=times: t.append(time.perf_counter()))
            rows = load_runs(out).steps
            work = rows[["seconds_evaluate", "seconds_generate", "seconds_update"]].sum(axis=1)[1:-1].sum()
            whole = times[-2] - times[0]
            shares.append((whole - work) / whole)
    return {"model": model, "share": dict(zip(("exact", "fast"), shares, strict=True))}


def checkpoints(model: str) -> dict[str, object]:
    """Seconds per step with a checkpoint after every step, divided by seconds without; the cost of one checkpoint."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)

        def steps(every_s: float) -> float:
            changes = {"stop.max_steps": 4, "checkpoint_every_s": every_s, "numerics": "fast"}
            config, out = small_run(model, folder, **changes)
            times: list[float] = []
            run(config, out, fresh=True, on_record=lambda _: times.append(time.perf_counter()))
            return (times[-2] - times[0]) / (len(times) - 2)

        found = paired(lambda: steps(0), lambda: steps(1e9))
    return found | {"model": model}


def sweep(steps: str = "") -> dict[str, object]:
    """The time with one worker divided by that with two, for eight runs of builtin:nano of so many steps.

    By default 120: the median of the runs in results/builtin/figures/runs.csv.
    """
    with tempfile.TemporaryDirectory() as name:
        file, numbers = Path(name) / "sweep.toml", iter(range(1000))
        file.write_text(
            f'preset = "demo"\nmodel = "builtin:nano"\n[stop]\nmax_steps = {int(steps or 120)}\n'
            "[eval]\nfull_every = 0\n[sweep.grid]\nseed = [0, 1, 2, 3, 4, 5, 6, 7]\n"
        )

        def timed(workers: int) -> float:
            out = Path(name) / f"runs-{next(numbers)}"
            command = ["collapselab", "sweep", str(file), "--out", str(out), "--workers", str(workers)]
            return seconds(lambda: subprocess.run(command, check=True, capture_output=True))

        return paired(lambda: timed(1), lambda: timed(2))


def threads(model: str) -> dict[str, object]:
    """Milliseconds per step with one thread, with two, and with two that soon sleep; alone and beside a busy loop."""
    settings: dict[str, tuple[str, dict[str, str]]] = {
        "1 thread": ("1", {}),
        "2 threads, OpenMP's default": ("2", {"OMP_WAIT_POLICY": ""}),
        "2 threads, 1,000 rounds": ("2", {}),
    }

    def step_ms(count: str, environment: dict[str, str]) -> float:
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "run"
            command = ["collapselab", "run", "demo", "--model", model, "--threads", count, "--out", str(out)]
            command += ["--stop.max_steps", "6", "--eval.full_every", "0"]
            subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
            rows = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
            parts = [[row[key] for key in row if key.startswith("seconds_")] for row in rows if row["step"]]
            return 1000 * statistics.median(map(sum, parts))

    found: dict[str, object] = {}
    for is_busy in (False, True):
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if is_busy else None
        rounds = [{name: step_ms(*setting) for name, setting in settings.items()} for _ in range(3)]
        if other:
            other.kill()
        found["beside a busy loop" if is_busy else "alone"] = rounds
    return found


def start(_: str = "") -> dict[str, object]:
    """Seconds of commands that only print, each as a new process."""
    commands = ("--help", "presets", "report --help", "run --help", "sweep --help")
    found: dict[str, object] = {}
    for command in commands:
        call = ["collapselab", *command.split()]
        found[command] = [seconds(lambda c=call: subprocess.run(c, check=True, capture_output=True)) for _ in range(N)]
    return found


TASKS: dict[str, Callable[[str], dict[str, object]]] = {
    "speculation": speculation, "records": records, "checkpoints": checkpoints, "sweep": sweep, "start": start,
    "threads": threads, "rows": rows,
}  # fmt: skip


def main() -> None:
    """Runs one task on each argument and adds its numbers to today's file."""
    task, *arguments = sys.argv[1:]
    file = RESULTS / f"{time.strftime('%Y-%m-%d')}-rest.json"
    RESULTS.mkdir(parents=True, exist_ok=True)
    known = (
        json.loads(file.read_text()) if file.exists() else {"machine": machine(), "threads": torch.get_num_threads()}
    )
    for argument in arguments or [""]:
        known[f"{task} {argument}".strip()] = TASKS[task](argument)
    file.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps({k: v for k, v in known.items() if k.startswith(task)}, indent=1))


if __name__ == "__main__":
    main()
