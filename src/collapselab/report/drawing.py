"""Draws figures in a separate process, because the drawing library can end its process without an exception.

Its JavaScript engine reserves far more addresses than it uses, and aborts if `ulimit -v` does not allow that.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

from collapselab.errors import CollapselabError

PNG_SCALE = 2.0  # twice the size, for sharp screens
LIBRARY = "library"  # requested instead of a figure: the scripts with which a page draws its figures


class DrawingError(CollapselabError):
    """A figure could not be drawn."""


class Painter:
    """Draws in a child process, which starts with the first figure and restarts after a figure that ended it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._has_drawn = True
        self._reason = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.communicate()

    def draw(self, figure: Mapping[str, Any], formats: Sequence[str]) -> dict[str, bytes]:
        """The files of one figure (Vega-Lite), by format: svg, png or pdf.

        Raises:
            DrawingError: the library refused the figure, or its process ended.
        """
        answer = self._ask({"figure": figure, "formats": formats})
        return {ending: base64.b64decode(content) for ending, content in answer.items()}

    def library(self) -> str:
        """Vega, Vega-Lite and vega-embed as one script.

        Raises:
            DrawingError: as `draw`.
        """
        return self._ask({"figure": LIBRARY, "formats": ["js"]})["js"]

    def _ask(self, request: Mapping[str, object]) -> dict[str, str]:
        if self._child is None:
            if not self._has_drawn:  # a child that ended at its first figure: the next child would too
                raise DrawingError(self._reason)
            try:
                self._child, self._has_drawn = _start(), False
            except OSError as error:
                raise DrawingError(f"cannot start the drawing process: {error.strerror}") from None
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._child, self._reason = None, _why_ended(child)
            raise DrawingError(self._reason)
        self._has_drawn = True
        answer = json.loads(line)
        if "error" in answer:
            raise DrawingError(answer["error"])
        return answer["files"]


def _start() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "collapselab.report.drawing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a crash writes pages of addresses
        encoding="utf-8",
        env=environment,
    )


def _why_ended(child: subprocess.Popen[str]) -> str:
    child.communicate()
    code = child.returncode
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return f"the drawing process {ended}"
    return (
        f"the drawing process {ended}: addresses are limited to {limit / 1e9:.1f} GB (ulimit -v), "
        "and the drawing library reserves more"
    )


def main() -> None:
    """The child: one request per line on standard input, one answer per line on standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for line in sys.stdin:
        try:
            answer = {"files": _files(**json.loads(line))}
        except Exception as error:  # set by the parent
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201


def _files(figure: Mapping[str, Any] | str, formats: Sequence[str]) -> dict[str, str]:
    import vl_convert

    if figure == LIBRARY:
        # Its stub asks for a snippet; without one, the names of the libraries become global.
        return {"js": str(cast(Any, vl_convert).javascript_bundle())}
    svg = vl_convert.vegalite_to_svg(cast(Any, figure))
    writers = {
        "svg": svg.encode,
        "png": lambda: vl_convert.svg_to_png(svg, scale=PNG_SCALE),
        "pdf": lambda: vl_convert.svg_to_pdf(svg),
    }
    return {ending: base64.b64encode(writers[ending]()).decode() for ending in formats}


if __name__ == "__main__":
    main()
