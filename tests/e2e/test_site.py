"""The documentation site: it is built without a warning, every link in it leads somewhere, and it asks nobody."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

import collapselab
from collapselab import cli

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
ROOT = Path(__file__).parents[2]


def load_tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("site_tool", ROOT / "tools" / "site.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "html"
    tool.build(folder)
    return folder


class Links(HTMLParser):
    """What a page refers to, what it can be entered at, and what it loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        is_loaded = "src" in values or (tag == "link" and "stylesheet" in values.get("rel", ""))
        target = values.get("href", values.get("src", ""))
        (self.loaded if is_loaded else self.targets).append(target)


def dead(site: Path) -> Iterator[str]:
    """Links within a site that lead nowhere, as `page: link`."""
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    for page, read in pages.items():
        for link in [*read.targets, *read.loaded]:
            if not link or re.match(r"[a-z]+:|//", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            file = (page.parent / path).resolve() if path else page
            file = file / "index.html" if file.is_dir() else file
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].anchors):
                yield f"{page.relative_to(site)}: {link}"


def test_every_link_leads_somewhere(site: Path) -> None:
    assert list(dead(site)) == []
    assert len(list(site.rglob("*.html"))) > 50


def test_a_dead_link_of_html_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="a"></h1><a href="#a"></a><a href="#b"></a><a href="b.html"></a><img src="c">'
    )
    assert list(dead(tmp_path)) == ["a.html: #b", "a.html: b.html", "a.html: c"]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = {link for page in site.rglob("*.html") for link in Links(page).loaded}
    assert [link for link in loaded if re.match(r"[a-z]+:|//", link)] == []
    assert any(link.endswith(".js") for link in loaded)


def test_a_link_that_leads_nowhere_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(folder: Path) -> None:
        folder.mkdir()
        (folder / "index.md").write_text("# Home\n\n[nowhere](nowhere.md)\n", encoding="utf-8")

    monkeypatch.setattr(tool, "gather", damaged)
    with pytest.raises(SystemExit, match="1"):
        tool.build(tmp_path / "html")
    assert "'nowhere.md'" in capsys.readouterr().err


def test_public_names_and_commands_are_described(site: Path) -> None:
    python = Links(site / "reference" / "python.html").anchors
    assert {f"collapselab.{name}" for name in collapselab.__all__ if name != "__version__"} <= python
    command_line = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert [name for name in cli.COMMANDS if f"$ collapselab {name} --help" not in command_line] == []
    assert "--optim.lr" in command_line


def test_links_are_as_on_the_site() -> None:
    text = (
        "[a](../src/collapselab/loop.py) `[b](../README.md)` [c](../results/rules#x) [d](collapse.md) [e](https://x.y)"
    )
    assert tool.on_site("docs/page.md", text) == (
        "[a](src/collapselab/loop.py.md) `[b](../README.md)` [c](results/rules/README.md#x) [d](collapse.md) [e](https://x.y)"
    )
    assert tool.on_site("results/rules/README.md", "[a](../../docs/collapse.md)") == "[a](../../collapse.md)"
    assert tool.on_site("src/collapselab/rundir", "[a](rundir/claim.py)") == "[a](rundir/claim.py.md)"
