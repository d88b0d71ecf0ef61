"""Every figure of a report, from runs of every shape; and what it takes to add one."""

from __future__ import annotations

import json
import runpy
from collections.abc import Generator
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
import vl_convert

from collapselab.report.entries import NOT_DRAWN
from collapselab.report.figures import FIGURES, losses, survival
from collapselab.report.files import write_files
from collapselab.report.page import write_page
from collapselab.report.tables import TABLES
from collapselab.report.theme import save_figure
from collapselab.rundir.frames import Runs, load_runs
from figure_specs import drawn, drawn_or_none, rows_of
from report_pages import Page
from synthetic_runs import judged_run, make_config

ROOT = Path(__file__).parents[4]
TOY = """
import altair as alt

from collapselab.report.entries import Figure, Table


def draw(steps):
    return alt.Chart(steps.head()).mark_point().encode(x="step:Q", y="train_nll_nats:Q")


FIGURE = Figure("A toy", lambda runs: runs.steps, draw, lambda steps: f"{steps['run'].nunique()} runs are counted.", "")
TABLE = Table("All toys", lambda runs: runs.runs[["run", "seed"]])
"""
GUARDED = {"safeguard-survival", "safeguard-costs", "recovery", "left-open", "dose"}  # need safeguards, or many arms
FORMATS = {"toy": ("svg", "png", "pdf"), "toys": ("csv", "md", "tex")}


@pytest.mark.parametrize("key", FIGURES)
def test_every_figure_is_valid_and_says_what_it_shows(key: str, sweep: Runs, odd: Runs, samplers: Runs) -> None:
    for runs in (sweep, odd, samplers):
        vega_lite, caption = drawn_or_none(key, runs), FIGURES[key].caption(runs)
        assert (vega_lite is None) == caption.startswith(NOT_DRAWN)
        if vega_lite is not None:
            assert vl_convert.vegalite_to_vega(vega_lite)["marks"]
            assert not [row for row in rows_of(vega_lite) if not row]
            assert any(c.isdigit() for c in caption)
            assert len(caption) > 80


def test_what_the_runs_cannot_show_is_not_drawn(sweep: Runs, odd: Runs) -> None:
    no_pull = {"sampler-map", "barcodes", "onset-law", "figure-3-sharpening"}
    assert {key for key in FIGURES if drawn_or_none(key, sweep) is None} == {"arms", *no_pull, *GUARDED}
    without = {"figure-3", "survival-by-size", "onset-by-rate", "barcodes", "onset-law", "figure-3-sharpening"}
    assert {key for key in FIGURES if drawn_or_none(key, odd) is None} == without | GUARDED


def test_one_run_has_its_own_figures(sweep: Runs) -> None:
    one = Runs(
        *(frame[frame["run"] == sweep.runs["run"].iloc[0]] for frame in (sweep.runs, sweep.steps, sweep.samples))
    )
    shown = {key for key, figure in FIGURES.items() if figure.draw(one) is not None}
    assert shown == {"figure-1", "figure-2", "figure-4", "anatomy", "barcode"}


def test_a_run_that_never_began_has_no_figure(tmp_path: Path) -> None:
    path = judged_run(tmp_path / "a", make_config(), 12, finished=False)
    for name in ("steps.jsonl", "samples.jsonl"):
        (path / name).unlink()
    runs = load_runs(path)
    assert [key for key, figure in FIGURES.items() if figure.draw(runs) is not None] == []
    assert all(figure.caption(runs).startswith(NOT_DRAWN) for figure in FIGURES.values())


def test_a_figure_becomes_three_files(sweep: Runs, tmp_path: Path) -> None:
    chart = FIGURES["figure-2"].draw(sweep)
    assert chart is not None
    svg, png, pdf = save_figure(chart, tmp_path, "figure-2", ("svg", "png", "pdf"))
    assert "validation loss, austen" in svg.read_text(encoding="utf-8")
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert pdf.read_bytes()[:5] == b"%PDF-"


def test_hundreds_of_runs_make_small_figures(sweep: Runs) -> None:
    def copies(frame: pd.DataFrame, number: int) -> pd.DataFrame:
        return pd.concat([frame.assign(run=frame["run"] + f"-{i}") for i in range(number)], ignore_index=True)

    runs = copies(sweep.runs, 8)
    runs["seed"] = range(len(runs))
    many = Runs(runs, copies(sweep.steps, 8), copies(sweep.samples, 1))
    sizes = {key: len(json.dumps(drawn(key, many))) for key in ("figure-2", "figure-3", "survival-by-learning-rate")}
    assert max(sizes.values()) < 400_000
    chart = FIGURES["figure-2"].draw(many)
    assert isinstance(chart, alt.VConcatChart)


def test_what_there_is_no_room_for_is_said(sweep: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = {key: FIGURES[key].caption(sweep) for key in ("figure-2", "survival-by-size")}
    assert not any("not shown" in caption for caption in captions.values())
    monkeypatch.setattr(losses, "MAX_MODELS", 1)
    monkeypatch.setattr(survival, "MAX_PANELS", 1)
    assert FIGURES["figure-2"].caption(sweep).endswith(" Not shown: micro (2.2 M).")
    assert FIGURES["figure-2"].draw(sweep).to_dict()["title"]["subtitle"][1] == "not shown: micro (2.2 M)"
    assert FIGURES["survival-by-learning-rate"].caption(sweep).endswith("2 further arms are not shown.")
    assert FIGURES["survival-by-size"].caption(sweep).endswith("2 further arms are not shown.")


@pytest.fixture
def short_lists() -> Generator[None]:
    """Lists of one figure and one table, since each takes a second; afterwards as they were, their order included."""
    before = [(listed, dict(listed)) for listed in (FIGURES, TABLES)]
    for listed, kept in ((FIGURES, "figure-1"), (TABLES, "runs")):
        entry = listed[kept]
        listed.clear()
        listed[kept] = entry
    yield
    for listed, entries in before:
        listed.clear()
        listed.update(entries)


def test_a_new_figure_or_table_is_one_file_and_one_line(sweep: Runs, tmp_path: Path, short_lists: None) -> None:
    toy = tmp_path / "toy.py"
    toy.write_text(TOY)
    loaded = runpy.run_path(str(toy))
    FIGURES["toy"], TABLES["toys"] = loaded["FIGURE"], loaded["TABLE"]
    paths = write_files(sweep, tmp_path / "files")
    written = {f"{stem}.{ending}" for stem, endings in FORMATS.items() for ending in endings}
    assert {path.name for path in paths if path.stem in FORMATS} == written
    page = Page(write_page(sweep, tmp_path / "page.html"))
    assert [a["data-figure"] for tag, a in page.elements if tag == "figure"] == ["figure-1", "toy"]
    assert {"A toy", "12 runs are counted.", "All toys"} <= {line.strip() for line in page.text.splitlines()}
    list_of_docs = runpy.run_path(str(ROOT / "tools" / "report_reference.py"))["reference"]()
    assert {"| `toy` | A toy |", "| `toys` | All toys |"} <= set(list_of_docs.splitlines())
