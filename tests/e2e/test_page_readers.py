"""The report for every reader: any width, keyboard, print, dark; and hostile texts stay text."""

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

from browsing import figure, opened, step_shown
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_runs import HOSTILE, readable_run


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


def test_hostile_texts_stay_text(browser: Any, tmp_path: Path) -> None:
    settings = {"data": ("austen", "</script><script>window.pwned = 4</script>.txt")}
    readable_run(tmp_path / '"><img src=x onerror=pwned>', num_steps=len(HOSTILE), texts=HOSTILE, settings=settings)
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
        assert seen[6].startswith("x" * 20_000 + " … and 10,000 more characters")
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
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash).filter(hash => !hash.startsWith('#run='))"
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
