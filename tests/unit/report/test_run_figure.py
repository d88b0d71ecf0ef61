"""The picture of a run: which lines, marks and words it holds, for every shape a run can have."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest

from collapselab.report.drawing import PNG_SCALE
from collapselab.report.run_figure import loss_figure
from collapselab.report.run_panels import MAX_RAW_STEPS
from collapselab.report.theme import save_figure, specification

RUN: dict[str, Any] = {"model": "builtin:micro", "lr": 3e-5, "seed": 1, "ended_by": "collapse", "kind_at_end": "loop"}


def make_steps(num_steps: int, texts: tuple[str, ...] = ("austen", "moby-dick")) -> pd.DataFrame:
    rows = [
        {
            "step": t,
            "train_nll_nats": 3.0 - 0.01 * t,
            **{f"val_nll_nats[{text}]": 3.0 + 0.01 * t for text in texts},
            "seq_rep_4": 0.5,
            "loop_span": 50,
            "num_tokens": 200,
        }
        for t in range(num_steps)
    ]
    return pd.DataFrame(rows)


def points(chart: alt.VConcatChart) -> dict[str, dict[int, float | None]]:
    """Every drawn value by legend entry and step; where a thin line lies behind a thick one, the thick one's."""
    vega_lite = specification(chart)
    rows = vega_lite["datasets"][vega_lite["data"]["name"]]
    filters = (layer["transform"][0]["filter"] for panel in vega_lite["vconcat"] for layer in _lines_of(panel))
    layers = {one for words in filters for one in words.split(" || ")}
    assert {f"datum.layer === '{row['layer']}'" for row in rows} <= layers, "a row no line draws"
    drawn: dict[str, dict[int, float | None]] = {}
    for row in rows:
        if not row["layer"].endswith("(thin)"):
            drawn.setdefault(row["line"], {})[row["step"]] = row["value"]
    return drawn


def _lines_of(panel: dict[str, Any]) -> list[dict[str, Any]]:
    return [layer for layer in panel["layer"] if layer["mark"]["type"] == "line"]


def words(chart: alt.VConcatChart, folder: Path) -> list[str]:
    """Every text of the picture, as a reader of the SVG finds it."""
    svg, _ = save_figure(chart, folder, "figure")
    return [node.text or "" for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_both_panels_hold_every_line_with_its_values() -> None:
    drawn = points(loss_figure(make_steps(3), RUN))
    assert drawn["training loss"] == {0: 3.0, 1: 2.99, 2: 2.98}
    assert drawn["validation loss, austen"] == drawn["validation loss, moby-dick"] == {0: 3.0, 1: 3.01, 2: 3.02}
    assert drawn["repeated 4-grams"] == {0: 0.5, 1: 0.5, 2: 0.5}
    assert drawn["tokens inside a loop"] == {0: 0.25, 1: 0.25, 2: 0.25}


def test_the_picture_says_what_was_run_and_when_it_collapsed(tmp_path: Path) -> None:
    run = {**RUN, "onset_step": 60, "total_collapse_step": 67, "train.source": "shuffled"}
    found = words(loss_figure(make_steps(68), run), tmp_path)
    assert any(text.startswith("builtin:micro trained on own text, shuffled: ") for text in found)
    assert {"onset, step 60", "total collapse, step 67", "loss (nats per token)", "step"} <= set(found)
    (subtitle,) = [text for text in found if text.startswith("learning rate")]
    assert subtitle.split("  ·  ") == ["learning rate 3e-5", "seed 1", "total collapse", "kind loop"]


def test_a_run_that_never_collapsed_has_no_marks(tmp_path: Path) -> None:
    run = {**RUN, "ended_by": None, "kind_at_end": None, "onset_step": pd.NA, "total_collapse_step": math.nan}
    found = words(loss_figure(make_steps(5, texts=("ptb",)), run), tmp_path)
    assert not [text for text in found if "onset" in text or "total collapse" in text]
    assert any(text.endswith("unfinished") for text in found)


def test_unknown_values_are_passed_over_and_infinite_ones_are_gaps() -> None:
    steps = make_steps(5)
    steps.loc[[1, 3], "val_nll_nats[austen]"] = math.nan
    steps.loc[4, "train_nll_nats"] = math.inf
    drawn = points(loss_figure(steps, RUN))
    assert list(drawn["validation loss, austen"]) == [0, 2, 4]
    assert drawn["training loss"][4] is None
    assert drawn["training loss"][3] == 2.97


def test_a_long_run_shows_means_of_noisy_lines_and_validation_losses_as_they_are() -> None:
    num_steps = MAX_RAW_STEPS + 50
    steps = make_steps(num_steps)
    steps["train_nll_nats"] = [float(t % 2) for t in range(num_steps)]
    steps.loc[100, "train_nll_nats"] = math.inf
    drawn = points(loss_figure(steps, RUN))
    half_width = num_steps // 50
    ones = sum(t % 2 for t in range(50 - half_width, 50 + half_width + 1))
    assert drawn["training loss"][50] == pytest.approx(ones / (2 * half_width + 1), abs=1e-12)
    assert drawn["training loss"][100] is None
    assert math.isfinite(drawn["training loss"][99] or math.nan)
    assert drawn["validation loss, austen"][50] == 3.5


@pytest.mark.parametrize("num_steps", [0, 1, 10])
def test_short_and_empty_runs_make_both_files(tmp_path: Path, num_steps: int) -> None:
    steps = make_steps(10).iloc[:num_steps]
    svg, png = save_figure(loss_figure(steps, RUN), tmp_path, "loss")
    assert (svg.name, png.name) == ("loss.svg", "loss.png")
    root = ElementTree.parse(svg).getroot()
    data = png.read_bytes()
    width_px, height_px = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (width_px, height_px) == pytest.approx(
        (PNG_SCALE * float(root.attrib["width"]), PNG_SCALE * float(root.attrib["height"])), abs=2
    )


def test_names_a_run_did_not_record_are_left_out() -> None:
    drawn = points(loss_figure(make_steps(3)[["step", "train_nll_nats"]], {}))
    assert set(drawn) == {"training loss"}


def test_a_run_of_5000_steps_is_drawn() -> None:
    assert len(points(loss_figure(make_steps(5001), RUN))["training loss"]) == 5001


def test_two_long_paths_with_one_ending_keep_a_line_each() -> None:
    texts = ("/first/of/two/long/folders/valid.txt", "/second/of/two/long/folders/valid.txt")
    assert len(points(loss_figure(make_steps(2, texts=texts), RUN))) == 5
