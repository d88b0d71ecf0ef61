"""The page's template: readable colours, and scripts that parse no text."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from collapselab.report.html import unbroken


def colours(css: str) -> list[dict[str, str]]:
    """The custom colours of the light and of the dark page."""
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_defined() -> None:
    assert contrast("#000000", "#ffffff") == 21.0
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    css = (files("collapselab.report") / "template" / "page.css").read_text(encoding="utf-8")
    palette = colours(css)[scheme]
    texts = [(name, "paper") for name in ("ink", "muted", "link", "holds", "fails")]
    texts += [("ink", "mark"), ("ink", "faint"), ("muted", "faint")]
    assert {
        pair: contrast(palette[pair[0]], palette[pair[1]])
        for pair in texts
        if contrast(palette[pair[0]], palette[pair[1]]) < 4.5
    } == {}
    lines = ("own", "text-0", "text-1", "text-2", "text-3", "marker")
    assert {name for name in lines if contrast(palette[name], palette["paper"]) < 3} == set()


def test_scripts_never_parse_text_as_markup_or_code() -> None:
    for path in (files("collapselab.report") / "template").iterdir():
        if path.name.endswith(".js"):
            code = path.read_text(encoding="utf-8")
            assert not re.search(
                r"\.innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|fetch\(", code
            ), path.name


def test_a_number_does_not_break_after_its_hyphen() -> None:
    """A title read "at learning rate 1e-" and, on the next line, "4"."""
    number = '<span class="unbroken">1.6e-4</span>'
    assert unbroken("at 1.6e-4 <b>, self-trained") == f"at {number} &lt;b&gt;, self-trained"
