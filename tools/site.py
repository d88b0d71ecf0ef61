"""Builds the documentation site: a folder that any web server, or a browser alone, can show.

python tools/site.py [FOLDER]

Pages in docs/ link to results, sources and examples by their path in the repository, as its readers need. On the site
these files are pages or downloads of their own: all pages are gathered, with their links changed, and `mkdocs build
--strict` turns them into HTML. A link or an anchor that leads nowhere, and a page that mkdocs.yml does not list, is an
error.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from collapselab import cli

ROOT = Path(__file__).parents[1]
ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md")
SOURCES = {".py": "python", ".c": "c", ".h": "c", ".toml": "toml", ".txt": "text"}
# Code in the text first, so that no link is seen inside it.
LINK = re.compile(r"(?P<fence>`{3,}).*?(?P=fence)|`[^`\n]*`|\]\((?P<link>[^)\s]+)\)", re.DOTALL)
UNLISTED = "---\nsearch:\n  exclude: true\n---\n\n"
COLUMNS = "110"


def build(site: Path) -> None:
    """Writes the site into a folder, which is replaced.

    Raises:
        SystemExit: a link, an anchor or the navigation is broken; mkdocs has printed which.
    """
    with tempfile.TemporaryDirectory() as folder:
        gather(Path(folder, "pages"))
        paths = {
            "INHERIT": str(ROOT / "mkdocs.yml"),
            "docs_dir": str(Path(folder, "pages")),
            "site_dir": str(site.resolve()),
        }
        settings = Path(folder, "mkdocs.yml")  # JSON is YAML
        settings.write_text(json.dumps(paths), encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(settings)]
        environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:  # otherwise it has nothing to say; with --quiet, it would see no warnings
            sys.stderr.write(done.stderr)
            raise SystemExit(done.returncode)


def gather(folder: Path) -> None:
    """Writes all pages and downloads, their links as they are on the site."""
    for path in reachable():
        place = folder / place_on_site(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix == ".md":
            place.write_text(on_site(path, text_of(path)), encoding="utf-8")
        else:
            shutil.copy(ROOT / path, place)
    reference = folder / "reference" / "command-line.md"
    reference.write_text(command_line(), encoding="utf-8")


def reachable() -> list[str]:
    """Paths in the repository: the pages in docs/, and each file that they link to, directly or over other pages."""
    pages = [str(page.relative_to(ROOT).as_posix()) for page in sorted(ROOT.glob("docs/**/*.md"))]
    found = dict.fromkeys([*pages, *ALWAYS])
    waiting = list(found)
    while waiting:
        path = waiting.pop()
        for target in links(path, text_of(path)):
            if target not in found and target != "README.md" and (ROOT / target).exists():
                found[target] = None
                waiting.append(target)
    return list(found)


def links(path: str, text: str) -> Iterator[str]:
    """The paths in the repository that a page's relative links lead to."""
    for match in LINK.finditer(text):
        target = linked(path, match["link"])
        if target is not None:
            yield target


def linked(path: str, link: str | None) -> str | None:
    """The path in the repository of a link on the page at `path`; of a folder, its README.md. `None`: elsewhere."""
    relative = (link or "").partition("#")[0]
    if not relative or re.match(r"[a-z]+:|/", relative):
        return None
    target = os.path.normpath(os.path.join(os.path.dirname(path), relative)).replace(os.sep, "/")
    readme = f"{target}/README.md"
    return readme if (ROOT / readme).is_file() else target


def on_site(path: str, text: str) -> str:
    """The text of a page with its links as they are on the site; dead ones stay as they are."""
    here = os.path.dirname(place_on_site(path))

    def moved(match: re.Match[str]) -> str:
        target = linked(path, match["link"])
        if target is None or not (ROOT / target).exists():
            return match[0]
        place = os.path.relpath(place_on_site(target), here or ".").replace(os.sep, "/")
        _, mark, anchor = match["link"].partition("#")
        return f"]({place}{mark}{anchor})"

    return LINK.sub(moved, text)


def place_on_site(path: str) -> str:
    """Where a file or a folder of the repository is on the site."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{path}.md" if (ROOT / path).is_dir() or Path(path).suffix in SOURCES else path


def text_of(path: str) -> str:
    """The page of a file: itself, a source with colours, or the list of a folder. Downloads have none."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(f.name for f in file.iterdir() if not f.name.startswith(("_", ".")) or f.name == "__init__.py")
        return f"{UNLISTED}# {path}\n\n" + "".join(f"- [{name}]({file.name}/{name})\n" for name in names)
    if file.suffix == ".md":
        return file.read_text(encoding="utf-8")
    if file.suffix in SOURCES:
        code = file.read_text(encoding="utf-8")
        return f"{UNLISTED}# {path}\n\n``````{SOURCES[file.suffix]}\n{code}``````\n"
    return ""


def command_line() -> str:
    """The page of the command line: each command's help, as it is printed."""
    parts = ["# The command line\n", "Each command's `--help`, as it is printed.\n"]
    for name in ("", *cli.COMMANDS):
        title = " ".join(["collapselab", *name.split()])
        parts.append(f"## {title}\n\n```text\n$ {title} --help\n{help_of(name)}\n```\n")
    return "\n".join(parts)


def help_of(name: str) -> str:
    """What `collapselab NAME --help` prints."""
    printed = io.StringIO()
    plain = mock.patch.dict(os.environ, {"COLUMNS": COLUMNS, "NO_COLOR": "1"})
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit), plain:
        cli.main([*name.split(), "--help"])
    return printed.getvalue().strip()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site"))
