"""The report's page: what stands in it, that no text in it is markup, and that long runs fit."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapselab.collapse.numbers import NUMBERS
from collapselab.errors import InputError
from collapselab.report import catalogue, explorer, tables
from collapselab.report.definitions import definitions
from collapselab.report.describe import common_environment, common_settings, labels, outcome, shown, visible
from collapselab.report.explorer import MAX_SAMPLE_CHARS, explorer_runs, kept_steps
from collapselab.report.packing import columns_for_json, json_list, packed, script_json
from collapselab.report.page import write_page
from collapselab.rundir.frames import Runs, load_runs
from report_runs import HOSTILE, make_text, write_run

ROOT = Path(__file__).parents[3]


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


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, tables and hypotheses: they have tests of their own. A test adds what it needs."""
    monkeypatch.setattr(catalogue, "FIGURES", {})
    monkeypatch.setattr(tables, "TABLES", {})
    monkeypatch.setattr("collapselab.report.page_parts.hypotheses", lambda runs: [])


def page_of(folder: Path) -> Page:
    return Page(write_page(load_runs(folder), folder.parent / "page" / "report.html", title="A title"))


# --- what of a run is kept


def test_few_steps_are_all_kept() -> None:
    assert kept_steps([0, 1, 5], [1], 3) == [0, 1, 5]
    assert kept_steps([], [], 5) == []


def test_ends_and_events_are_kept_though_more_than_asked_for() -> None:
    assert kept_steps(range(100), [40, 48], 1) == [0, 40, 48, 99]
    assert kept_steps(range(100), [], 1) == [0, 99]


def test_kept_steps_are_even_and_dense_at_the_first_event() -> None:
    # Ends and event leave 8 places: 4 even ones, and 4 at distances that grow from the event.
    kept = kept_steps(range(1001), [500], 11)
    assert {0, 200, 400, 500, 600, 800, 1000} <= set(kept)
    near = sorted(abs(step - 500) for step in set(kept) - {0, 200, 400, 500, 600, 800, 1000})
    # by_distance[1000 ** (i / 4)] for i = 1..4 is at place 6, 32, 178 and 1000, two places a distance.
    assert near == [3, 16, 89]


def test_an_event_between_two_records_stands_for_the_later_one() -> None:
    assert 30 in kept_steps(range(0, 100, 10), [25], 3)


@given(
    st.sets(st.integers(0, 5000), min_size=1, max_size=300),
    st.lists(st.integers(0, 5000), max_size=3),
    st.integers(1, 80),
)
def test_kept_steps_are_some_of_the_steps(steps: set[int], events: list[int], at_most: int) -> None:
    ordered = sorted(steps)
    kept = kept_steps(ordered, events, at_most)
    assert kept == sorted(set(kept))
    assert set(kept) <= steps
    assert {ordered[0], ordered[-1]} <= set(kept)
    assert len(kept) <= max(at_most, 2 + len(events))


def test_a_run_is_packed_with_its_curves_values_and_samples(tmp_path: Path) -> None:
    runs = load_runs(write_run(tmp_path / "a"))
    (run,) = explorer_runs(runs)
    content = unpack(run.packed)
    assert (run.num_steps, run.num_curve_points, run.num_steps_shown, run.num_sampled_steps) == (12, 12, 12, 12)
    assert content["curves"]["step"] == list(range(12))
    assert content["curves"]["val_nll_nats[austen]"][2] == 3.1
    assert content["curves"]["loop_share"] == [0.02] * 6 + [0.9] * 6
    stop = content["stops"][7]
    assert (stop["step"], stop["samples"]) == (7, [{"role": "train", "text": make_text(7, 6)}])
    values = dict(zip(content["names"], stop["values"], strict=True))
    assert (values["train_nll_nats"], values["kind"], values["degenerate"]) == (0.2, "loop", True)
    assert not {"step", "run", "val_nll_nats", "seconds_update"} & set(values)


def test_samples_beyond_the_budget_are_left_out_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "runs" / "a", onset=300, num_steps=400)
    write_run(tmp_path / "runs" / "b", onset=None, num_steps=10)
    monkeypatch.setattr(explorer, "PAGE_CHARS", 60_000)
    page = page_of(tmp_path / "runs")
    first, second = page.run(0), page.run(1)
    steps = [stop["step"] for stop in first["stops"]]
    assert {0, 300, 304, 399} <= set(steps)
    packed_chars = [len(text) for _, a, text in page.contents if (a.get("id") or "").startswith("run-")]
    assert packed_chars[0] <= 30_000
    assert packed_chars[0] >= 0.5 * 30_000, "the budget is used"
    assert len(second["stops"]) == 10
    assert f"samples of {len(steps) + 10} of 410 steps" in page.text
    assert page.json("metadata")["runs"][0]["num_steps_shown"] == len(steps)


def test_the_budget_holds_for_text_that_does_not_compress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "PAGE_CHARS", 60_000)
    digests = (hashlib.shake_256(str(step).encode()).digest(750) for step in range(200))
    texts = [base64.b64encode(digest).decode() for digest in digests]
    (run,) = explorer_runs(load_runs(write_run(tmp_path / "a", num_steps=200, texts=texts)))
    assert 30_000 <= len(run.packed) <= 60_000
    assert 10 < run.num_steps_shown < 100


def test_a_page_with_everything_says_nothing_of_thinning(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    assert "To stay small" not in page_of(tmp_path / "runs").text


def test_long_curves_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MAX_CURVE_POINTS", 50)
    monkeypatch.setattr(explorer, "PAGE_CHARS", 4_000)
    (run,) = explorer_runs(load_runs(write_run(tmp_path / "a", num_steps=300)))
    content = unpack(run.packed)
    points = content["curves"]["step"]
    assert run.num_curve_points == len(points)
    assert {stop["step"] for stop in content["stops"]} <= set(points), "the marker needs a point on the curve"
    assert 50 <= len(points) <= 50 + run.num_steps_shown < 300


def test_a_very_long_sample_is_cut_and_says_by_how_much(tmp_path: Path) -> None:
    texts = ["y" * (MAX_SAMPLE_CHARS + 7), "short"]
    (run,) = explorer_runs(load_runs(write_run(tmp_path / "a", num_steps=2, texts=texts)))
    long, short = (stop["samples"][0] for stop in unpack(run.packed)["stops"])
    assert (len(long["text"]), long["cut"]) == (MAX_SAMPLE_CHARS, 7)
    assert "cut" not in short


def test_of_many_samples_of_a_step_the_first_of_each_role_are_kept(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", num_steps=3)
    lines = [{"step": 1, "index": i + 1, "role": "probe", "token_ids": [1], "text": f"probe {i}"} for i in range(5)]
    with (path / "samples.jsonl").open("a") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines)
    (run,) = explorer_runs(load_runs(path))
    (stop,) = unpack(run.packed)["stops"]  # only this step was judged by probes
    assert [(s["role"], s.get("of")) for s in stop["samples"]] == [("train", None), ("probe", 5), ("probe", 5)]


def test_a_run_without_samples_still_has_its_curves_and_values(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a")
    (path / "samples.jsonl").unlink()
    (run,) = explorer_runs(load_runs(path))
    content = unpack(run.packed)
    assert run.num_sampled_steps == 0
    assert [stop["step"] for stop in content["stops"]] == list(range(12))
    assert all(stop["samples"] == [] for stop in content["stops"])


# --- data inside a page


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_in_a_page_is_ascii_without_markup_and_comes_back(value: object) -> None:
    text = script_json(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed(value))
    assert unpack(packed(value)) == value


def test_lone_surrogates_and_line_separators_survive() -> None:
    text = "\ud800 \u2028 \u2029 </script>"
    assert script_json(text) == '"\\ud800 \\u2028 \\u2029 \\u003c/script\\u003e"'
    assert json.loads(script_json(text)) == text


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1))
def test_floats_are_rounded_to_four_digits_as_python_writes_them(values: list[float]) -> None:
    column = columns_for_json(pd.DataFrame({"x": values}, dtype=np.float64))["x"]
    for value, rounded in zip(values, json_list(column), strict=True):
        if math.isnan(value):
            assert rounded is None
        elif math.isinf(value):
            assert rounded == ("Infinity" if value > 0 else "-Infinity")
        else:
            assert rounded == pytest.approx(value, rel=0.5001e-3, abs=0)


def test_rounded_numbers_are_short() -> None:
    column = columns_for_json(pd.DataFrame({"x": [1 / 3, 123456.789, 2e-5 / 3, -0.04159, 0.0]}))["x"]
    assert json.dumps(json_list(column)) == "[0.3333, 123500.0, 6.667e-06, -0.04159, 0.0]"


def test_unknown_values_of_every_kind_are_null() -> None:
    frame = pd.DataFrame({"i": [1, pd.NA], "b": [pd.NA, True], "o": [None, "x"]}).astype({"i": "Int64", "b": "boolean"})
    columns = columns_for_json(frame)
    assert {name: json_list(column) for name, column in columns.items()} == {
        "i": [1, None],
        "b": [None, True],
        "o": [None, "x"],
    }


# --- words


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("line\nand\ttab", "line\nand\ttab"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\x00\x1b\x7f\r", "⟨U+0000⟩⟨U+001B⟩⟨U+007F⟩⟨U+000D⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u2066\u2069\u200f\u061c\ufeff\u200b", "⟨U+2066⟩⟨U+2069⟩⟨U+200F⟩⟨U+061C⟩⟨U+FEFF⟩⟨U+200B⟩"),
        ("नमस्ते مرحبا 漢字 👩\u200d🔬", "नमस्ते مرحبا 漢字 👩\u200d🔬"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, seen: str) -> None:
    assert visible(text) == seen


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"), (math.nan, "–"), (pd.NA, "–"), ("", "(empty)"), (True, "yes"), (False, "no"), (0, "0"),
        (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.05, "0.05"), (1234567.0, "1.235e6"), (10.0, "10"),
        ([0.9, 0.95], "0.9 0.95"), ("\u202ex", "⟨U+202E⟩x"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_values_as_people_read_them(value: object, words: str) -> None:
    assert shown(value) == words


def test_labels_name_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", settings={"optim.lr": 1e-4})
    write_run(tmp_path / "b", settings={"optim.lr": 2e-4, "sampling.top_k": None, "threads": 1})
    assert labels(load_runs(tmp_path)) == ["lr 1e-4 · sampling.top_k 500", "lr 2e-4 · sampling.top_k –"]


def test_one_run_is_named_by_model_learning_rate_and_seed(tmp_path: Path) -> None:
    assert labels(load_runs(write_run(tmp_path / "a", settings={"optim.lr": 1e-4}))) == ["micro · lr 1e-4 · seed 0"]


def test_what_is_looked_at_is_no_part_of_a_label_but_labels_differ(tmp_path: Path) -> None:
    for name, changes in {"a": {}, "b": {"stop.max_steps": 7, "data": "austen"}, "c": {"seed": 1}}.items():
        write_run(tmp_path / name, settings=changes)
    assert labels(load_runs(tmp_path)) == ["seed 0 · a", "seed 0 · b", "seed 1"]


def test_runs_that_do_not_differ_are_named_by_their_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name)
    assert labels(load_runs(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"ended_by": "collapse", "fate": "total-collapse", "total_collapse_step": 30, "kind_at_end": "loop"},
         "total collapse at step 30 (loop)"),
        ({"ended_by": "divergence", "fate": "diverged", "diverged_step": 4, "onset_step": 2}, "diverged at step 4"),
        ({"ended_by": "budget", "fate": "onset", "onset_step": 9, "last_step": 20},
         "onset at step 9, not total by step 20"),
        ({"ended_by": "budget", "fate": "healthy", "onset_step": pd.NA, "last_step": 20}, "no collapse by step 20"),
        ({"ended_by": "budget", "fate": "lost", "degraded_step": 2, "lost_step": 14, "last_step": 20},
         "no collapse by step 20; loss on human text: lost at step 14"),
        ({"ended_by": None, "status": "running"}, "running"),
        ({"ended_by": None, "status": None}, "unfinished"),
    ],
)  # fmt: skip
def test_outcomes_in_words(row: dict[str, Any], words: str) -> None:
    assert outcome(row) == words


def test_settings_are_shared_or_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a", settings={"optim.lr": 1e-4})
    write_run(tmp_path / "b", settings={"optim.lr": 2e-4})
    common = common_settings(load_runs(tmp_path))
    assert (common.names, common.rows) == (["lr"], [["1e-4"], ["2e-4"]])
    assert ("sampling.top_k", "500") in common.shared


def test_versions_and_machines_are_those_of_the_frames() -> None:
    frame = pd.DataFrame(
        {"run": ["a", "b"], "env.cpu": ["x", "y"], "env.packages.torch": ["2", "2"], "env.schema": [1, 1]}
    )
    common = common_environment(Runs(frame, pd.DataFrame(), pd.DataFrame()))
    assert (common.shared, common.names, common.rows) == ([("packages.torch", "2")], ["cpu"], [["x"], ["y"]])


def test_every_recorded_number_is_defined_on_the_page_once() -> None:
    of_first_text = {name for name in NUMBERS if f"{name}[TEXT]" in NUMBERS}
    assert set(NUMBERS) - of_first_text <= set(definitions())
    assert not of_first_text & set(definitions()), "they would have the anchor of the same name with its text"


# --- the page


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    page = page_of(tmp_path / "runs")
    addresses = [
        value for _, a in page.elements for name, value in a.items() if name in ("src", "href", "action", "data")
    ]
    assert [address for address in addresses if not (address or "").startswith("#")] == []
    (css,) = (content for tag, _, content in page.contents if tag == "style")
    assert not re.search(r"url\(|@import", css)


def policy_of(page: Page) -> dict[str, str]:
    (content,) = (
        a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    return dict(part.strip().partition(" ")[::2] for part in (content or "").split(";"))


@pytest.mark.parametrize("with_figure", [False, True])
def test_the_policy_allows_the_page_s_own_scripts_and_style_only(
    tmp_path: Path, with_figure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_figure:
        monkeypatch.setattr(catalogue, "FIGURES", {"one": fake_figure("one", lambda runs: a_chart())})
    write_run(tmp_path / "runs" / "a")
    page = page_of(tmp_path / "runs")
    policy = policy_of(page)
    code = [c for tag, a, c in page.contents if tag == "script" and not a.get("type")]
    assert len(code) == 1 + with_figure
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"].split() == [source(script) for script in code]
    assert policy["style-src"].split() == [source(c) for tag, _, c in page.contents if tag == "style"]
    assert set(policy) == {
        "default-src", "script-src", "style-src", "base-uri", "form-action", "require-trusted-types-for",
        "trusted-types",
    }  # fmt: skip
    assert not [name for _, a in page.elements for name in a if name.startswith("on") or name == "style"]


def source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def fake_figure(key: str, draw: Callable[[Runs], alt.Chart | None]) -> catalogue.Figure:
    return catalogue.Figure(key, f"Title of {key}", lambda runs: f"Caption of {key} <b>\u202e", draw)


def a_chart() -> alt.Chart:
    data = pd.DataFrame({"step": [0, 1], "loss": [3.0, 2.0], "line": ["</script>", "b"]})
    return alt.Chart(data).mark_line().encode(x="step:Q", y="loss:Q", color=alt.Color("line:N", legend=alt.Legend()))


def test_figures_with_something_to_draw_are_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [fake_figure("some", lambda runs: a_chart()), fake_figure("none", lambda runs: None)]
    monkeypatch.setattr(catalogue, "FIGURES", {figure.key: figure for figure in figures})
    write_run(tmp_path / "runs" / "a")
    page = page_of(tmp_path / "runs")
    assert [a["data-figure"] for tag, a in page.elements if tag == "figure"] == ["some"]
    assert "Title of some" in page.text
    assert "Caption of some <b>⟨U+202E⟩" in page.text
    (text,) = (content for _, a, content in page.contents if a.get("id") == "data-some")
    rows = [row for rows in unpack(text)["datasets"].values() for row in rows]
    assert {row["line"] for row in rows} == {"</script>", "b"}


def test_tables_are_in_the_page_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"<i>": ["<b>bold</b>", "\u202e"], "n": [1.23456, math.nan]})
    built = {
        "one": tables.Table("one", "Table <1>", lambda runs: frame),
        "none": tables.Table("none", "No", lambda runs: None),
    }
    monkeypatch.setattr(tables, "TABLES", built)
    write_run(tmp_path / "runs" / "a")
    page = page_of(tmp_path / "runs")
    assert "Table <1>" in page.text
    assert re.search(r"<i>\s*n\s*<b>bold</b>\s*1\.235\s*⟨U\+202E⟩\s*–", page.text)
    assert not {"b", "i"} & {tag for tag, _ in page.elements}


def test_nothing_a_model_wrote_becomes_markup(tmp_path: Path) -> None:
    settings = {"data": ("austen", "</script><script>window.pwned = 4</script>.txt"), "generate.prompt": "\u202e<b>"}
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    write_run(plain / "a", num_steps=len(HOSTILE), environment={"cpu": "a", "command": ["b"]})
    path = write_run(
        hostile / '"><img src=x onerror=pwned>',
        num_steps=len(HOSTILE),
        texts=HOSTILE,
        settings=settings,
        environment={"cpu": "<script>window.pwned = 5</script>", "command": ["\ud800"]},
    )
    pages = page_of(plain), page_of(hostile)
    tags = [[(tag, sorted(a)) for tag, a in page.elements] for page in pages]
    assert len(tags[0]) == len(tags[1])
    assert tags[0] == tags[1], "texts change no element and no attribute's name"
    code = [[c for tag, a, c in page.contents if not a.get("type")] for page in pages]
    assert code[0] == code[1]
    assert [s["samples"][0]["text"] for s in pages[1].run(0)["stops"]] == [text[:MAX_SAMPLE_CHARS] for text in HOSTILE]
    assert path.name in pages[1].text


def test_a_trajectory_that_was_seen_twice_is_told_apart_from_two(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", settings={"seed": 1})
    write_run(tmp_path / "runs" / "b", settings={"seed": 1, "eval.every": 7})
    write_run(tmp_path / "runs" / "c", settings={"seed": 2})
    assert "3 runs (2 trajectories, some seen more than once) of 1 model" in page_of(tmp_path / "runs").text


def test_an_unfinished_run_a_crashed_one_and_a_finished_one_stand_side_by_side(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "done", settings={"seed": 1})
    write_run(tmp_path / "runs" / "going", is_finished=False, settings={"seed": 2})
    crashed = write_run(tmp_path / "runs" / "crashed", is_finished=False, settings={"seed": 3})
    for name in ("steps.jsonl", "samples.jsonl", "status.json", "env.json"):
        (crashed / name).unlink()
    page = page_of(tmp_path / "runs")
    assert (
        "3 runs of 1 model, 1 learning rate, 3 seeds: unfinished in 1, total collapse in 1, running in 1." in page.text
    )
    rows = {run["name"]: run for run in page.json("metadata")["runs"]}
    assert [rows[name]["outcome"] for name in ("done", "going", "crashed")] == [
        "total collapse at step 10 (loop)", "running", "unfinished",
    ]  # fmt: skip
    assert rows["done"]["events"] == {"onset_step": 6, "total_collapse_step": 10}
    assert (rows["crashed"]["last_step"], rows["crashed"]["num_steps_shown"]) == (None, 0)


def test_one_run_is_told_in_a_sentence(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    assert "micro · lr 5e-5 · seed 0: total collapse at step 10 (loop)." in page_of(tmp_path / "runs").text


def test_the_same_runs_make_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    assert page_of(tmp_path / "runs").html == page_of(tmp_path / "runs").html


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    runs = load_runs(write_run(tmp_path / "a"))
    with pytest.raises(InputError, match="is not a regular file"):
        write_page(runs, tmp_path)


# --- the template


def colours(css: str) -> list[dict[str, str]]:
    """The custom colours of the light and of the dark page."""
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_defined() -> None:
    assert contrast("#000000", "#ffffff") == 21.0
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    css = (files("collapselab.report") / "template" / "page.css").read_text(encoding="utf-8")
    palette = colours(css)[scheme]
    texts = [(name, "paper") for name in ("ink", "muted", "link", "holds", "fails")]
    texts += [("ink", "mark"), ("ink", "faint"), ("muted", "faint")]
    assert {
        pair: contrast(palette[pair[0]], palette[pair[1]])
        for pair in texts
        if contrast(palette[pair[0]], palette[pair[1]]) < 4.5
    } == {}
    lines = ("own", "text-0", "text-1", "text-2", "text-3", "marker")
    assert {name for name in lines if contrast(palette[name], palette["paper"]) < 3} == set()


def test_scripts_never_parse_text_as_markup_or_code() -> None:
    for path in (files("collapselab.report") / "template").iterdir():
        if path.name.endswith(".js"):
            code = path.read_text(encoding="utf-8")
            assert not re.search(
                r"\.innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|fetch\(", code
            ), path.name
