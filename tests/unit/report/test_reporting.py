"""`collapselab report`: which runs it reads, under which names, and which files it writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from collapselab import cli
from collapselab.cli.reporting import load
from report_runs import readable_run


def ended(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def test_the_page_the_figures_and_the_tables_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = readable_run(tmp_path / "runs" / "a")
    page, folder = tmp_path / "out" / "page.html", tmp_path / "figures"
    assert ended(["report", str(run), "-o", str(page), "--figures", str(folder), "--title", "My <title>"]) == 0
    assert "<title>My &lt;title&gt;</title>" in page.read_text(encoding="utf-8")
    stems = {path.stem for path in folder.iterdir()}
    assert {"figure-1", "anatomy", "table-1", "runs"} <= stems
    assert {path.suffix for path in folder.glob("anatomy.*")} == {".svg", ".png", ".pdf"}
    assert {path.suffix for path in folder.glob("runs.*")} == {".csv", ".md", ".tex"}
    told = capsys.readouterr()
    assert told.out == ""
    assert f"page: {page}" in told.err


def test_runs_of_several_folders_are_named_by_their_paths_and_counted_once(tmp_path: Path) -> None:
    readable_run(tmp_path / "sizes" / "a")
    readable_run(tmp_path / "sizes" / "b")
    readable_run(tmp_path / "controls" / "a", is_finished=False)
    runs = load([tmp_path / "sizes", tmp_path / "controls" / "a", tmp_path / "sizes" / "b"])
    assert runs.runs["run"].tolist() == ["sizes/a", "sizes/b", "controls/a"]
    assert runs.steps.groupby("run").size().to_dict() == {"sizes/a": 12, "sizes/b": 12, "controls/a": 12}
    assert runs.samples.groupby("run").size().to_dict() == {"sizes/a": 12, "sizes/b": 12, "controls/a": 12}


def test_columns_keep_their_type_when_runs_are_put_together(tmp_path: Path) -> None:
    for name in ("x", "y"):
        readable_run(tmp_path / name, is_finished=name == "x")
    runs = load([tmp_path / "x", tmp_path / "y"])
    assert runs.runs["onset_step"].tolist() == [6, pd.NA]
    assert str(runs.runs["onset_step"].dtype) == "Int64"
    assert str(runs.steps["degenerate"].dtype) == "boolean"
    assert runs.steps["train_nll_nats"].dtype == float


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent"], "no such folder"),
        ([], "at least one run directory"),
        (["RUN", "-o", "FOLDER"], "is a folder"),
    ],
)
def test_wrong_input_is_told_in_one_message(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": str(readable_run(tmp_path / "a")), "FOLDER": str(tmp_path)}
    assert ended(["report", *(places.get(word, word) for word in arguments)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "hint:" in told
    assert "Traceback" not in told
