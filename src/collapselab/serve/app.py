"""The live page's server: read-only, for one folder of runs. It answers GET alone, and names no path."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from collapselab.collapse.words import EVENTS, MARKED_EVENTS
from collapselab.errors import CollapselabError
from collapselab.report.packing import script_json
from collapselab.rundir.layout import RunDir
from collapselab.serve.details import Reports, curves, samples
from collapselab.serve.watching import Watch

# Between two looks at the files: they take at most 5 % of one core, except where that would be too late for people.
SHORTEST_PAUSE_S, LONGEST_PAUSE_S, PAUSE_PER_WORK = 1.0, 5.0, 20
HEARTBEAT_S = 15.0
MAX_CLIENTS = 200
SCRIPTS = (
    "report/template/common.js",
    "report/template/sample.js",
    "report/template/chart.js",
    "serve/template/live.js",
)
STYLES = ("report/template/page.css", "serve/template/live.css")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_FRAME = {"Content-Security-Policy": "frame-ancestors 'none'"}  # a report has its own policy inside


class Live:
    """The state that all clients share: what is watched, and who waits for news."""

    def __init__(self, folder: Path) -> None:
        self.watch = Watch(folder)
        self.reports = Reports()
        self.num_clients = 0
        self._news = asyncio.Condition()
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Reads what has changed, and wakes all who wait for it."""
        async with self._looking:
            changed = await run_in_threadpool(self.watch.refresh)
        if changed:
            async with self._news:
                self._news.notify_all()

    async def watching(self) -> None:
        """Looks again and again while anybody is there to see it."""
        while True:
            started = time.perf_counter()
            if self.num_clients:
                with contextlib.suppress(OSError):  # a folder that is gone may come back
                    await self.look()
            pause_s = PAUSE_PER_WORK * (time.perf_counter() - started)
            await asyncio.sleep(min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, pause_s)))

    async def events(self) -> AsyncGenerator[str]:
        """Server-sent events: first all rows, then those that changed; a comment where nothing did for long."""
        self.num_clients += 1
        try:
            await self.look()
            version = None
            while True:
                if version is None or version < self.watch.version:
                    news = self.watch.since(version or 0)
                    yield f"event: {'all' if version is None else 'rows'}\ndata: {_json(news)}\n\n"
                    version = news["version"]
                async with self._news:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(HEARTBEAT_S):
                            await self._news.wait_for(lambda known=version: self.watch.version > known)
                            continue
                yield ": still here\n\n"
        finally:
            self.num_clients -= 1


def make_app(folder: Path, hosts: tuple[str, ...] = LOCAL_HOSTS) -> Starlette:
    """The server of a folder of runs.

    Args:
        folder: one run directory, or a folder of them; it may be empty at first.
        hosts: the names it answers to. A page of another site that has its name point here is refused.
    """
    live = Live(folder)
    html, policy = _page()

    async def page(_: Request) -> Response:
        return HTMLResponse(html, headers={**HEADERS, "Content-Security-Policy": policy})

    async def events(_: Request) -> Response:
        if live.num_clients >= MAX_CLIENTS:
            return PlainTextResponse(f"at most {MAX_CLIENTS} pages at once", 503, headers=HEADERS)
        return StreamingResponse(live.events(), media_type="text/event-stream", headers=HEADERS)

    async def run_curves(request: Request) -> Response:
        return await _answer(live, request, lambda run: curves(run))

    async def run_samples(request: Request) -> Response:
        step = _whole(request.query_params.get("step", ""))
        if step is None:
            return PlainTextResponse("step must be a whole number", 400, headers=HEADERS)
        return await _answer(live, request, lambda run: samples(run, step))

    async def report(request: Request) -> Response:
        found = _run(live, request) if "id" in request.path_params else None
        if "id" in request.path_params and found is None:
            return _unknown()
        place, signature = found or (folder, live.watch.signature())
        try:
            return HTMLResponse(
                await run_in_threadpool(live.reports.page, place, signature), headers={**HEADERS, **NO_FRAME}
            )
        except CollapselabError as error:
            return PlainTextResponse(error.message.replace(str(folder), "…"), 409, headers=HEADERS)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        task = asyncio.create_task(live.watching())
        try:
            yield
        finally:
            task.cancel()

    routes = [
        Route("/", page, methods=["GET"]),
        Route("/events", events, methods=["GET"]),
        Route("/runs/{id}/curves", run_curves, methods=["GET"]),
        Route("/runs/{id}/samples", run_samples, methods=["GET"]),
        Route("/runs/{id}/report", report, methods=["GET"]),
        Route("/report", report, methods=["GET"]),
    ]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return Starlette(routes=routes, middleware=[guard], lifespan=lifespan)


async def _answer(live: Live, request: Request, made: Callable[[RunDir], object]) -> Response:
    """JSON about the run that is asked for."""
    found = _run(live, request)
    if found is None:
        return _unknown()
    try:
        content = await run_in_threadpool(made, RunDir(found[0]))
    except (CollapselabError, OSError):
        return PlainTextResponse("the files of this run cannot be read", 409, headers=HEADERS)
    return Response(_json(content), media_type="application/json", headers=HEADERS)


def _run(live: Live, request: Request) -> tuple[Path, object] | None:
    number = _whole(request.path_params["id"])
    return None if number is None else live.watch.find(number)


def _whole(text: str) -> int | None:
    """A whole number of at most 12 digits; Python refuses thousands of digits, and takes other signs for digits."""
    return int(text) if re.fullmatch("[0-9]{1,12}", text) else None


def _unknown() -> Response:
    return PlainTextResponse("no such run", 404, headers=HEADERS)


def _json(value: object) -> str:
    """JSON in ASCII, so that lone surrogates in names and texts survive."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


@cache
def _page() -> tuple[str, str]:
    """The page, and its content security policy: its own script and style, and requests to this server."""
    script = "(() => {\n" + "".join(map(_text, SCRIPTS)) + "})();\n"
    style = "".join(map(_text, STYLES))
    metadata: Mapping[str, Any] = {"events": {name: EVENTS[name].label for name in MARKED_EVENTS}}
    html = _text("serve/template/live.html")
    for name, part in (("STYLE", style), ("METADATA", script_json(metadata)), ("SCRIPT", script)):
        html = html.replace(f"@@{name}@@", part)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
    return html, policy


def _text(name: str) -> str:
    return files("collapselab").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
