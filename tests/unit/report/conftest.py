"""Runs of every shape, loaded once for all tests of the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from collapselab.rundir.frames import Runs, load_runs
from collapselab.rundir.layout import read_json, write_json
from sampler_runs import write_samplers
from synthetic_runs import judged_run, make_config, write_sweep


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two models, two learning rates, three seeds."""
    return load_runs(write_sweep(tmp_path_factory.mktemp("sweep")))


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Controls, another temperature, an unfinished run, a diverged one, a thinned one, one that never began."""
    folder = tmp_path_factory.mktemp("odd")
    for seed in (0, 1):
        judged_run(folder / f"own-{seed}", make_config(seed=seed), 12 + seed)
        real = make_config(seed=seed, train__source="real", train__real_text="moby-dick")
        judged_run(folder / f"real-{seed}", real, math.inf)
    judged_run(folder / "cold", make_config(sampling__temperature=0.5), 8)
    judged_run(folder / "unfinished", make_config(seed=7, stop__max_steps=40), 12, finished=False)
    judged_run(folder / "no-samples", make_config(seed=8), 12, with_samples=False)
    diverged = judged_run(folder / "diverged", make_config(seed=9), math.inf)
    change_steps(diverged, {20: {"train_nll_nats": "NaN", "val_nll_nats[austen]": "Infinity"}})
    thinned = judged_run(folder / "thinned", make_config(seed=10, eval__every=4), 12)
    lines = (thinned / "steps.jsonl").read_text().splitlines(keepends=True)
    kept = [*lines[:-1:3], lines[-1]]
    (thinned / "steps.jsonl").write_text("".join(kept))
    write_json(thinned / "summary.json", read_json(thinned / "summary.json") | {"num_steps": len(kept)})
    crashed = judged_run(folder / "crashed", make_config(seed=11), 12, finished=False)
    for name in ("steps.jsonl", "samples.jsonl"):
        (crashed / name).unlink()
    return load_runs(folder)


def change_steps(path: Path, changes: dict[int, dict[str, object]]) -> None:
    lines = [json.loads(line) for line in (path / "steps.jsonl").read_text().splitlines()]
    changed = [line | changes.get(line["step"], {}) for line in lines]
    (path / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three seeds of one arm, evaluated every 4 steps."""
    folder = tmp_path_factory.mktemp("sparse")
    for seed in range(3):
        judged_run(folder / f"seed-{seed}", make_config(seed=seed, eval__every=4), 12 + seed)
    return load_runs(folder)


@pytest.fixture(scope="session")
def samplers(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs that freeze, drift and melt, by temperature and top-k."""
    return write_samplers(tmp_path_factory.mktemp("samplers"))
