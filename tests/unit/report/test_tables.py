"""The tables of a report, and their files: exact cells, and text that stays text whatever it holds."""

from __future__ import annotations

import csv
import io
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from collapselab.analysis import sensitivity
from collapselab.analysis.hypotheses import judge
from collapselab.analysis.sensitivity import JudgedRun, Rules, judged_runs, onset, onset_with, variations, verdicts
from collapselab.analysis.survival import restricted_mean
from collapselab.collapse.course import CollapseState, Observation, advance
from collapselab.collapse.rules import SampleVerdict, StepVerdict, judge_sample, judge_step
from collapselab.config.schema import Collapse
from collapselab.metrics import repetition_metrics
from collapselab.report.describe import visible
from collapselab.report.groups import run_table
from collapselab.report.table_files import (
    escape_latex,
    escape_markdown,
    readable,
    save_table,
    to_csv,
    to_latex,
    to_markdown,
)
from collapselab.report.tables import SAMPLE_CHARS, TABLES
from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import make_config, make_records, write_run, write_sweep

HOSTILE = (
    "a | b \\| c",
    "$x_1$ & 50 % #1 {}~^",
    "\\input{/etc/passwd} \\end{tabular}",
    "line\nline\r\nand\ttab",
    "<script>alert(1)</script> &lt; &amp;",
    "[a](javascript:alert(1)) ![x](y) `code` **bold** _it_ ~~gone~~",
    "https://example.org/x www.example.org a@example.org @user #12",
    "NUL \x00 ESC \x1b[31m BEL \x07 DEL \x7f",
    "\u202eright to left\u202c zero\u200bwidth",
    "lone \ud800 surrogate",
    '=1+1 "quoted", with commas',
    "--- – — … ’ “ é ß 中 😀",
    "''quotes'' ``ticks``",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return load_runs(write_sweep(tmp_path_factory.mktemp("sweep")))


def build(key: str, runs: Runs) -> pd.DataFrame:
    frame = TABLES[key].build(runs)
    assert frame is not None
    return frame


# --- files


def cells_of(markdown: str) -> list[list[str]]:
    """What a reader of the rendered table sees; fails if anything in a cell is more than text."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows:
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def as_seen(text: str) -> str:
    """Cells are trimmed, line ends and tabs are signs, control characters are spelled out."""
    return visible(text).replace("\t", "⇥").replace("\n", "⏎").strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    markdown = to_markdown(pd.DataFrame({"text": [text], "a|b": ["x"]}))
    assert cells_of(markdown) == [["text", "a|b"], [as_seen(text), "x"]]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\\`*_[]<>|$~&@#^{}!\n\t:/w."), max_size=30))
def test_markdown_shows_every_text_as_it_is(text: str) -> None:
    # A cell of nothing but white space of other alphabets is trimmed differently by every reader.
    shown = as_seen(text)
    if shown != shown.strip() or re.search(r"[^\S \n\t]", text):
        return
    assert cells_of(to_markdown(pd.DataFrame({"x": [1], "text": [text]})))[1][1] == shown


def test_markdown_makes_no_links_of_bare_addresses() -> None:
    escaped = escape_markdown("see https://example.org and WWW.example.org")
    assert "://" not in escaped
    assert "WWW." not in escaped
    assert "www\\." in escaped.lower()


def test_numbers_stand_right_with_four_digits_and_the_unknown_is_a_dash() -> None:
    frame = pd.DataFrame(
        {"n": [1, None], "loss": [3.14159, math.nan], "rate": [2e-5, 1.0], "ok": [True, None], "s": ["a", ""]}
    )
    frame["n"] = frame["n"].astype("Int64")
    assert to_markdown(frame, "A | title").splitlines() == [
        "A \\| title",
        "",
        "| n | loss | rate | ok | s |",
        "| ---: | ---: | ---: | --- | --- |",
        "| 1 | 3.142 | 2e-5 | yes | a |",
        "| – | – | 1 | – |  |",
    ]


def read_latex(latex: str) -> str:
    """What the escapes of `escape_latex` stand for; fails on a special character that is none."""
    words = {
        "textbackslash": "\\",
        "textasciicircum": "^",
        "textasciitilde": "~",
        "textless": "<",
        "textgreater": ">",
        "textbar": "|",
        "textquotedbl": '"',
        "textquotesingle": "'",
        "textasciigrave": "`",
        "ldots": "…",
    }
    symbols = {
        "$\\hookleftarrow$ ": "⏎",
        "$\\rightarrow$ ": "⇥",
        "$-$": "−",
        "$\\langle$": "⟨",
        "$\\rangle$": "⟩",
        "{[}": "[",
    }
    symbols |= {"{*}": "*", "-{}": "-"}
    token = re.compile(
        r"\\texttt\{U\+([0-9A-F]{4,})\}|\\([a-z]+)\{\}|\\([{}$&#%_])|"
        + "|".join(f"({re.escape(symbol)})" for symbol in symbols)
        + r"|(-(?!-)|[^\\{}$&#%_^~<>|\"'`\[*\n\t-])"
    )
    text, position = "", 0
    while position < len(latex):
        match = token.match(latex, position)
        assert match, f"unescaped at {latex[position : position + 20]!r}"
        code, word, special, plain = match[1], match[2], match[3], match[match.lastindex or 0]
        text += chr(int(code, 16)) if code else words[word] if word else special or symbols.get(plain, plain)
        position = match.end()
    return text


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_command_of_the_texts(text: str) -> None:
    shown = readable(text)
    assert read_latex(escape_latex(shown)) == shown.replace("\n", "⏎").replace("–", "--")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_latex_stands_for_every_text(text: str) -> None:
    shown = readable(text)
    assert read_latex(escape_latex(shown)) == shown.replace("\n", "⏎").replace("–", "--")


def test_a_latex_table_has_rules_and_aligned_columns() -> None:
    frame = pd.DataFrame({"100 %": [1.5], "word": ["a & b"], "text": ["[x] " + "y" * 60]})
    assert to_latex(frame, "two\nlines").splitlines() == [
        "% two lines",
        r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}",
        r"\begin{tabular}{rlp{0.5\linewidth}}",
        r"\toprule",
        r"100 \% & word & text \\",
        r"\midrule",
        r"1.5 & a \& b & {[}x] " + "y" * 60 + r" \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_gives_the_text_back_and_no_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(pd.DataFrame({"a,b": [text], "x": [0.1 + 0.2]})))))
    assert rows[0] == ["a,b", "x"]
    cell, number = rows[1]
    assert cell == ("'" if text[0] in "=+-@" else "") + visible(text)
    assert cell[0] not in "=+-@\t\r"
    assert float(number) == 0.1 + 0.2


def test_csv_leaves_the_unknown_empty_and_numbers_whole() -> None:
    frame = pd.DataFrame({"a": [None, -3], "b": [math.nan, "-3"], "c": [(1, 2), "x"]}).astype({"a": "Int64"})
    assert to_csv(frame) == 'a,b,c\n,,"1, 2"\n-3,\'-3,x\n'


def test_a_table_becomes_three_files(tmp_path: Path) -> None:
    paths = save_table(pd.DataFrame({"text": HOSTILE}), tmp_path, "table", "Title")
    assert [path.name for path in paths] == ["table.csv", "table.md", "table.tex"]
    assert all(path.read_bytes().decode("utf-8").count("\x1b") == 0 for path in paths)
    assert len(cells_of(paths[1].read_text(encoding="utf-8"))) == 1 + len(HOSTILE)


# --- samples, settings, runs


def test_table_1_has_the_samples_at_the_papers_steps(tmp_path: Path) -> None:
    config = make_config(stop__max_steps=60, stop__on_collapse=False)
    write_run(tmp_path / "a", config, 20)
    runs = load_runs(tmp_path)
    frame = build("table-1", runs)
    assert frame["step"].tolist() == [0, 50, 60]
    assert frame["run"].unique().tolist() == ["builtin:micro, learning rate 2e-5, seed 0"]
    assert frame["degenerate"].tolist()[0] == "no"
    assert frame["degenerate"].tolist()[1] in ("loop", "frozen", "single-token", "low-entropy")
    samples = runs.samples.set_index("step")["text"]
    assert [text.removesuffix(" …") for text in frame["text"]] == [samples[step][:SAMPLE_CHARS] for step in (0, 50, 60)]
    losses = runs.steps.set_index("step")["train_nll_nats"]
    assert frame["training loss (nats per token)"].tolist() == [losses[step] for step in (0, 50, 60)]


def test_table_1_of_thinned_samples_takes_the_step_before(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", make_config(stop__max_steps=60, stop__on_collapse=False), 20)
    lines = (path / "samples.jsonl").read_text().splitlines(keepends=True)
    (path / "samples.jsonl").write_text("".join(lines[::7]))
    assert build("table-1", load_runs(tmp_path))["step"].tolist() == [0, 49, 56]


def test_table_2_lists_what_runs_differ_in_and_sets_other_arms_beside(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"own-{seed}", make_config(seed=seed, optim__lr=(seed + 1) * 1e-5), 3)
    write_run(tmp_path / "real", make_config(train__source="real", train__real_text="moby-dick"), math.inf)
    frame = build("table-2", load_runs(tmp_path)).set_index("setting")
    assert frame.columns.tolist() == ["own text", "real text"]
    assert frame.loc["optim.lr"].tolist() == ["1e-5, 2e-5", "2e-5"]
    assert frame.loc["seed"].tolist() == ["0, 1", "0"]
    assert frame.loc["train.real_text"].tolist() == ["–", "moby-dick"]
    assert frame.loc["optim.betas"].tolist() == ["0.9, 0.95"] * 2
    assert frame.loc["generate.prompt"].tolist() == ["(empty)"] * 2


def test_table_2_of_many_arms_has_one_column(tmp_path: Path) -> None:
    for i in range(7):
        write_run(tmp_path / str(i), make_config(sampling__temperature=0.5 + i / 10, stop__max_steps=1), math.inf)
    frame = build("table-2", load_runs(tmp_path)).set_index("setting")
    assert frame.columns.tolist() == ["all runs"]
    assert frame.loc["sampling.temperature", "all runs"] == "0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1"


def test_the_table_of_runs_has_their_ends_and_losses(sweep: Runs) -> None:
    frame = build("runs", sweep).set_index("run")
    assert len(frame) == len(sweep.runs)
    for row in sweep.runs.to_dict("records"):
        steps = sweep.steps[sweep.steps["run"] == row["run"]]
        shown = frame.loc[row["run"]]
        assert shown["last step"] == row["last_step"]
        assert (shown["onset (step)"] == row["onset_step"]) is not pd.isna(row["onset_step"])
        assert shown["validation loss, moby-dick, last"] == steps["val_nll_nats[moby-dick]"].iloc[-1]
        assert shown["training loss, first"] == steps["train_nll_nats"].iloc[0]
    assert "total collapse" in set(frame["ended by"])


# --- onset by arm, hypotheses


def test_onset_by_arm_counts_and_averages(sweep: Runs) -> None:
    frame, table = build("onset", sweep), run_table(sweep)
    used_up = table[(table["ending"] == "steps used up") & ~table["is_event"]]
    horizon = used_up["duration"].min()
    assert frame["arm"].unique().tolist() == ["own text"]
    assert len(frame) == 4
    for row in frame.to_dict("records"):
        arm = table[(table["model_label"] == row["model"]) & (table["lr"] == row["learning rate"])]
        onsets = sorted(arm.loc[arm["is_event"], "duration"])
        assert (row["runs"], row["seeds"]) == (len(arm), 3)
        assert (row["onsets"], row["censored"]) == (len(onsets), len(arm) - len(onsets))
        middle = onsets[1] if len(onsets) > 1 else math.nan
        assert row["median onset (step)"] == pytest.approx(middle, nan_ok=True)
        expected = restricted_mean(arm["duration"].to_numpy(), arm["is_event"].to_numpy(), horizon)
        found = row[f"mean onset up to step {horizon:.0f}"]
        assert found == expected.estimate or (expected.estimate is None and math.isnan(found))
        if len(onsets) == 3 and max(onsets) <= horizon:
            assert found == pytest.approx(np.mean(onsets))


def test_onset_by_arm_counts_a_trajectory_once(tmp_path: Path) -> None:
    write_run(tmp_path / "short", make_config(stop__max_steps=5), 10)
    write_run(tmp_path / "long", make_config(stop__max_steps=30), 10)
    frame = build("onset", load_runs(tmp_path))
    assert frame["runs"].tolist() == [1]
    assert frame["onsets"].tolist() == [1]


def test_the_table_of_hypotheses_is_what_was_judged(sweep: Runs) -> None:
    frame, judged = build("hypotheses", sweep), judge(sweep)
    assert frame["hypothesis"].tolist() == [found.key for found in judged]
    assert frame["verdict"].tolist() == [found.verdict for found in judged]
    assert frame["estimate"].tolist() == pytest.approx(
        [math.nan if f.effect is None else f.effect for f in judged], nan_ok=True
    )
    assert frame["runs"].tolist() == [found.num_runs for found in judged]


def test_runs_without_steps_have_no_tables(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", make_config(), 5, finished=False)
    for name in ("steps.jsonl", "samples.jsonl"):
        (path / name).unlink()
    runs = load_runs(path)
    assert {key for key, table in TABLES.items() if table.build(runs) is not None} == set()


# --- threshold sensitivity


def observations(degenerate: Sequence[bool | None]) -> list[Observation]:
    verdicts_of = {None: None, True: StepVerdict(True, ("loop",), "loop"), False: StepVerdict(False)}
    return [Observation(step, verdicts_of[value], ()) for step, value in enumerate(degenerate)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([True, False, None]), max_size=40),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_onset_is_that_of_the_fold(degenerate: list[bool | None], window: int, patience: int) -> None:
    state, thresholds = CollapseState(vocab_size=100), Collapse(window=window, patience=patience)
    for observation in observations(degenerate):
        state = advance(state, observation, thresholds)
    judged = [step for step, value in enumerate(degenerate) if value is not None]
    found = onset(np.array(judged, dtype=int), np.array([degenerate[i] for i in judged], dtype=bool), window, patience)
    assert found == state.onset_step


def random_sample(draw: random.Random) -> tuple[int, ...]:
    length = draw.choice((60, 100, 150, 200, 260))
    free = draw.randrange(length)
    body = [draw.randrange(50) for _ in range(draw.choice((1, 2, 7, 40)))]
    return tuple(([draw.randrange(draw.choice((5, 400))) for _ in range(free)] + body * length)[:length])


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_are_those_of_the_rules(seed: int) -> None:
    """Under random thresholds the columns give what `judge_sample` and `judge_step` give sample by sample."""
    draw = random.Random(seed)
    thresholds = Collapse(
        seq_rep_4=draw.uniform(0.1, 0.9),
        seq_rep_4_short=draw.uniform(0.1, 0.9),
        loop_copies=draw.uniform(2, 6),
        loop_share=draw.uniform(0.1, 0.9),
        match_entropy_nats=draw.uniform(0, 2),
        top_token_share=draw.uniform(0.1, 0.9),
        frozen_nll_nats=draw.uniform(0, 0.5),
    )
    samples, losses = [random_sample(draw) for _ in range(80)], [draw.uniform(0, 1) for _ in range(80)]
    visible_tokens = [draw.choice((5, 50)) for _ in range(80)]
    expected: list[StepVerdict] = []
    for ids, loss, count in zip(samples, losses, visible_tokens, strict=True):
        verdict = judge_sample(ids, thresholds, count)
        expected.append(judge_step([ids], [verdict], [], loss, thresholds))
    rows = [{"num_tokens": len(ids), **repetition_metrics(ids)} for ids in samples]
    metrics = {
        name: np.array([math.nan if row[name] is None else row[name] for row in rows]) for name in sensitivity.METRICS
    }
    whitespace = np.array(["whitespace" in verdict.reasons for verdict in expected])
    broken = {"whitespace": whitespace, "template": np.zeros(80, dtype=bool)}
    rules = Rules(thresholds)
    judged, degenerate = verdicts(JudgedRun(metrics | {sensitivity.LOSS: np.array(losses)}, broken, rules), rules)
    assert judged.tolist() == [verdict.degenerate is not None for verdict in expected]
    assert degenerate.tolist() == [verdict.degenerate is True for verdict in expected]
    assert 5 < sum(degenerate) < 75, "neither all nor nothing"


def judged_again(config: Any, onset_near: float) -> tuple[list[Any], JudgedRun, Runs]:
    records = make_records(config, onset_near)
    rows = [{"run": "a", **record.values} for record in records]
    steps = pd.DataFrame(rows).astype({"degenerate": "boolean"})
    settings_of = {f"collapse.{name}": value for name, value in config.collapse.model_dump().items()}
    row = {"run": "a", "train.source": "own", "generate.batch_size": 1, **settings_of}
    runs = Runs(pd.DataFrame([row]), steps, pd.DataFrame())
    (run,) = judged_runs(runs)
    return records, run, runs


def test_onset_by_other_thresholds_is_that_of_a_run_judged_by_them() -> None:
    config = make_config(stop__on_collapse=False, stop__max_steps=40)
    records, run, _ = judged_again(config, 15)
    changed = {"seq_rep_4_short": 0.95, "loop_share": 0.6, "match_entropy_nats": 0.1}
    thresholds = config.collapse.model_copy(update=changed)
    state = CollapseState(vocab_size=400)
    for record in records:
        ids = record.samples[0].token_ids
        verdict: SampleVerdict = judge_sample(ids, thresholds, None)
        own_nll = record.number("train_nll_nats")
        step = judge_step([ids], [verdict], state.earlier_samples(thresholds), own_nll, thresholds)
        state = advance(state, Observation(record.step, step, (ids,)), thresholds)
    assert onset_with(run, Rules(thresholds)) == state.onset_step
    recorded = onset_with(run, run.rules)
    assert recorded is not None
    assert state.onset_step is not None
    assert recorded < state.onset_step


def test_only_runs_whose_verdicts_come_out_again_are_judged_anew() -> None:
    _, _, runs = judged_again(make_config(), 10)
    assert len(judged_runs(runs)) == 1
    thinned = Runs(runs.runs, runs.steps.iloc[::2], runs.samples)
    assert judged_runs(thinned) == []
    for name, value in (("generate.batch_size", 2), ("train.source", "real"), ("collapse.source", "probe")):
        assert judged_runs(Runs(runs.runs.assign(**{name: value}), runs.steps, runs.samples)) == []
    other = runs.steps.assign(degenerate=~runs.steps["degenerate"])
    assert judged_runs(Runs(runs.runs, other, runs.samples)) == [], "other rules made these verdicts"
    assert judged_runs(Runs(runs.runs, runs.steps.drop(columns="reasons"), runs.samples)) == []


def test_the_table_of_thresholds_counts_what_moves(sweep: Runs) -> None:
    frame = build("sensitivity", sweep)
    first = frame.iloc[0]
    assert (first["setting"], first["runs"], first["unchanged"], first["largest shift (steps)"]) == (
        "as recorded",
        len(sweep.runs),
        len(sweep.runs),
        0,
    )
    assert len(frame) == 1 + len(variations())
    assert (
        frame["earlier"] + frame["unchanged"] + frame["later"] + frame["new"] + frame["lost"] == frame["runs"]
    ).all()
    doubled = frame[(frame["setting"] == "patience") & (frame["change"] == "doubled")].iloc[0]
    assert doubled["lost"] > 0
    assert doubled["earlier"] == 0
    looser = frame[(frame["setting"] == "loop_share") & (frame["change"] == "−20 %")].iloc[0]
    assert looser["earlier"] > 0
    assert looser["later"] == looser["lost"] == 0


def test_longer_samples_are_allowed_more_repeated_4_grams() -> None:
    metrics = {name: np.zeros(4) for name in (*sensitivity.METRICS, sensitivity.LOSS)}
    metrics |= {"num_tokens": np.array([99.0, 100, 199, 200]), "seq_rep_4": np.full(4, 0.75)}
    metrics |= {"match_entropy_nats": np.ones(4), sensitivity.LOSS: np.ones(4)}
    rules = Rules(Collapse())
    run = JudgedRun(metrics, {name: np.zeros(4, dtype=bool) for name in sensitivity.RECORDED_RULES}, rules)
    judged, degenerate = verdicts(run, rules)
    assert judged.tolist() == [False, True, True, True]
    assert degenerate.tolist() == [False, True, True, False]


def test_each_rule_can_be_left_out() -> None:
    rules = Rules(Collapse())
    changed = {v.setting: v.apply(rules) for v in variations() if v.change == "left out"}
    assert set(changed) == {f"rule {n}" for n in (*sensitivity.LEFT_OUT, *sensitivity.RECORDED_RULES)}
    metrics = dict.fromkeys(sensitivity.METRICS, np.array([1.0]))
    metrics |= {
        "num_tokens": np.array([200.0]),
        "match_entropy_nats": np.array([0.0]),
        sensitivity.LOSS: np.array([9.0]),
    }
    metrics |= {"seq_rep_4": np.array([0.7]), "loop_span": np.array([0.0]), "top_token_share": np.array([0.0])}
    run = JudgedRun(metrics, {"whitespace": np.array([False]), "template": np.array([False])}, rules)
    assert verdicts(run, rules)[1].tolist() == [True]
    assert verdicts(run, changed["rule match_entropy"])[1].tolist() == [False]
    assert verdicts(run, changed["rule loop"])[1].tolist() == [True]
