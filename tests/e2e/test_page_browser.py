"""The report in a browser: it does what it says, says nothing on the console, and asks no network for anything."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browsing import opened, step_shown, until, wait_while
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_runs import HOSTILE, write_run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three runs: two that collapse at steps 6 and 9, and one that is still running."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", onset=6, settings={"seed": 1})
    write_run(folder / "b", onset=9, num_steps=16, settings={"seed": 2})
    write_run(folder / "c", onset=None, is_finished=False, settings={"seed": 3})
    return write_page(load_runs(folder), folder / "report.html")


@dataclass
class Listener:
    """A server on this machine, and what it was asked for."""

    address: str
    asked: list[str]


@pytest.fixture
def listener() -> Generator[Listener]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Listener(f"http://127.0.0.1:{server.server_address[1]}/x.png", asked)
        server.shutdown()


@pytest.fixture
def page(browser: Any, report: Path) -> Generator[Any]:
    yield from opened(browser, report)


def sample(page: Any, pane: int = 0) -> str:
    return page.locator("[data-part=sample]").nth(pane).inner_text()


def markers(page: Any) -> list[str]:
    return page.locator(".small-chart .marker").evaluate_all("all => all.map(one => one.dataset.step)")


def value(page: Any, name: str) -> str:
    return page.locator("[data-part=values] tr", has=page.get_by_text(name, exact=True)).locator("td").inner_text()


def test_the_explorer_begins_at_the_onset_of_a_collapsed_run(page: Any) -> None:
    assert step_shown(page) == 6
    assert page.locator("[data-part=step]").inner_text() == "step 6 of 11"
    assert page.locator("[data-part=outcome]").inner_text() == "total collapse at step 10 (loop)"


def test_slider_sample_values_and_markers_move_together(page: Any) -> None:
    page.locator("[data-part=slider]").fill("3")
    assert step_shown(page) == 3
    assert sample(page).startswith("step 3: word3x0")
    assert value(page, "train_nll_nats") == "2.7"
    assert value(page, "val_nll_nats[austen]") == "3.15 ± 0.04"
    assert markers(page) == ["3", "3"]


def test_the_slider_can_be_dragged(page: Any) -> None:
    slider = page.locator("[data-part=slider]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 6 / 11, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, middle, steps=5)
    page.mouse.up()
    assert step_shown(page) == 11


def test_keys_move_through_the_steps(page: Any) -> None:
    page.locator("[data-part=slider]").focus()
    for key, step in (("ArrowRight", 7), ("ArrowLeft", 6), ("Home", 0), ("ArrowLeft", 0), ("End", 11), ("PageDown", 1)):
        page.keyboard.press(key)
        assert step_shown(page) == step, key
    page.locator("[data-part=sample]").focus()
    page.keyboard.press("ArrowRight")
    assert step_shown(page) == 2, "keys work beside the slider too"
    assert page.locator("[data-part=slider]").get_attribute("aria-valuetext") == "step 2 of 11"


def test_a_drag_in_a_chart_moves_the_step(page: Any) -> None:
    chart = page.locator(".small-chart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 100, steps=4)
    page.mouse.up()
    assert step_shown(page) == 11


def test_buttons_jump_to_the_events(page: Any) -> None:
    for words, step in (("first step", 0), ("total collapse", 10), ("onset", 6), ("last step", 11)):
        page.locator("#panes").get_by_role("button", name=words, exact=True).click()
        assert step_shown(page) == step


def test_repeated_n_grams_are_marked(page: Any) -> None:
    marked = page.locator("[data-part=sample] mark")
    # "step 6: " and the first "and so it went on", then 29 copies: the repetition begins within the second copy.
    assert marked.count() == 1
    assert marked.inner_text().startswith("and so it went on and so it went on")
    assert (
        page.locator("[data-part=marked]").inner_text()
        == "95 % of the words stand in a repeated 4-gram · step degenerate (loop)"
    )
    page.locator("[data-part=slider]").fill("0")
    assert marked.count() == 0
    page.locator("#ngram").select_option("2")
    page.locator("[data-part=slider]").fill("6")
    assert marked.count() == 1


def test_a_curve_is_switched_off_and_on(page: Any) -> None:
    curve = page.locator("[data-chart=loss] .curve-1").first
    assert page.locator("[data-chart=loss] path.curve-1").count() == 1
    box = page.get_by_role("checkbox", name="validation loss, austen")
    box.uncheck()
    assert page.locator("[data-chart=loss] path.curve-1").count() == 0
    box.check()
    assert curve.is_visible()


def test_the_loss_axis_can_be_logarithmic(page: Any) -> None:
    ticks = page.locator(".small-chart").first.locator("text.tick.end")
    before = ticks.all_text_contents()
    page.locator("#log").check()
    assert "0" in before
    assert "0" not in ticks.all_text_contents()


def test_two_runs_are_compared_side_by_side_at_one_step(page: Any) -> None:
    page.locator("#compare").check()
    page.wait_for_selector(".pane:nth-child(2)[data-step]:not([data-step=''])")
    boxes = [page.locator(".pane").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.locator("[data-part=slider]").first.fill("8")
    assert (step_shown(page, 0), step_shown(page, 1)) == (8, 8)
    assert "went on" in sample(page, 0)
    assert "word8x0" in sample(page, 1)
    ranges = page.locator(".small-chart").evaluate_all(
        "all => all.map(one => [...one.querySelectorAll('.tick.middle')].at(-1).textContent)"
    )
    assert len(set(ranges)) == 1, "both runs are drawn to one scale of steps"
    page.locator("#linked").uncheck()
    page.locator("[data-part=slider]").nth(1).fill("15")
    assert (step_shown(page, 0), step_shown(page, 1)) == (8, 15)
    page.locator("#compare").uncheck()
    assert page.locator(".pane").count() == 1


def test_a_run_is_chosen_by_menu_and_from_the_overview(page: Any) -> None:
    page.locator("[data-part=run]").select_option("2")
    until(page, "document.querySelector('[data-part=outcome]').textContent === 'running'")
    assert "word6x0" in sample(page), "the step stays"
    page.get_by_role("link", name="seed 2", exact=True).click()
    until(page, "document.querySelector('[data-part=name]').textContent === 'b'")


def test_the_runs_can_be_sorted(page: Any) -> None:
    rows = page.locator("table.runs tbody tr")
    page.locator("table.runs").get_by_role("button", name="onset").click()
    assert [text.split("\t")[0] for text in rows.all_inner_texts()] == ["seed 1", "seed 2", "seed 3"]
    page.locator("table.runs").get_by_role("button", name="onset").click()
    assert [text.split("\t")[0] for text in rows.all_inner_texts()] == ["seed 2", "seed 1", "seed 3"], (
        "unknown ones last"
    )


# --- figures


def figure(page: Any, key: str = "anatomy") -> Any:
    found = page.locator(f"#figure-{key}")
    found.evaluate("one => one.scrollIntoView()")
    until(page, f"document.querySelector('#figure-{key}[data-drawn]') !== null")
    return found


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
        assert found.locator(".vega").get_attribute("role") == "img"


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


# --- security


def test_hostile_texts_stay_text(browser: Any, tmp_path: Path) -> None:
    settings = {"data": ("austen", "</script><script>window.pwned = 4</script>.txt")}
    write_run(tmp_path / '"><img src=x onerror=pwned>', num_steps=len(HOSTILE), texts=HOSTILE, settings=settings)
    for page in opened(browser, write_page(load_runs(tmp_path), tmp_path / "report.html")):
        seen = []
        for step in range(len(HOSTILE)):
            page.locator("[data-part=slider]").fill(str(step))
            assert step_shown(page) == step
            seen.append(page.locator("[data-part=sample]").evaluate("one => one.textContent"))
            assert page.locator("[data-part=sample] *:not(mark):not(em)").count() == 0
        assert seen[0] == HOSTILE[0]
        assert seen[1] == HOSTILE[1]
        assert seen[2] == "a ⟨U+202E⟩right to left⟨U+202C⟩ b⟨U+2066⟩c⟨U+2069⟩"
        assert seen[3] == "NUL ⟨U+0000⟩, escape ⟨U+001B⟩[31m, bell ⟨U+0007⟩"
        assert seen[4] == "lone ⟨U+D800⟩ and ⟨U+DC00⟩ surrogates"
        assert seen[6].startswith("x" * 20_000 + " … and 10,000 characters more")
        assert seen[9].count("⏎") == 150
        assert page.evaluate("document.images.length + document.querySelectorAll('iframe, object, embed').length") == 0
        assert page.evaluate("window.pwned") is None
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "a long line does not widen the page"


def test_the_policy_stops_what_should_never_be_there(browser: Any, report: Path, listener: Listener) -> None:
    """Scripts, markup from text and requests are refused even if some code of the page were to try them."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(report.as_uri())
    refused = page.evaluate(
        """async (address) => {
      const refused = [];
      document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
      const script = document.createElement("script");
      try { script.text = "window.pwned = 1"; document.body.append(script); } catch { refused.push("text"); }
      try { document.body.innerHTML = "<b>x</b>"; } catch { refused.push("markup"); }
      const image = document.createElement("img");
      image.src = address;
      document.body.append(image);
      await fetch(address).catch(() => refused.push("fetch"));
      await new Promise((done) => setTimeout(done, 100));
      return refused;
    }""",
        listener.address,
    )
    assert {"text", "markup", "fetch", "img-src", "connect-src"} <= set(refused)
    assert page.evaluate("window.pwned") is None
    assert listener.asked == []
    context.close()


# --- readers of all kinds


@pytest.mark.parametrize("width", [320, 1600])
def test_the_page_fits_every_width(browser: Any, report: Path, width: int) -> None:
    for page in opened(browser, report, viewport={"width": width, "height": 800}):
        for key in page.locator("figure[data-figure]").evaluate_all("all => all.map(one => one.dataset.figure)"):
            figure(page, key)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_can_be_reached_by_keyboard_and_has_a_name(page: Any) -> None:
    unnamed = page.evaluate("""() =>
      [...document.querySelectorAll('a, button, input, select, [tabindex="0"], .small-chart')]
      .filter((one) => one.checkVisibility())
      .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.[0]?.textContent.trim()))
      .map((one) => one.outerHTML.slice(0, 80))""")
    assert unnamed == []
    headings = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    missing = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash)"
        ".filter(hash => !document.getElementById(hash.slice(1)))"
    )
    assert missing == []


def test_in_print_samples_and_tables_are_whole(browser: Any, report: Path) -> None:
    for page in opened(browser, report):
        page.emulate_media(media="print")
        clipped = page.evaluate("""() => [...document.querySelectorAll('.sample, .values, .scroll')]
          .filter((one) => one.checkVisibility() && one.scrollHeight > one.clientHeight + 1)
          .map((one) => one.className)""")
        assert clipped == []
        assert not page.locator(".options").is_visible()


def test_the_dark_page_is_dark_but_not_in_print(browser: Any, report: Path) -> None:
    for page in opened(browser, report, color_scheme="dark"):
        paper = "getComputedStyle(document.body).backgroundColor"
        dark = [int(part) for part in re.findall(r"\d+", page.evaluate(paper))]
        assert max(dark) < 60
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
