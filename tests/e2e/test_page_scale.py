"""A page of a hundred runs of a thousand steps: made in seconds, small enough to mail, quick to answer."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from browsing import opened, step_shown, until
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_runs import readable_run

NUM_RUNS, NUM_STEPS, MEGABYTE = 100, 1000, 1e6
PATIENCE = 2  # how much slower than the target a busy machine of continuous integration may be


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five learning rates by two models by ten seeds, samples of 200 tokens that never repeat from step to step."""
    folder, draw = tmp_path_factory.mktemp("many"), random.Random(0)
    words = [f"{a}{b}" for a in "aeioustr" for b in ("n", "th", "ck", "lla", "be")]
    for number in range(NUM_RUNS):
        rate, model, seed = number % 5, number // 5 % 2, number // 10
        settings: dict[str, object] = {
            "seed": seed,
            "optim.lr": 1e-5 * 2**rate,
            "model": ("builtin:micro", "builtin:mini")[model],
        }
        texts = [" ".join(draw.choices(words, k=200)) for _ in range(NUM_STEPS)]
        onset = 900 // (rate + 1) + draw.randrange(60)
        readable_run(
            folder / f"run-{number:03d}",
            onset=onset,
            num_steps=NUM_STEPS,
            texts=texts,
            settings=settings,
            tokens_per_sample=200,
        )
    return folder


def test_a_hundred_long_runs_make_a_page_that_can_be_used(runs: Path, browser: Any, tmp_path: Path) -> None:
    loaded = load_runs(runs)
    started = time.perf_counter()
    path = write_page(loaded, tmp_path / "report.html")
    build_s = time.perf_counter() - started

    started = time.perf_counter()
    window = opened(browser, path)
    page = next(window)
    before = step_shown(page)
    page.locator(".pane input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    until(page, f"Number(document.querySelector('.pane').dataset.step) !== {before}")
    answer_s = time.perf_counter() - started
    next(window, None)

    size = path.stat().st_size
    sys.stdout.write(f"\nbuilt in {build_s:.1f} s, {size / MEGABYTE:.1f} MB, a step after opening {answer_s:.2f} s\n")
    assert build_s < 10 * PATIENCE
    assert size < 10 * MEGABYTE
    assert answer_s < 2 * PATIENCE
