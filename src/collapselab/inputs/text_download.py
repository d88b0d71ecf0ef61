"""The download of a named text: checked, complete or not at all, and within limits whatever the server does."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from collapselab.errors import InputError
from collapselab.inputs.text_sources import Mirror, TextInfo

log = logging.getLogger(__name__)
TIMEOUT_S = (5.0, 30.0)  # to connect, and between two packets
MAX_SECONDS = 600.0  # for one file
MAX_BYTES = 2**25  # of a file, and of a ZIP's member; the largest of the named texts has 11 MB
_OTHER_FOLDER = "set COLLAPSELAB_DATA to a folder that you can write to"


def sha256_of(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def download(info: TextInfo, split: str, target: Path) -> None:
    """Writes one split of a text to `target`, from the first mirror with the right bytes, complete or not at all.

    Raises:
        InputError: no mirror gave it, or the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {target.parent}: {error.strerror}", _OTHER_FOLDER) from error
    failures: list[str] = []
    for mirror in info.mirrors:
        url, member = mirror.url.format(split=split), mirror.member and mirror.member.format(split=split)
        log.info("downloading %s:%s from %s (licence: %s)", info.id, split, url, info.licence)
        try:
            content = _fetched(url)
            if member is not None:
                content = _taken_out(_checked(content, mirror.zip_sha256 or ""), member)
            content = _checked(content, info.sha256[split])
        except _RefusedError as error:
            failures.append(f"{urlsplit(url).netloc}: {error}")
            log.info("cannot get %s:%s from %s", info.id, split, failures[-1])
        else:
            return _put(content, target)
    raise InputError(
        f"cannot download {info.id}:{split} ({'; '.join(failures)})",
        f"on a machine with a network, {_by_hand(info.mirrors[0], split)}; save it here as {target}",
    )


class _RefusedError(Exception):
    """A mirror gave nothing usable; the message says why, in a few words."""


def _fetched(url: str) -> bytes:
    """The body at a URL, as it is sent, within the limits on bytes and time."""
    outcome: list[bytes | Exception] = []

    def work() -> None:
        try:
            outcome.append(_body(url, time.monotonic() + MAX_SECONDS))
        except Exception as error:  # raised below, in the caller's thread
            outcome.append(error)

    # In a separate thread: if a server sends a byte now and then, no single read ever times out.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    from urllib3.exceptions import HTTPError

    result = outcome[0] if outcome else _RefusedError(f"not finished after {MAX_SECONDS:g} s")
    if isinstance(result, bytes):
        return result
    if isinstance(result, (OSError, ValueError, HTTPError)):  # requests' own are OSErrors
        response = getattr(result, "response", None)
        # Their messages fill half a screen.
        reason = type(result).__name__ if response is None else f"HTTP status {response.status_code}"
        raise _RefusedError(reason) from result
    raise result


def _body(url: str, deadline: float) -> bytes:
    import requests

    # Nothing is unpacked in transit: a body that is small when sent may be huge when unpacked.
    headers = {"User-Agent": "collapselab", "Accept-Encoding": "identity"}
    hooks = {"response": _without_the_body_of_a_redirection}
    body = bytearray()
    with requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers, hooks=hooks) as response:
        response.raise_for_status()
        while time.monotonic() < deadline:
            part = cast(bytes, response.raw.read(2**16, decode_content=False))
            if not part:
                return bytes(body)
            body += part
            if len(body) > MAX_BYTES:
                raise _RefusedError(f"more than {MAX_BYTES:,} bytes")
    raise _RefusedError(f"not finished after {MAX_SECONDS:g} s")


def _without_the_body_of_a_redirection(response: Any, *_: object, **__: object) -> None:
    # requests would read it whole, however large.
    if response.is_redirect:
        response.raw.close()
        response.raw = io.BytesIO()


def _taken_out(archive: bytes, member: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened, opened.open(member) as file:
            content = file.read(MAX_BYTES + 1)
    except KeyError:
        raise _RefusedError(f"the ZIP file has no {member}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _RefusedError(f"a broken ZIP file ({type(error).__name__})") from error
    if len(content) > MAX_BYTES:
        raise _RefusedError(f"{member} has more than {MAX_BYTES:,} bytes")
    return content


def _checked(content: bytes, sha256: str) -> bytes:
    if sha256_of(content) != sha256:
        raise _RefusedError("the file has the wrong sha256")
    return content


def _put(content: bytes, target: Path) -> None:
    try:
        # In the target's folder, so that the last step is a rename within one file system.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            path = Path(folder) / target.name
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}", _OTHER_FOLDER) from error


def _by_hand(mirror: Mirror, split: str) -> str:
    url = mirror.url.format(split=split)
    return f"download {url}" if mirror.member is None else f"extract {mirror.member.format(split=split)} from {url}"
