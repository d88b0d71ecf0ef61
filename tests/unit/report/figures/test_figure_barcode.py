"""The text barcode: which tokens are coloured, in which shade."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.report.figures import FIGURES, barcode
from collapselab.report.figures.barcode import MAX_ROWS, repeat_lengths
from collapselab.report.selection import OneRun, judging_samples
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs
from figure_specs import rows_of


def slow_repeat_lengths(ids: Sequence[int], before: Sequence[int]) -> list[int]:
    """For each token the longest passage around it that begins at an earlier place of the same text, or before it."""
    longest = [0] * len(ids)
    for start, end in itertools.combinations(range(len(ids) + 1), 2):
        passage = list(ids[start:end])
        inside = any(list(ids[i : i + end - start]) == passage for i in range(start))
        outside = any(list(before[i : i + end - start]) == passage for i in range(len(before)))
        if inside or outside:
            for i in range(start, end):
                longest[i] = max(longest[i], end - start)
    return longest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=8))
def test_a_tokens_repetition_is_that_of_the_longest_passage_around_it(ids: list[int], before: list[int]) -> None:
    assert repeat_lengths(ids, before).tolist() == slow_repeat_lengths(ids, before)


def run_of(samples: pd.DataFrame, row: dict[str, Any]) -> OneRun:
    return OneRun(row, pd.DataFrame(), judging_samples(samples, row))


def make_samples(texts: Sequence[Sequence[int]], role: str = "train") -> pd.DataFrame:
    rows = [{"run": "a", "step": i, "index": 0, "role": role, "token_ids": list(ids)} for i, ids in enumerate(texts)]
    return pd.DataFrame(rows)


def test_the_barcode_colours_repeats_by_length_and_copies_of_the_step_before() -> None:
    new = list(range(20))
    loop_of_5 = [50, 51, 52, 53, 54] * 8
    chart = barcode.draw(
        run_of(make_samples([new + loop_of_5[:10], new, [*range(100, 110), *loop_of_5]]), {"model": "m"})
    )
    rows = sorted((row for row in rows_of(specification(chart)) if "start" in row), key=lambda row: row["step"])
    stretches = [list(zip(row["start"], row["stop"], row["kind"], strict=True)) for row in rows]
    assert stretches[0] == [(25, 30, 0)], "five tokens that repeat: the first shade"
    assert stretches[1] == [(0, 20, 4)], "new in itself, but all of it in the step before"
    assert stretches[2] == [(15, 50, 3)], "35 tokens that repeat"
    assert [(row["step"], row["end"]) for row in rows] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(("length", "shade"), [(3, None), (4, 0), (7, 0), (8, 1), (15, 1), (16, 2), (31, 2), (32, 3)])
def test_shades_begin_at_their_lengths(length: int, shade: int | None) -> None:
    once = list(range(length))
    chart = barcode.draw(run_of(make_samples([[*once, 99, *once]]), {}))
    (row,) = [row for row in rows_of(specification(chart)) if "kind" in row]
    assert row["kind"] == ([] if shade is None else [shade])


def test_the_barcode_of_a_long_run_has_evenly_spaced_rows() -> None:
    draw = random.Random(0)
    texts = [[draw.randrange(50) for _ in range(30)] for _ in range(1001)]
    chart = barcode.draw(run_of(make_samples(texts), {"model": "m", "onset_step": 700}))
    rows = [row for row in rows_of(specification(chart)) if "start" in row]
    assert len(rows) == MAX_ROWS
    assert (min(row["step"] for row in rows), max(row["step"] for row in rows)) == (0, 1000)
    assert all(5 <= row["end"] - row["step"] <= 6 for row in rows)


def test_the_barcode_shows_probes_where_they_judge_and_nothing_without_samples(sweep: Runs) -> None:
    samples = pd.concat([make_samples([[1] * 30]), make_samples([list(range(30))], "probe")])
    chart = barcode.draw(run_of(samples, {"collapse.source": "probe"}))
    assert [row["start"] for row in rows_of(specification(chart)) if "start" in row] == [[]]
    assert barcode.select(Runs(sweep.runs, sweep.steps, sweep.samples)) is not None
    assert barcode.select(Runs(sweep.runs, sweep.steps, sweep.samples.iloc[:0])) is None


def test_a_caption_of_a_barcode_says_the_shares_of_the_first_and_the_last_row(sparse: Runs) -> None:
    found = re.search(r"goes from (\d+) % in the first row to (\d+) % in the last", FIGURES["barcode"].caption(sparse))
    assert found is not None
    assert int(found[1]) < 20 < 80 < int(found[2])


def test_steps_judged_degenerate_are_marked_at_the_edge() -> None:
    run = run_of(make_samples([[1] * 30] * 4), {})
    steps = pd.DataFrame({"step": range(4), "degenerate": pd.array([None, False, True, True], dtype="boolean")})
    found = rows_of(specification(barcode.draw(replace(run, steps=steps))))
    assert [row["step"] for row in found if row.keys() == {"step", "end"}] == [2, 3]
