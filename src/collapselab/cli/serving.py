"""`collapselab serve`: the live page of a folder of runs."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from pathlib import Path

from tyro.conf import Positional

from collapselab.cli.text import note, warn
from collapselab.errors import InputError

MISSING = ("starlette", "uvicorn")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(runs: Positional[Path], host: str = "127.0.0.1", port: int = 8765) -> None:
    """Shows a folder of runs in a browser, live: status, curves and text of every step, while they go on.

    Read-only. Ctrl-C ends it; the runs go on.

    Args:
        runs: a run directory, or a folder of them; new runs appear
        host: the address to listen on; any other than the default lets the network read the runs
        port: the port; 0 takes a free one
    """
    if not runs.is_dir():
        raise InputError(f"{runs}: no such folder", "give a run directory, or a folder of them")
    missing = [name for name in MISSING if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the live page needs {', '.join(missing)}", "pip install 'collapselab[serve]'")
    import uvicorn

    from collapselab.serve.app import LOCAL_HOSTS, make_app

    listening = _listen(host, port)
    place = f"[{host}]" if ":" in host else host
    address = f"http://{place}:{listening.getsockname()[1]}"
    if host not in LOOPBACK:
        warn(f"everyone who can reach {host} can read these runs; there is no password")
    note(f"{runs} is shown at {address} (Ctrl-C ends it)")
    app = make_app(runs, LOCAL_HOSTS if host in LOOPBACK else ("*",))
    settings = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=1)
    with contextlib.suppress(KeyboardInterrupt):  # the usual end
        uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InputError: the port is taken, or there is no such address.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port must be 0 to 65535, received {port}", "0 takes a free port")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "choose another with --port; 0 takes a free one",
        ) from None
