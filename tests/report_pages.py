"""A page of the report as a browser reads it, for tests."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs


class Page(HTMLParser):
    """The page as a browser reads it: elements with attributes, scripts and styles by content, all other text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[tuple[str, dict[str, str | None], str]] = []
        self.text = ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.contents.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and not self.contents[-1][2]:
            tag, attributes, _ = self.contents[-1]
            self.contents[-1] = (tag, attributes, data)
        else:
            self.text += data

    def json(self, id: str) -> Any:
        (content,) = (content for _, attributes, content in self.contents if attributes.get("id") == id)
        return json.loads(content)

    def run(self, index: int) -> Any:
        (content,) = (content for _, attributes, content in self.contents if attributes.get("id") == f"run-{index}")
        return unpack(content)


def unpack(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text)))


def page_of(folder: Path) -> Page:
    return Page(write_page(load_runs(folder), folder.parent / "page" / "report.html", title="A title"))
