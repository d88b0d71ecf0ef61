"""A page in a browser, for tests: opened, waited for, and at the end found to have been silent."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any


def opened(browser: Any, path: Path, **options: Any) -> Generator[Any]:
    """The page in a window of its own; at the end, that it was silent and asked for nothing but its file."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(60_000)  # a busy machine of continuous integration
    window = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    window.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    window.on("pageerror", lambda error: said.append(f"error: {error}"))
    context.on("request", lambda request: asked.append(request.url))
    window.goto(path.as_uri())
    window.wait_for_selector(".pane[data-step]:not([data-step=''])")
    yield window
    window.wait_for_timeout(50)
    assert said == []
    assert {address.partition("#")[0] for address in asked} == {path.as_uri()}
    context.close()


def until(page: Any, condition: str) -> None:
    """Waits for a condition. Playwright's own way makes code from text, which the page's policy forbids."""
    wait_while(page, lambda: not page.evaluate(condition), condition)


def wait_while(page: Any, is_pending: Callable[[], bool], what: str = "it stayed as it was") -> None:
    for _ in range(600):
        if not is_pending():
            return
        page.wait_for_timeout(50)
    raise AssertionError(what)


def step_shown(page: Any, pane: int = 0) -> int:
    return int(page.locator(".pane").nth(pane).get_attribute("data-step"))


def figure(page: Any, key: str = "anatomy") -> Any:
    found = page.locator(f"#figure-{key}")
    found.evaluate("one => one.scrollIntoView()")
    until(page, f"document.querySelector('#figure-{key}[data-drawn]') !== null")
    return found
