"""The page played, searched, filtered, linked to, copied from and saved in parts."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from browsing import figure, opened, step_shown, until


@pytest.fixture
def page(browser: Any, report: Path) -> Generator[Any]:
    for window in opened(browser, report, accept_downloads=True):
        window.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield window


def test_play_goes_from_step_0_to_the_collapse_in_ten_seconds(page: Any) -> None:
    page.clock.install()
    button = page.locator("[data-part=play]")
    button.click()
    assert step_shown(page) == 0
    page.clock.run_for(5_000)
    assert step_shown(page) == 5
    button.click()
    page.clock.run_for(5_000)
    assert step_shown(page) == 5, "paused"
    button.click()
    page.clock.run_for(5_200)
    assert step_shown(page) == 10, "total collapse, not the last step"
    assert button.inner_text() == "▶ play"


def test_a_link_opens_the_page_at_a_run_and_a_step(page: Any) -> None:
    page.locator("[data-part=slider]").fill("3")
    page.get_by_role("button", name="copy link").click()
    page.get_by_role("button", name="copied").wait_for()
    address = page.evaluate("navigator.clipboard.readText()")
    assert address == f"{page.url}#run=a&step=3"
    page.evaluate("location.hash = 'run=b&step=9'")
    until(page, "document.querySelector('[data-part=name]').textContent === 'b'")
    assert step_shown(page) == 9
    page.goto(address)
    page.reload()
    until(page, "document.querySelector('.pane').dataset.step === '3'")
    assert page.locator("[data-part=name]").inner_text() == "a"


def test_a_link_to_a_run_that_is_not_here_does_no_harm(page: Any) -> None:
    page.evaluate("location.hash = 'run=%22%3E%3Cimg%20src=x%3E&step=NaN'")
    page.wait_for_timeout(100)
    assert step_shown(page) == 6


def test_a_sample_is_copied_as_it_was_written(page: Any) -> None:
    page.get_by_role("button", name="copy sample").click()
    page.get_by_role("button", name="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("step 6: and so it went on and so")


def test_samples_are_searched_in_all_runs(page: Any) -> None:
    page.locator("#search").fill("WORD5x0 ")
    page.locator("#found li").nth(2).wait_for()
    assert page.locator("#found li").count() == 3
    assert page.locator("#found li mark").first.inner_text() == "word5x0 "
    page.locator("#found a").nth(1).click()
    until(page, "document.querySelector('[data-part=name]').textContent === 'b'")
    assert step_shown(page) == 5
    page.locator("#search").fill("nowhere to be found")
    until(page, "document.querySelector('#found .note')?.textContent === '0 samples'")


def test_runs_are_filtered(page: Any) -> None:
    page.locator("#filter").fill("seed total")
    assert page.locator("table.runs tbody tr:visible").count() == 2
    assert page.locator("#filtered").inner_text() == "2 of 3 runs"
    page.locator("#filter").fill("")
    assert page.locator("table.runs tbody tr:visible").count() == 3


def test_a_figure_is_saved_as_picture_data_and_specification(page: Any, tmp_path: Path) -> None:
    found = figure(page)
    saved: dict[str, bytes] = {}
    for kind in ("SVG", "PNG", "CSV", "Vega-Lite"):
        with page.expect_download() as waiting:
            found.get_by_role("button", name=f"download anatomy as {kind}").click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        saved[path.name] = path.read_bytes()
    assert saved["anatomy.svg"].startswith(b"<svg")
    assert saved["anatomy.png"].startswith(b"\x89PNG")
    lines = saved["anatomy.csv"].decode().splitlines()
    assert lines[0] == "layer,line,step,value"
    assert "loss,training loss,0,3" in lines
    assert json.loads(saved["anatomy.vl.json"])["$schema"].startswith("https://vega.github.io/schema/vega-lite/")


def test_the_data_of_a_figure_are_copied_as_lines(page: Any) -> None:
    found = figure(page)
    found.locator(".data summary").click()
    found.get_by_role("button", name="copy table").click()
    found.get_by_role("button", name="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith(
        "layer\tline\tstep\tvalue\nloss\ttraining loss\t0\t3\n"
    )
