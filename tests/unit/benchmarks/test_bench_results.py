"""Figures of a series by hand, the table and the JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from made_results import CEILINGS, SIZE, WORK, result_by_hand, timed
from rich.console import Console

from benchmarks import command
from benchmarks.measure import spread
from benchmarks.results import BenchResult, VariantResult, headline, median_floors, to_json, variant_results
from collapselab.records import loads


def test_figures_of_a_series_by_hand() -> None:
    variants = result_by_hand().variants
    fast, slow = variants["fast"], variants["authors"]
    assert fast.ratio_vs["authors"].values == (8.0, 10.0)
    assert fast.ratio_vs["transformers"].values == (2.0, 5.0)
    assert slow.ratio_vs == {}
    assert fast.tokens_per_s is not None
    assert fast.tokens_per_s.values == (3.0, 1.5)
    assert fast.decode_bandwidth_share is not None
    bytes_read = 3 * 50 * 2 + 8 * 6  # in two bytes a weight
    assert fast.decode_bandwidth_share.values == pytest.approx((bytes_read / 1e9, bytes_read / 2 / 2e9))
    assert fast.evaluate_peak_share is not None
    assert slow.evaluate_peak_share is not None
    flops = 5 * (2 * 14 * 4 + 24 * 10)
    assert fast.evaluate_peak_share.values == pytest.approx((flops / 4e10, flops / 2 / 1e10))
    assert slow.evaluate_peak_share.values == pytest.approx((2 * flops / 20 / 1e10, 2 * flops / 30 / 1e10))


def test_a_task_of_one_phase_has_the_figures_of_that_phase() -> None:
    found = variant_results("decode", WORK, SIZE, {"exact": timed(2.0)}, [CEILINGS], {})["exact"]
    assert list(found.seconds_by_phase) == ["generate"]
    assert found.tokens_per_s is not None
    assert found.tokens_per_s.median == 1.5
    assert found.evaluate_peak_share is None, "unknown, not 0"
    assert found.peak_rss_bytes is None
    assert list(median_floors("decode", SIZE, WORK, [CEILINGS])["float32"]) == ["generate"]


def test_plain_numbers_of_the_json() -> None:
    tree = loads(json.dumps(to_json(result_by_hand())))
    assert tree["ratio_vs_authors"] == 9.0
    assert tree["ratio_vs_transformers"] == 3.5
    assert tree["tokens_per_s"] == 2.25
    assert tree["seconds_by_phase"] == {"evaluate": 1.5, "generate": 1.5, "update": 1.5, "measure": 1.5}
    assert tree["peak_rss_bytes"] == 3_000_000_000
    assert tree["evaluate_peak_share"] == pytest.approx((1760 / 4e10 + 1760 / 2e10) / 2)
    assert tree["decode_bandwidth_share"] is None, "that of exact, which was not measured"
    assert tree["headline"]["decode_bandwidth_share"] == "exact"
    assert tree["variants"]["authors"]["seconds"]["values"] == [40.0, 60.0]
    assert tree["probes"][1]["read_bytes_per_s"] == 2e9
    assert headline({}) == dict.fromkeys(tree["headline"])


def table_of(result: BenchResult) -> list[str]:
    stream = io.StringIO()
    command.print_bench(result, Console(file=stream, width=140, color_system=None))
    return stream.getvalue().splitlines()


def test_the_table_has_the_floor_beside_each_figure() -> None:
    lines = table_of(result_by_hand())
    assert lines[0] == "iteration, any (100 parameters), 2026-01-31T00:00:00+00:00"
    assert lines[1] == "a cpu, 2 cores, threads: 1, machine abc"
    assert lines[2] == "ceilings: reads 30.0 GB/s, matrix products 0.25 TFLOP/s in float32, 2 in bfloat16"
    assert lines[3].split() == ["authors", "transformers", "fast", "floor", "fp32", "floor", "bf16"]
    rows = {line[:26].strip(): line[26:].split() for line in lines[4:-1]}
    # 696 bytes at 1.5 GB/s; operations stay below: 3 × 28 + 24 × 6 at 10 GFLOP/s; the median ceilings.
    assert rows["generate 3 tokens, s"] == ["25", "(20–30)", "2.5", "(2–3)", "1.5", "(1–2)", "4.6e-07", "2.3e-07"]
    assert rows["evaluate 20 tokens, s"] == ["25", "(20–30)", "2.5", "(2–3)", "1.5", "(1–2)", "1.8e-07", "7.0e-08"]
    assert rows["metrics, s"] == ["–", "–", "1.5", "(1–2)", "–", "–"]
    assert rows["whole step, s"][:6] == ["50", "(40–60)", "20", "(10–30)", "5.5", "(5–6)"]
    assert rows["× faster than authors"] == ["–", "3", "(2–4)", "9", "(8–10)", "–", "–"]
    assert rows["× faster than transformers"] == ["–", "–", "3.5", "(2–5)", "–", "–"]
    assert rows["peak memory, GB"] == ["–", "–", "3.00", "0.00", "–"]
    assert "on two texts" in lines[-1]
    assert "a published figure needs 5 runs" in lines[-1]
    published = replace(result_by_hand(), n=5)
    assert "publish" not in table_of(published)[-1]


def test_the_table_of_one_phase_has_no_rows_without_figures() -> None:
    result = result_by_hand()
    variants = variant_results("update", WORK, SIZE, {"exact": timed(2.0)}, [CEILINGS], {})
    floor = median_floors("update", SIZE, WORK, [CEILINGS])
    lines = table_of(replace(result, task="update", variants=variants, floor_s=floor))
    assert [line.split("  ")[0] for line in lines[4:-1]] == ["one update, s"]


def test_a_variant_without_ratios_has_an_empty_cell() -> None:
    nothing = VariantResult(spread([1.0]), {}, {}, None, None, None, None)
    lines = table_of(replace(result_by_hand(), variants={"exact": nothing}))
    assert [line.split("  ")[0] for line in lines[4:-1]] == ["whole step, s"]
