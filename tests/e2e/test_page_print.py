"""The page on paper, and what its figures say in a browser: events by name, nothing that was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browsing import figure, opened, until
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_runs import readable_run

PAPER_PX = 688  # A4 less its margins
MANY_SETTINGS: dict[str, object] = {
    "seed": 2,
    "optim.lr": 3.2e-4,
    "optim.weight_decay": 0.01,
    "sampling.temperature": 0.9,
    "sampling.top_k": 40,
    "generate.max_new_tokens": 150,
    "generate.batch_size": 2,
    "stop.max_steps": 123,
    "stop.after_collapse": 12,
    "collapse.window": 12,
    "eval.every": 5,
    "eval.full_every": 7,
    "checkpoint_every_s": 7.0,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    readable_run(folder / "a", onset=6, settings={"seed": 1})
    readable_run(folder / "b", onset=90, num_steps=400, settings=MANY_SETTINGS)
    return write_page(load_runs(folder), folder / "report.html")


def test_printed_as_soon_as_it_is_open_the_page_has_all_its_figures(browser: Any, report: Path) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(report.as_uri())
    assert page.locator("figure[data-drawn]").count() < page.locator("figure[data-figure]").count()
    assert page.pdf().startswith(b"%PDF-")
    drawn = page.locator("figure[data-drawn] .vega svg").count()
    assert drawn == page.locator("figure[data-figure]").count() > 3
    page.context.close()


def test_no_table_is_cut_on_paper(browser: Any, report: Path) -> None:
    for page in opened(browser, report, viewport={"width": PAPER_PX, "height": 900}):
        page.emulate_media(media="print")
        for table in page.locator("#settings .scroll").all():
            assert table.locator("th").count() > 10
        wide = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth)"
        assert page.evaluate(f"{wide}.map((one) => one.ariaLabel)") == []


def test_a_sample_and_the_heads_of_tables_are_whole_on_paper(browser: Any, report: Path) -> None:
    for page in opened(browser, report, viewport={"width": PAPER_PX, "height": 900}):
        sample, chart = page.locator("[data-part=sample]"), page.locator(".stage.below")
        sample.evaluate("one => one.append('and so it went on '.repeat(400))")
        page.emulate_media(media="print")
        assert sample.evaluate("one => one.scrollHeight <= one.clientHeight + 1")
        assert sample.evaluate("one => one.getBoundingClientRect().bottom") <= chart.evaluate(
            "one => one.getBoundingClientRect().top"
        ), "nothing is printed over the text"
        buttons = page.locator("thead button.sort")
        assert set(buttons.evaluate_all("all => all.map(one => getComputedStyle(one).display)")) == {"contents"}


def test_a_figure_wider_than_a_phone_says_so(browser: Any, report: Path) -> None:
    for page in opened(browser, report, viewport={"width": 390, "height": 800}):
        is_wide = figure(page, "figure-1").locator(".vega").evaluate("one => one.scrollWidth > one.clientWidth")
        assert is_wide
        assert "scroll it sideways" in figure(page, "figure-1").inner_text()
        assert "scroll it sideways" not in figure(page).inner_text()
        page.set_viewport_size({"width": 1280, "height": 800})
        until(page, "!document.querySelector('#figure-figure-1').innerText.includes('sideways')")


def test_the_anatomy_names_its_events_until_they_are_zoomed_away(browser: Any, report: Path) -> None:
    for page in opened(browser, report):
        page.locator("#figure-anatomy").evaluate("one => one.scrollIntoView()")
        until(page, "document.querySelector('#figure-anatomy[data-drawn]') !== null")
        words = page.locator("#figure-anatomy .mark-text text").all_text_contents()
        assert any(text.startswith("onset, step ") for text in words)
        assert any(text.startswith("total collapse, step ") for text in words)
        clipped = page.locator("#figure-anatomy .mark-text").evaluate_all(
            "all => all.filter(one => one.closest('[clip-path]')).length"
        )
        assert clipped == 0, "they stand above the panel, where clipping would hide them"


def test_the_data_of_a_figure_hold_no_means_of_the_eye(browser: Any, report: Path) -> None:
    for page in opened(browser, report):
        page.locator("#figure-anatomy").evaluate("one => one.scrollIntoView()")
        until(page, "document.querySelector('#figure-anatomy[data-drawn]') !== null")
        page.locator("#figure-anatomy .data summary").click()
        page.locator("#figure-anatomy .data table tbody tr").nth(10).wait_for(state="attached")
        layers = page.locator("#figure-anatomy .data tbody td:first-child").all_text_contents()
        assert layers
        assert not [layer for layer in layers if "mean" in layer]
