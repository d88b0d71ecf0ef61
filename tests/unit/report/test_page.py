"""The report's page: what stands in it, that no text in it is markup, and that it says what it leaves out."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import altair as alt
import pandas as pd
import pytest

from collapselab.errors import InputError
from collapselab.report import explorer
from collapselab.report import page as page_module
from collapselab.report.entries import Figure, Table
from collapselab.report.explorer import MAX_SAMPLE_CHARS
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_pages import Page, page_of, unpack
from report_runs import HOSTILE, readable_run


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, tables and hypotheses: they have tests of their own. A test adds what it needs."""
    monkeypatch.setattr(page_module, "FIGURES", {})
    monkeypatch.setattr(page_module, "TABLES", {})
    monkeypatch.setattr("collapselab.report.page_parts.hypotheses", lambda runs: [])


def test_samples_beyond_the_budget_are_left_out_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable_run(tmp_path / "runs" / "a", onset=300, num_steps=400)
    readable_run(tmp_path / "runs" / "b", onset=None, num_steps=10)
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


def test_a_page_with_everything_says_nothing_of_thinning(tmp_path: Path) -> None:
    readable_run(tmp_path / "runs" / "a")
    assert "To stay small" not in page_of(tmp_path / "runs").text


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    readable_run(tmp_path / "runs" / "a")
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
        monkeypatch.setattr(page_module, "FIGURES", {"one": fake_figure("one", a_chart())})
    readable_run(tmp_path / "runs" / "a")
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


def fake_figure(key: str, chart: alt.Chart | None) -> Figure[alt.Chart]:
    return Figure(f"Title of {key}", lambda _: chart, lambda _: chart, lambda _: f"Caption of {key} <b>\u202e", "")


def a_chart() -> alt.Chart:
    data = pd.DataFrame({"step": [0, 1], "loss": [3.0, 2.0], "line": ["</script>", "b"]})
    return alt.Chart(data).mark_line().encode(x="step:Q", y="loss:Q", color=alt.Color("line:N", legend=alt.Legend()))


def test_figures_with_something_to_draw_are_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"some": fake_figure("some", a_chart()), "none": fake_figure("none", None)}
    monkeypatch.setattr(page_module, "FIGURES", figures)
    readable_run(tmp_path / "runs" / "a")
    page = page_of(tmp_path / "runs")
    assert [a["data-figure"] for tag, a in page.elements if tag == "figure"] == ["some"]
    assert "Title of some" in page.text
    assert "Caption of some <b>⟨U+202E⟩" in page.text
    (text,) = (content for _, a, content in page.contents if a.get("id") == "data-some")
    rows = [row for rows in unpack(text)["datasets"].values() for row in rows]
    assert {row["line"] for row in rows} == {"</script>", "b"}


def test_the_sampler_has_a_section_if_it_has_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"one": fake_figure("one", a_chart()), "map": replace(fake_figure("map", a_chart()), section="sampler")}
    monkeypatch.setattr(page_module, "FIGURES", figures)
    readable_run(tmp_path / "runs" / "a")

    def sections(page: Page) -> dict[str, list[str | None]]:
        found: dict[str, list[str | None]] = {}
        for tag, a in page.elements:
            if tag == "section":
                found[str(a["id"])] = []
            elif tag == "figure":
                found[list(found)[-1]].append(a["data-figure"])
        return {section: keys for section, keys in found.items() if section in ("figures", "sampler")}

    page = page_of(tmp_path / "runs")
    assert sections(page) == {"figures": ["one"], "sampler": ["map"]}
    assert "sharper than the model's own distribution" in page.text
    links = {a.get("href") for tag, a in page.elements if tag == "a"}
    assert {"#figures", "#sampler"} <= links
    monkeypatch.setitem(figures, "map", replace(figures["map"], select=lambda _: None))
    page = page_of(tmp_path / "runs")
    assert sections(page) == {"figures": ["one"]}
    assert "#sampler" not in {a.get("href") for tag, a in page.elements if tag == "a"}


def test_tables_are_in_the_page_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"<i>": ["<b>bold</b>", "\u202e"], "n": [1.23456, math.nan]})
    built = {
        "one": Table("Table <1>", lambda runs: frame),
        "none": Table("No", lambda runs: None),
    }
    monkeypatch.setattr(page_module, "TABLES", built)
    readable_run(tmp_path / "runs" / "a")
    page = page_of(tmp_path / "runs")
    assert "Table <1>" in page.text
    assert re.search(r"<i>\s*n\s*<b>bold</b>\s*1\.235\s*⟨U\+202E⟩\s*–", page.text)
    assert not {"b", "i"} & {tag for tag, _ in page.elements}


def test_nothing_a_model_wrote_becomes_markup(tmp_path: Path) -> None:
    settings = {"data": ("austen", "</script><script>window.pwned = 4</script>.txt"), "generate.prompt": "\u202e<b>"}
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    readable_run(plain / "a", num_steps=len(HOSTILE), environment={"cpu": "a", "command": ["b"]})
    path = readable_run(
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
    readable_run(tmp_path / "runs" / "a", settings={"seed": 1})
    readable_run(tmp_path / "runs" / "b", settings={"seed": 1, "eval.every": 7})
    readable_run(tmp_path / "runs" / "c", settings={"seed": 2})
    assert "3 runs (2 trajectories, some seen more than once) of 1 model" in page_of(tmp_path / "runs").text


def test_an_unfinished_run_a_crashed_one_and_a_finished_one_stand_side_by_side(tmp_path: Path) -> None:
    readable_run(tmp_path / "runs" / "done", settings={"seed": 1})
    readable_run(tmp_path / "runs" / "going", is_finished=False, settings={"seed": 2})
    crashed = readable_run(tmp_path / "runs" / "crashed", is_finished=False, settings={"seed": 3})
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
    readable_run(tmp_path / "runs" / "a")
    assert "micro · lr 1e-4 · seed 0: total collapse at step 10 (loop)." in page_of(tmp_path / "runs").text


def test_the_same_runs_make_the_same_page(tmp_path: Path) -> None:
    readable_run(tmp_path / "runs" / "a")
    assert page_of(tmp_path / "runs").html == page_of(tmp_path / "runs").html


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    runs = load_runs(readable_run(tmp_path / "a"))
    with pytest.raises(InputError, match="is not a regular file"):
        write_page(runs, tmp_path)
