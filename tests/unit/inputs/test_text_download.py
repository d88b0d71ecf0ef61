"""Downloads: the right bytes, complete or not at all, from the next mirror if necessary, and within limits."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import logging
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from collapselab.errors import InputError
from collapselab.inputs import text_download
from collapselab.inputs.text_sources import TEXTS, Mirror, TextInfo
from collapselab.inputs.texts import load_text

CONTENT = " \n = A heading = \n \n the <unk> said : “ N ” \n".encode() * 500
Publish = Callable[..., None]
Answer = Callable[[BinaryIO], None]
Serve = Callable[[Answer], str]
DEAD = "http://127.0.0.1:9/{split}.txt"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


@dataclass
class Site:
    """A web site on this machine: path to content; a path under /cut/ breaks off, one under /stall/ stops half-way."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            content = found.files.get(self.path)
            if content is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            is_half = self.path.startswith(("/cut/", "/stall/"))
            self.wfile.write(content[: len(content) // 2] if is_half else content)
            self.wfile.flush()
            if self.path.startswith("/stall/"):
                released.wait(30)

        def log_message(self, *_: object) -> None: ...

    released = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Site(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        released.set()
        server.shutdown()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Names a text `lab` whose valid split is CONTENT, with the given mirrors."""

    def add(*mirrors: Mirror) -> None:
        info = TextInfo("lab", "a form", "a licence", "a source", {"valid": sha256(CONTENT)}, mirrors)
        monkeypatch.setitem(TEXTS, "lab", info)

    return add


def test_a_download_is_checked_kept_and_shows_its_licence(
    site: Site, publish: Publish, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "collapselab")
    site.files["/valid.txt"] = CONTENT
    publish(Mirror(site.url + "/{split}.txt"))
    text = load_text("lab", tmp_path)
    assert (text.text.encode(), text.sha256, text.licence) == (CONTENT, sha256(CONTENT), "a licence")
    assert caplog.messages == [f"downloading lab:valid from {site.url}/valid.txt (licence: a licence)"]
    assert load_text("lab", tmp_path) == text
    assert site.asked == ["/valid.txt"], "the second call reads the file"
    assert [path.name for path in tmp_path.rglob("*")] == ["lab", "valid.txt"]


def test_a_text_is_taken_out_of_a_zip_file(site: Site, publish: Publish, tmp_path: Path) -> None:
    archive = site.files["/lab.zip"] = zipped("lab/wiki.valid.tokens", CONTENT)
    publish(Mirror(site.url + "/lab.zip", "lab/wiki.{split}.tokens", sha256(archive)))
    assert load_text("lab", tmp_path).text.encode() == CONTENT
    assert [path.name for path in tmp_path.rglob("*")] == ["lab", "valid.txt"]


@pytest.mark.parametrize("first", ["dead", "missing", "wrong", "cut off", "wrong zip", "zip without it", "no zip"])
def test_the_next_mirror_is_used(first: str, site: Site, publish: Publish, tmp_path: Path) -> None:
    other, broken = zipped("other", CONTENT), b"PK no zip"
    site.files = {
        "/valid.txt": CONTENT,
        "/cut/valid.txt": CONTENT,
        "/wrong.txt": b"?",
        "/o.zip": other,
        "/b.zip": broken,
    }
    mirrors = {
        "dead": Mirror(DEAD),
        "missing": Mirror(site.url + "/missing.txt"),
        "wrong": Mirror(site.url + "/wrong.txt"),
        "cut off": Mirror(site.url + "/cut/{split}.txt"),
        "wrong zip": Mirror(site.url + "/o.zip", "{split}.txt", "0" * 64),
        "zip without it": Mirror(site.url + "/o.zip", "{split}.txt", sha256(other)),
        "no zip": Mirror(site.url + "/b.zip", "{split}.txt", sha256(broken)),
    }
    publish(mirrors[first], Mirror(site.url + "/{split}.txt"))
    assert load_text("lab", tmp_path).text.encode() == CONTENT
    assert [path.name for path in tmp_path.rglob("*")] == ["lab", "valid.txt"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/wrong.txt", "wrong sha256"), ("/missing.txt", "HTTP status 404"), ("/cut/valid.txt", "Error")],
)
def test_a_failed_download_leaves_no_file_and_says_which_to_put_where(
    path: str, reason: str, site: Site, publish: Publish, tmp_path: Path
) -> None:
    site.files = {"/wrong.txt": b"?", "/cut/valid.txt": CONTENT}
    publish(Mirror(site.url + path))
    with pytest.raises(InputError, match=f"cannot download lab:valid .*{reason}") as caught:
        load_text("lab", tmp_path)
    assert site.url + path in (caught.value.hint or "")
    assert str(tmp_path / "lab" / "valid.txt") in (caught.value.hint or "")
    assert [path.name for path in tmp_path.rglob("*")] == ["lab"]


def test_a_download_killed_half_way_leaves_no_text(site: Site, publish: Publish, tmp_path: Path) -> None:
    site.files = {"/stall/valid.txt": CONTENT, "/valid.txt": CONTENT}
    code = f"""
from collapselab.inputs.text_sources import Mirror, TEXTS, TextInfo
from collapselab.inputs.texts import load_text
mirror = Mirror("{site.url}/stall/{{split}}.txt")
TEXTS["lab"] = TextInfo("lab", "", "", "", {{"valid": "{sha256(CONTENT)}"}}, (mirror,))
load_text("lab", {str(tmp_path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while not site.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert site.asked == ["/stall/valid.txt"]
    assert not (tmp_path / "lab" / "valid.txt").exists()
    publish(Mirror(site.url + "/{split}.txt"))
    assert load_text("lab", tmp_path).text.encode() == CONTENT


def test_a_data_folder_that_cannot_be_made_is_named(publish: Publish, tmp_path: Path) -> None:
    publish(Mirror(DEAD))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder") as caught:
        load_text("lab", tmp_path / "file")
    assert "COLLAPSELAB_DATA" in (caught.value.hint or "")


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A server on which a function writes to each connection; limits are small."""
    monkeypatch.setattr(text_download, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(text_download, "MAX_SECONDS", 1.5)
    servers: list[socketserver.ThreadingTCPServer] = []

    def serve(answer: Answer) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                with contextlib.suppress(OSError):  # the client has had enough
                    answer(self.wfile)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/valid.txt"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


BOMB = gzip.compress(bytes(30_000_000))
OK = b"HTTP/1.1 200 OK\r\n"


def endless(file: BinaryIO, start: bytes = OK + b"\r\n") -> None:
    file.write(start)
    for _ in range(1000):  # 64 MB
        file.write(b"a" * 64_000)


def endless_in_chunks(file: BinaryIO) -> None:
    file.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        file.write(b"fa00\r\n" + b"a" * 64_000 + b"\r\n")


def endless_redirection(file: BinaryIO) -> None:
    endless(file, b"HTTP/1.1 302 Found\r\nLocation: /valid.txt\r\n\r\n")


def dripping(file: BinaryIO, start: bytes = OK + b"Content-Length: 1000\r\n\r\n") -> None:
    file.write(start)
    for _ in range(150):
        file.write(b"a")
        time.sleep(0.1)


def dripping_headers(file: BinaryIO) -> None:
    dripping(file, OK + b"X: ")


def bomb(file: BinaryIO) -> None:
    file.write(OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless, "more than 1,000,000 bytes"),
        (endless_in_chunks, "more than 1,000,000 bytes"),
        (endless_redirection, "HTTP status 302"),
        (dripping, "not finished after 1.5 s"),
        (dripping_headers, "not finished after 1.5 s"),
        (bomb, "wrong sha256"),
    ],
)
def test_a_hostile_server_is_left_within_the_limits(
    answer: Answer, reason: str, hostile: Serve, publish: Publish, tmp_path: Path
) -> None:
    publish(Mirror(hostile(answer)))
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(InputError, match=f"cannot download lab:valid .*{reason}"):
        load_text("lab", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - begun < 10
    assert peak < 10_000_000
    assert [path.name for path in tmp_path.rglob("*")] == ["lab"]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"0" * 3_000_000, "more than 1,000,000 bytes"), (b"?", "wrong sha256")]
)
def test_a_member_of_a_zip_file_is_checked_before_it_is_put_in_place(
    content: bytes, reason: str, site: Site, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_download, "MAX_BYTES", 1_000_000)
    archive = site.files["/lab.zip"] = zipped("valid.txt", content)
    publish(Mirror(site.url + "/lab.zip", "{split}.txt", sha256(archive)))
    with pytest.raises(InputError, match=reason):
        load_text("lab", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["lab"]


def test_a_full_disk_is_named(site: Site, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    site.files["/valid.txt"] = CONTENT
    publish(Mirror(site.url + "/{split}.txt"))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot write .*valid.txt: No space left"):
        load_text("lab", tmp_path)
