"""Texts by name and path: the right bytes, downloads that are whole or not at all, errors that say what to do."""

from __future__ import annotations

import hashlib
import http.server
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from collapselab.data import data_folder, load_text, text_names
from collapselab.errors import InputError
from collapselab.text_sources import TEXTS, Mirror, TextInfo
from collapselab.tokenization import BUILTIN

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared texts (../shared/data) are not here")
CONTENT = " \n = A heading = \n \n the <unk> said : “ N ” \n".encode() * 500
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
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Names a text `lab` whose valid split is CONTENT, with the given mirrors."""

    def add(*mirrors: Mirror) -> None:
        info = TextInfo("lab", "a form", "a licence", "a source", {"valid": sha256(CONTENT)}, mirrors)
        monkeypatch.setitem(TEXTS, "lab", info)

    return add


@pytest.mark.parametrize(("name", "num_chars"), [("austen", 250_000), ("moby-dick", 120_000)])
def test_shipped_texts_are_their_files(name: str, num_chars: int, tmp_path: Path) -> None:
    text = load_text(name, tmp_path)
    content = (BUILTIN / "texts" / f"{name}.txt").read_bytes()
    assert (text.id, text.split, text.licence, len(text.text)) == (name, "valid", "public domain", num_chars)
    assert (text.text.encode(), text.sha256) == (content, sha256(content))
    assert load_text(f"{name}:valid", tmp_path) == text
    assert list(tmp_path.iterdir()) == []


@needs_shared
@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-2:test", "ptb", "ptb:test"])
def test_texts_in_the_data_folder_are_used_as_they_are(name: str) -> None:
    text = load_text(name, SHARED)
    path = SHARED / text.id / f"{text.split}.txt"
    assert text.split == (name.partition(":")[2] or "valid")
    assert text.text.encode() == path.read_bytes()
    assert "<unk>" in text.text
    assert ("LDC" in (text.licence or "")) == (text.id == "ptb")


def test_every_named_text_is_complete() -> None:
    assert [info.id for info in text_names()] == ["austen", "moby-dick", "wikitext-2", "wikitext-2-raw", "ptb"]
    for info in text_names():
        assert all((info.form, info.licence, info.source))
        assert all(len(digest) == 64 and int(digest, 16) for digest in info.sha256.values())
        assert info.is_shipped or info.splits == ("train", "valid", "test")
        for mirror in info.mirrors:
            assert mirror.url.startswith("https://")
            assert "{split}" in (mirror.member or mirror.url)
            assert (mirror.member is None) == (mirror.zip_sha256 is None)


def test_the_data_folder_is_the_argument_then_the_environment_then_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COLLAPSELAB_DATA", raising=False)
    assert data_folder().name == "collapselab"
    assert Path.home() in data_folder().parents
    monkeypatch.setenv("COLLAPSELAB_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "other") == tmp_path / "other"


def test_a_changed_file_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "valid.txt").write_text("not the treebank")
    with pytest.raises(InputError, match="is not ptb:valid: its sha256 is") as caught:
        load_text("ptb", tmp_path)
    assert "delete it" in (caught.value.hint or "")


def test_a_download_is_checked_kept_and_shows_its_licence(
    site: Site, publish: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
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


def test_a_text_is_taken_out_of_a_zip_file(site: Site, publish: Callable[..., None], tmp_path: Path) -> None:
    archive = site.files["/lab.zip"] = zipped("lab/wiki.valid.tokens", CONTENT)
    publish(Mirror(site.url + "/lab.zip", "lab/wiki.{split}.tokens", sha256(archive)))
    assert load_text("lab", tmp_path).text.encode() == CONTENT
    assert [path.name for path in tmp_path.rglob("*")] == ["lab", "valid.txt"]


@pytest.mark.parametrize("first", ["dead", "missing", "wrong", "cut off", "wrong zip", "zip without it", "no zip"])
def test_the_next_mirror_is_used(first: str, site: Site, publish: Callable[..., None], tmp_path: Path) -> None:
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
    [("/wrong.txt", "another sha256"), ("/missing.txt", "HTTP status 404"), ("/cut/valid.txt", "Error")],
)
def test_a_failed_download_leaves_no_file_and_says_which_to_put_where(
    path: str, reason: str, site: Site, publish: Callable[..., None], tmp_path: Path
) -> None:
    site.files = {"/wrong.txt": b"?", "/cut/valid.txt": CONTENT}
    publish(Mirror(site.url + path))
    with pytest.raises(InputError, match=f"cannot download lab:valid .*{reason}") as caught:
        load_text("lab", tmp_path)
    assert site.url + path in (caught.value.hint or "")
    assert str(tmp_path / "lab" / "valid.txt") in (caught.value.hint or "")
    assert [path.name for path in tmp_path.rglob("*")] == ["lab"]


@pytest.mark.parametrize("name", ["wikitext-2:train", "wikitext-2-raw:test", "ptb"])
def test_without_a_network_the_error_comes_at_once(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A proxy that is not there stands for the missing network, on machines that have one.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot download") as caught:
        load_text(name, tmp_path)
    assert time.monotonic() - start < 5
    text_id, _, split = name.partition(":")
    assert str(tmp_path / text_id / f"{split or 'valid'}.txt") in (caught.value.hint or "")


def test_a_download_killed_half_way_leaves_no_text(site: Site, publish: Callable[..., None], tmp_path: Path) -> None:
    site.files = {"/stall/valid.txt": CONTENT, "/valid.txt": CONTENT}
    code = f"""
from collapselab.text_sources import Mirror, TEXTS, TextInfo
from collapselab.data import load_text
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


def test_a_data_folder_that_cannot_be_made_is_named(publish: Callable[..., None], tmp_path: Path) -> None:
    publish(Mirror(DEAD))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder") as caught:
        load_text("lab", tmp_path / "file")
    assert "COLLAPSELAB_DATA" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("spec", "rule", "hint"),
    [
        ("wikitext", "unknown text 'wikitext'", "wikitext-2"),
        ("asuten", "unknown text 'asuten'", "austen"),
        ("wikitext-2:tests", "wikitext-2 has no split 'tests'", "train, valid, test"),
        ("austen:test", "austen has no split 'test'", "it has valid"),
        ("nowhere.txt", "there is no file nowhere.txt", "plain text in UTF-8"),
        ("nowhere/text", "there is no file nowhere/text", "plain text in UTF-8"),
        ("nowhere.jsonl:body", "there is no file nowhere.jsonl", "JSON lines"),
        ("~nobody-of-that-name/x.txt", "there is no file ~nobody-of-that-name/x.txt", "plain text in UTF-8"),
        ("n" * 300, "unknown text 'nnn", "known"),
    ],
)
def test_what_is_not_there_is_named(spec: str, rule: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        load_text(spec, tmp_path)
    assert hint in (caught.value.hint or "")


def test_a_file_of_ones_own_is_read_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("Größe\r\n\u2028 end \n".encode())
    text = load_text(str(path))
    assert (text.id, text.text, text.split, text.licence) == (str(path), "Größe\r\n\u2028 end \n", None, None)
    assert text.sha256 == sha256(path.read_bytes())


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"abc\xff", "is not UTF-8: invalid start byte at byte 3"),
        (b"", "is empty"),
        (b" \n\t", "is empty"),
    ],
)
def test_a_file_that_is_no_text_is_refused(content: bytes, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rule):
        load_text(str(path))


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        load_text(str(tmp_path))


def test_records_are_joined_like_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    # JSON allows a bare line separator (U+2028) within a string; only a newline ends a line.
    path.write_text('{"text": "one\u2028", "body": "1"}\n\n{"text": "two", "body": "2"}\n')
    text = load_text(str(path))
    assert (text.text, text.form) == ("one\u2028\n\ntwo", "JSON, field 'text'")
    assert load_text(f"{path}:body").text == "1\n\n2"


def test_records_without_a_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": ""}\n{"text": " "}\n')
    with pytest.raises(InputError, match="is empty"):
        load_text(str(path))
    path.write_text('{"token_ids": [1, 2]}\n')
    with pytest.raises(InputError, match="none of the fields text, completion"):
        load_text(str(path))
    with pytest.raises(InputError, match="holds token ids"):
        load_text(f"{path}:token_ids")
