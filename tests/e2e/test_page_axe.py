"""The page against axe-core's rules of accessibility, in light and dark, on a desk and on a phone: no violation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browsing import figure, opened

axe = pytest.importorskip("axe_playwright_python.base", reason="axe is missing (collapselab[dev] has it)")


def violations(page: Any) -> list[str]:
    page.evaluate(axe.AXE_SCRIPT)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing(browser: Any, report: Path, width: int, scheme: str) -> None:
    for page in opened(browser, report, viewport={"width": width, "height": 900}, color_scheme=scheme):
        for key in page.locator("figure[data-figure]").evaluate_all("all => all.map(one => one.dataset.figure)"):
            figure(page, key)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        page.locator("#compare").check()
        page.wait_for_selector(".pane:nth-child(2)[data-step]:not([data-step=''])")
        page.locator("#search").fill("word3x0")
        page.locator("#found li").first.wait_for()
        assert violations(page) == []


def test_axe_would_find_a_picture_without_words(page: Any) -> None:
    page.evaluate("document.querySelector('.small-chart').removeAttribute('aria-label')")
    assert any(found.startswith("svg-img-alt") for found in violations(page))
