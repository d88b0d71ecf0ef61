"""How the cost of a step grows: measured, written and drawn."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import CEILINGS, SMALL, silent

from benchmarks import command, growth, models, suite
from benchmarks.costs import (
    floors,
    rates_for,
)
from benchmarks.growth_figure import growth_figure
from benchmarks.workload import Workload
from collapselab.errors import InputError
from collapselab.records import loads


def test_the_points_of_growth() -> None:
    found = growth.cases("gpt2-shape", sizes=("a", "b"), new_tokens=(100, 1023), batch_sizes=(1, 4), threads=2)
    assert [
        (c.panel, c.model, c.workload.context_mode, c.workload.max_new_tokens, c.workload.batch_size) for c in found
    ] == [
        ("parameters", "a", "cache", 200, 1),
        ("parameters", "b", "cache", 200, 1),
        ("new tokens", "gpt2-shape", "cache", 100, 1),
        ("new tokens", "gpt2-shape", "cache", 1023, 1),
        ("new tokens", "gpt2-shape", "crop", 100, 1),
        ("new tokens", "gpt2-shape", "crop", 1023, 1),
        ("batch size", "gpt2-shape", "cache", 200, 1),
        ("batch size", "gpt2-shape", "cache", 200, 4),
    ]
    assert {case.workload.threads for case in found} == {2}
    assert [case.workload.context for case in found] == [None] * 4 + [100] * 2 + [None] * 2


@pytest.fixture
def small_cases(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> list[growth.Case]:
    monkeypatch.setitem(models.SHAPES, "small-shape", SMALL["gpt2"])
    small = replace(workload, model="small-shape")
    crop = replace(small, context=10, context_mode="crop")
    return [
        growth.Case("parameters", "small-shape", small),
        growth.Case("new tokens", "small-shape", crop),
    ]


def test_growth_is_measured_written_and_drawn(small_cases: list[growth.Case], tmp_path: Path) -> None:
    points, ceilings = growth.grow(small_cases, ("exact", "fast"), n=2, note=silent, probe=lambda: CEILINGS)
    assert [(p.panel, p.numerics, p.x) for p in points] == [
        ("parameters", "exact", points[0].parameters),
        ("parameters", "fast", points[0].parameters),
        ("new tokens", "exact", 30),
        ("new tokens", "fast", 30),
    ]
    first = points[0]
    assert first.median_s is not None
    assert first.all_s is not None
    assert first.median_s == pytest.approx(sum(map(float, first.all_s.split())) / 2, rel=1e-4)
    size = suite.model_size("small-shape")
    assert first.floor_s == sum(floors(size, small_cases[0].workload, rates_for("float32", ceilings)).values())
    assert points[1].floor_s < first.floor_s, "bfloat16"
    table, tree = growth.save(points, ceilings, tmp_path)
    with table.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["median_s"]) for row in rows] == [point.median_s for point in points]
    assert loads(tree.read_text(encoding="utf-8"))["ceilings"]["read_bytes_per_s"] == 1e9
    figure = growth_figure(points).to_dict()
    assert len(figure["hconcat"]) == 2, "a panel without points is left out"
    drawn = [row for rows in figure["datasets"].values() for row in rows]
    assert {row["median"] for row in drawn} == {point.median_s for point in points}
    assert {row["series"] for row in drawn} == {"exact", "fast", "exact, crop", "fast, crop"}


def test_what_memory_does_not_hold_is_a_prediction(
    small_cases: list[growth.Case], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "available_bytes", lambda: growth.OVERHEAD_BYTES)
    notes: list[str] = []
    batch = growth.Case("batch size", "small-shape", replace(small_cases[0].workload, batch_size=2))
    cases = [small_cases[0], batch]
    points, ceilings = growth.grow(cases, ("exact",), n=2, note=notes.append, probe=lambda: CEILINGS)
    assert [(p.n, p.median_s, p.all_s) for p in points] == [(0, None, None)] * 2
    assert points[1].x == 2
    assert points[1].floor_s > points[0].floor_s > 0
    assert notes == ["small-shape needs more memory than is free; only its floor is written"]
    table, _ = growth.save(points, ceilings, tmp_path)
    with table.open(encoding="utf-8") as handle:
        assert next(csv.DictReader(handle))["median_s"] == ""
    growth_figure(points).to_dict()


def test_growth_knows_our_numerics_only(small_cases: list[growth.Case]) -> None:
    with pytest.raises(InputError, match="unknown numerics 'authors'"):
        growth.grow(small_cases, ("authors",), n=1, note=silent, probe=lambda: CEILINGS)


def test_the_growth_command_writes_a_folder(
    small_cases: list[growth.Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def cases(model: str, **options: object) -> list[growth.Case]:
        asked.append((model, options))
        return small_cases[:1]

    monkeypatch.setattr(growth, "cases", cases)
    monkeypatch.setattr(growth, "make_probe", lambda: lambda: CEILINGS)
    out = tmp_path / "grown"
    command.bench("growth", model="builtin:nano", n=1, variants="authors,exact", sizes="small-shape", out=out)
    assert asked == [("builtin:nano", {"sizes": ["small-shape"], "threads": None})]
    assert {path.name for path in out.iterdir()} == {f"growth.{ending}" for ending in ("csv", "json", "svg", "png")}
    assert capsys.readouterr().out.split()[0] == str(out / "growth.csv")
