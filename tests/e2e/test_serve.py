"""`collapselab serve`: read-only, for this machine, with hostile texts and names, and with runs that come and go."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from browsing import until
from report_runs import HOSTILE, readable_run
from serving import started

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
NUM_CLIENTS = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "runs"
    readable_run(folder / "a", onset=6)
    readable_run(folder / "<img src=x onerror=pwned=4>", onset=None, is_finished=False, settings={"seed": 7})
    readable_run(folder / "hostile", onset=None, num_steps=len(HOSTILE), texts=HOSTILE, settings={"seed": 8})
    (folder.parent / "secret").write_text("root:secret")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Generator[str]:
    process, address = started(folder)
    yield address
    stopped(process)


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer; the path goes out as it is, without being tidied."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=300)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text


def stopped(process: subprocess.Popen[str]) -> str:
    """Ends the server as Ctrl-C does; what it said since it began."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


class Listener:
    """A client of /events."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=300)
        self.connection.request("GET", "/events")
        self.answer = self.connection.getresponse()

    def next(self) -> tuple[str, Any]:
        kind = ""
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            if line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))

    def close(self) -> None:
        self.connection.close()


def rows_of(address: str) -> dict[str, Any]:
    listener = Listener(address)
    kind, news = listener.next()
    listener.close()
    assert kind == "all"
    return {row["name"]: row for row in news["rows"]}


def test_the_page_may_do_nothing_but_ask_its_server(address: str) -> None:
    status, headers, html = ask(address, "/")
    assert status == 200
    policy = headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["form-action"] == directives["base-uri"] == "'none'"
    assert directives["require-trusted-types-for"] == "'script'"
    assert re.fullmatch(r"'sha256-\S+'", directives["script-src"]), "no unsafe-inline"
    assert headers["x-content-type-options"] == "nosniff"
    assert "@@" not in html


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/", "/events", "/runs/0/curves", "/runs/0/samples?step=0", "/runs/0/report", "/report"]
)
def test_nothing_can_be_written(address: str, method: str, path: str) -> None:
    status, headers, _ = ask(address, path, method)
    assert status == 405
    assert "access-control-allow-origin" not in headers


TRAVERSALS = (
    "/../secret", "/runs/../secret", "/runs/../../secret/curves", "/runs/%2e%2e%2fsecret/curves", "/%2e%2e/secret",
    "/runs/0/../../secret", "/runs/0/samples?step=../../secret", "/runs/0/samples?step=-1", "/runs/0/samples",
    "/runs/0/samples?step=%c2%b2", "/runs/0/samples?step=9999999999999", "/runs/-1/curves", "/runs/99/curves",
    "/runs/a/curves", "/runs/0/curves/..%2f..%2fsecret", "//secret", "/runs/99/report", "/runs/1e9/samples?step=0",
    f"/runs/{'9' * 5000}/curves",
)  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_nothing_beside_the_runs_can_be_read(address: str, path: str) -> None:
    status, _, text = ask(address, path)
    assert 400 <= status < 500
    assert "root:" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_names_for_this_machine_are_refused(address: str, host: str) -> None:
    """A page of another site, whose name was made to point here, could read the runs otherwise."""
    assert ask(address, "/", Host=host)[0] == 400
    assert ask(address, "/", Host="localhost:1")[0] == 200


def test_it_listens_on_this_machine_only(address: str) -> None:
    assert urlsplit(address).hostname == "127.0.0.1"


def test_rows_curves_and_samples(address: str) -> None:
    rows = rows_of(address)
    assert rows["a"]["fate"] == "total collapse"
    number = rows["hostile"]["id"]
    assert len(json.loads(ask(address, f"/runs/{number}/curves")[2])["steps"]) == len(HOSTILE)
    for step, text in enumerate(HOSTILE):
        status, headers, answer = ask(address, f"/runs/{number}/samples?step={step}")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(answer)[0]["text"] == text[:20_000]


def test_the_report_can_be_had(address: str) -> None:
    number = rows_of(address)["a"]["id"]
    for path in (f"/runs/{number}/report", "/report"):
        status, headers, html = ask(address, path)
        assert (status, headers["content-security-policy"]) == (200, "frame-ancestors 'none'")
        assert "require-trusted-types-for" in html


def test_a_hostile_text_stays_text(browser: Any, address: str) -> None:
    context = browser.new_context()
    page, said, asked = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    context.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    until(page, "document.querySelectorAll('#rows tr').length === 3")
    page.locator("#rows button", has_text="hostile").click()
    for step in range(len(HOSTILE)):
        page.locator("#slider").evaluate(f"one => (one.value = {step}, one.dispatchEvent(new Event('input')))")
        until(page, f"document.documentElement.dataset.step === '{step}'")
        assert page.locator("#sample script, #sample img, #sample svg").count() == 0
    assert page.evaluate("window.pwned") is None
    page.locator("#rows button", has_text="a").first.click()
    until(page, "document.documentElement.dataset.step === '11'")
    assert page.locator("#sample mark").count() > 0, "repetition is marked"
    assert page.locator("#rows img").count() == 0
    assert "<img src=x" in page.locator("#rows").inner_text()
    page.locator("#filter").fill("hostile")
    assert page.locator("#rows tr:visible").count() == 1
    assert page.locator("#losses path").count() == 3
    colors = "all => all.map(one => getComputedStyle(one).stroke)"
    assert len(set(page.locator("#losses path").evaluate_all(colors))) == 3, "all curves were black"
    assert said == []
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(address).netloc}
    context.close()


def test_runs_that_grow_break_and_vanish(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    process, address = started(folder)
    listener = Listener(address)
    try:
        assert listener.next() == ("all", {"version": 0, "rows": [], "removed": []})
        path = readable_run(folder / "a", onset=None, is_finished=False)
        assert [row["step"] for row in listener.next()[1]["rows"]] == [11]
        with (path / "steps.jsonl").open("a") as steps:
            steps.write('{"step": 12, "train_nll_nats": 1.0}\n{"step": 13, "tra')
        (row,) = listener.next()[1]["rows"]
        assert (row["step"], row["train_nll_nats"]) == (12, 1.0)
        (path / "config.json").write_text("{")
        damage = listener.next()[1]["rows"][0]["damage"]
        assert "config.json" in damage
        assert str(folder) not in damage, "where the runs are is nobody's business"
        assert ask(address, f"/runs/{row['id']}/report")[0] == 409
        shutil.rmtree(path)
        assert listener.next()[1]["removed"] == [row["id"]]
        assert ask(address, f"/runs/{row['id']}/curves")[0] == 404
    finally:
        listener.close()
        stopped(process)


def test_fifty_clients_are_told(tmp_path: Path) -> None:
    """Each gets every row at once and the news of one run in seconds, and the server keeps nobody who has left."""
    folder = tmp_path / "runs"
    for seed in range(20):
        readable_run(folder / f"run-{seed}", onset=6, settings={"seed": seed})
    process, address = started(folder)
    try:
        listeners = [Listener(address) for _ in range(NUM_CLIENTS)]
        begun = time.perf_counter()
        assert {len(listener.next()[1]["rows"]) for listener in listeners} == {20}
        all_s = time.perf_counter() - begun
        begun = time.perf_counter()
        with (folder / "run-3" / "steps.jsonl").open("a") as steps:
            steps.write('{"step": 12}\n')
        delays: list[float] = []

        def wait(listener: Listener) -> None:
            (row,) = listener.next()[1]["rows"]
            delays.append(time.perf_counter() - begun if row["step"] == 12 else 1e9)

        threads = [threading.Thread(target=wait, args=(listener,)) for listener in listeners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        sys.stdout.write(
            f"\n{NUM_CLIENTS} clients: rows {all_s:.2f} s, news {min(delays):.2f} to {max(delays):.2f} s\n"
        )
        assert len(delays) == NUM_CLIENTS
        assert max(delays) < 30
        for listener in listeners:
            listener.close()
        assert ask(address, "/")[0] == 200
    finally:
        stopped(process)


def test_two_hundred_long_runs_open_quickly(browser: Any, tmp_path: Path) -> None:
    """200 runs of 1,000 steps; the files of one under 200 names, since nothing is kept between runs."""
    folder = tmp_path / "runs"
    first = readable_run(folder / "run-000", onset=None, num_steps=1000, is_finished=False)
    for number in range(1, 200):
        shutil.copytree(first, folder / f"run-{number:03d}", copy_function=os.link)
    process, address = started(folder)
    context = browser.new_context()
    try:
        page = context.new_page()
        begun = time.perf_counter()
        page.goto(address)
        until(page, "document.querySelectorAll('#rows tr').length === 200")
        open_s = time.perf_counter() - begun
        begun = time.perf_counter()
        page.locator("#rows button").nth(100).click()
        until(page, "document.documentElement.dataset.step === '999'")
        sys.stdout.write(f"\n200 runs opened in {open_s:.2f} s, one of them in {time.perf_counter() - begun:.2f} s\n")
        assert open_s < 2 * 3, "three times the target: a busy machine"
    finally:
        context.close()
        stopped(process)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--port", "99999"], "--port must be"), (["--host", "192.0.2.1"], "cannot listen"), ([], "no such folder")],
)
def test_mistakes_are_explained(folder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    place = folder if options else tmp_path / "none"
    command = [sys.executable, "-m", "collapselab", "serve", str(place), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
