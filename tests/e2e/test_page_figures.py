"""The report's figures in a browser: drawn, switched, zoomed, pointed at and read."""

from __future__ import annotations

from typing import Any

from browsing import figure, until, wait_while


def opacities(found: Any) -> list[str]:
    paths = found.locator(".mark-line path").evaluate_all("all => all.map(one => one.getAttribute('opacity') ?? '1')")
    return sorted(paths)


def test_every_figure_is_drawn_and_has_words(page: Any) -> None:
    figures = page.locator("figure[data-figure]")
    assert figures.count() >= 3
    for key in figures.evaluate_all("all => all.map(one => one.dataset.figure)"):
        found = figure(page, key)
        assert found.locator(".vega svg").count() == 1
        assert len(found.locator("figcaption").inner_text()) > 40
        assert found.locator(".vega [role=img]").count() == 1


def test_a_curve_of_a_figure_is_switched_off_by_its_box_and_shown_alone_by_its_legend(page: Any) -> None:
    found = figure(page)
    assert set(opacities(found)) == {"1"}
    found.locator(".controls summary").click()
    boxes = found.locator(".controls [aria-label=curves] input")
    first = found.get_by_role("checkbox", name="training loss")
    paths = "[...document.querySelectorAll('#figure-anatomy .mark-line path')]"
    faded = f"{paths}.filter(one => Number(one.getAttribute('opacity') ?? 1) < 0.2)"
    first.uncheck()
    until(page, f"{faded}.length > 0")
    first.check()
    until(page, f"{faded}.length === 0")
    found.locator(".role-legend-label text", has_text="training loss").click()
    until(
        page,
        "document.querySelectorAll('#figure-anatomy .controls [aria-label=curves] input:not(:checked)').length > 0",
    )
    assert first.is_checked()
    assert boxes.count() > 3


def test_a_figure_s_axis_can_be_logarithmic(page: Any) -> None:
    found = figure(page, "figure-2")
    found.locator(".controls summary").click()
    box = found.get_by_role("checkbox", name="logarithmic axis")
    box.check()
    page.wait_for_selector("#figure-figure-2[data-drawn=log]")
    box.uncheck()
    page.wait_for_selector("#figure-figure-2[data-drawn=linear]")


def test_a_figure_can_be_zoomed_by_buttons(page: Any) -> None:
    found = figure(page)
    found.locator(".controls summary").click()
    labels = found.locator(".role-axis-label text")

    def shown() -> list[str]:
        return sorted(labels.all_text_contents())  # a change of axis changes their order in the document

    before = shown()
    found.get_by_role("button", name="zoom in").click()
    wait_while(page, lambda: shown() == before)
    zoomed = shown()
    found.get_by_role("button", name="right", exact=True).click()
    wait_while(page, lambda: shown() == zoomed)
    found.get_by_role("button", name="reset").click()
    wait_while(page, lambda: shown() != before)


def test_pointing_at_a_curve_shows_its_values(page: Any) -> None:
    found = figure(page)
    point = found.locator(".mark-symbol path").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#tooltip:not([hidden])")
    assert "step" in page.locator("#tooltip").inner_text()


def test_a_figure_can_be_read_as_a_table(page: Any) -> None:
    found = figure(page)
    found.locator(".data summary").click()
    rows = found.locator(".data table tbody tr")
    rows.nth(10).wait_for(state="attached")  # the table is made when it is first opened
    assert rows.count() > 10
