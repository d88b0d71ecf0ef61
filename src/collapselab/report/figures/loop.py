"""Figure 1: the loop, with the settings of the runs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import TRAINING_SOURCES
from collapselab.config.base import split_at_commas
from collapselab.report.captions import runs_in_words
from collapselab.report.describe import watched
from collapselab.report.entries import Figure
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs, one_run
from collapselab.report.theme import layered, themed
from collapselab.report.values import occurring
from collapselab.rundir.frames import Runs
from collapselab.visible import visible

TEXT_WIDTH, BOX_WIDTH, GAP, MARGIN = 236, 116, 44, 4
TOP, HEIGHT, SIDE_HEIGHT, BACK = 16, 118, 44, 34  # of the boxes, of the box below, and of the way back
LINE_PX, PADDING = 15, 9
CHARS_A_LINE, NUM_LINES = 40, 5
BOXES = (  # the words in a box: how far below its middle, in pixels
    ((-12, "model"), (6, "after t updates"), (21, "reads the text")),
    ((-12, "loss"), (6, "of that text,"), (21, "nats per token")),
    ((-12, "updated model"), (6, "one step down"), (21, "the gradient")),
)
MAX_VALUES = 4  # of a setting that varies; of more values, only the first and last are shown
INK, BOX_FILL = "#333333", "#f2f5f9"
PIXELS: dict[str, Any] = {  # measured from the upper left corner
    "x": alt.X("x:Q", scale=None, axis=None),
    "y": alt.Y("y:Q", scale=None, axis=None),
}


@dataclass(frozen=True)
class Loop:
    """The main runs, or all runs if none trains on its own text, and the first sample of one of them, if known."""

    table: Frame
    sample: str | None


def select(runs: Runs) -> Loop | None:
    table = run_table(runs)
    table = table[~watched(table)]  # nobody knows the settings of others
    main = main_runs(table)
    table = table if main.empty else main
    if table.empty:
        return None
    shown = one_run(runs)
    sample = None if shown is None or shown.samples.empty else str(shown.samples["text"].iloc[0])
    return Loop(table, sample)


def draw(loop: Loop) -> alt.LayerChart:
    """Text, model, loss, updated model, and the way back; below, what the model is judged by. No scale, no axes."""
    lefts = [MARGIN + TEXT_WIDTH + GAP + i * (BOX_WIDTH + GAP) for i in range(3)]
    boxes = [(MARGIN, TEXT_WIDTH), *((left, BOX_WIDTH) for left in lefts)]
    bottom, middle = TOP + HEIGHT, TOP + HEIGHT / 2
    below, width = bottom + BACK, lefts[-1] + BOX_WIDTH + MARGIN
    model = lefts[0] + BOX_WIDTH / 2
    rectangles = [(left, TOP, left + wide, bottom) for left, wide in boxes]
    rectangles.append((lefts[0] - GAP, below + 30, lefts[1] + BOX_WIDTH, below + 30 + SIDE_HEIGHT))
    ways: list[list[tuple[float, float]]] = [
        [(left + wide, middle), (left + wide + GAP - 7, middle)] for left, wide in boxes[:-1]
    ]
    first, last = MARGIN + TEXT_WIDTH / 2, lefts[-1] + BOX_WIDTH / 2
    ways.append([(last, bottom), (last, below), (first, below), (first, bottom + 7)])
    judged = [[(model, bottom), (model, below + 23)]]
    middles = [left + BOX_WIDTH / 2 for left in lefts]
    is_own = (loop.table["train.source"] == "own").all()
    texts = ", ".join(dict.fromkeys(text for data in loop.table["data"] for text in split_at_commas(data)))
    words = [
        (MARGIN + PADDING, TOP + 20.0, "text of step t", "heading"),
        *(
            (x, middle + dy, line, "name" if i == 0 else "line")
            for x, lines in zip(middles, BOXES, strict=True)
            for i, (dy, line) in enumerate(lines)
        ),
        *((MARGIN + PADDING, TOP + 40.0 + LINE_PX * i, line, "sample") for i, line in enumerate(_excerpt(loop.sample))),
        (lefts[0] - GAP + PADDING, below + 48.0, f"loss on human text ({texts})", "fact"),
        (lefts[0] - GAP + PADDING, below + 48.0 + LINE_PX, "is the text degenerate? has the model collapsed?", "fact"),
        (first + 10.0, below + 15.0, "step t + 1: the updated model writes" if is_own else "step t + 1", "fact"),
    ]
    frame = pd.DataFrame(rectangles, columns=pd.Index(["x", "y", "x2", "y2"]))
    mark = alt.Chart(frame).mark_rect(fill=BOX_FILL, stroke=INK, strokeWidth=1.2, cornerRadius=6)
    layers = (
        mark.encode(**PIXELS, x2="x2:Q", y2="y2:Q"),
        *_arrows(ways),
        *_arrows(judged, dash=[4, 3]),
        *_words(words),
    )
    what = "the text it has just written" if is_own else _listed(loop.table["train.source"].map(TRAINING_SOURCES))
    title = f"A model is trained on {what}, step after step, until {_end(loop.table)}"
    height = below + 30 + SIDE_HEIGHT + 6
    return themed(layered(*layers, width=width, height=height, title=title), has_frame=False)


def _excerpt(sample: str | None) -> list[str]:
    """The beginning of a sample, as lines of the box."""
    if sample is None:
        return ["(the records have no sample)"]
    words = visible(" ".join(sample.split()))
    return textwrap.wrap(f"“{words}”", CHARS_A_LINE, max_lines=NUM_LINES, placeholder=" …")


def caption(loop: Loop) -> str:
    table = loop.table
    boxes = ". ".join(f"{heading}: {'; '.join(facts)}" for heading, facts in settings_of_loop(table).items())
    return (
        f"One step of the loop in {runs_in_words(table)}; the text is the first sample of one of them. {boxes}. "
        f"Then the next step begins."
    )


def settings_of_loop(table: Frame) -> dict[str, list[str]]:
    """The parts of one step of the loop with their settings."""
    texts = dict.fromkeys(text for data in table["data"] for text in split_at_commas(data))
    every, updates = _listed(table["eval.every"]), _listed(table["train.steps_per_sequence"])
    sources = [TRAINING_SOURCES[source] for source in dict.fromkeys(table["train.source"])]
    is_stream, window = (table["collapse.source"] == "stream").all(), _listed(table["collapse.window"])
    optimizer = " and ".join({"adamw": "AdamW", "sgd": "SGD"}[name] for name in dict.fromkeys(table["optim.name"]))
    return {
        "Evaluate": [
            f"loss on human text: {', '.join(texts)}",
            f"protocol {_listed(table['eval.protocol'])}",
            "at every step" if every == "1" else f"every {every} steps",
        ],
        "Write": _writing(table),
        "Read and judge": [
            f"training loss on {', '.join(sources)}",
            f"is the {'text' if is_stream else 'probe'} degenerate?",
            f"total collapse: the last {window} {'steps' if is_stream else 'probes'} are all degenerate",
        ],
        "Update": [
            f"one {optimizer} step" if updates == "1" else f"{updates} {optimizer} steps",
            f"learning rate {_listed(table['lr'])}",
            f"weight decay {_listed(table['optim.weight_decay'])}, gradient clipped at {_listed(table['optim.clip'])}",
        ],
    }


def _writing(table: Frame) -> list[str]:
    prompt = "the end-of-text token" if (table["generate.prompt"] == "").all() else _listed(table["generate.prompt"])
    if (table["generate.prompt_tokens"] > 0).any():
        prompt = f"{_listed(table['generate.prompt_tokens'])} tokens of real text"
    sequences = _listed(table["generate.batch_size"])
    rules = [f"temperature {_listed(table['sampling.temperature'])}"]
    rules += [
        f"{name.replace('_', '-')} {_listed(table[f'sampling.{name}'])}"
        for name in ("top_k", "top_p", "min_p")
        if table[f"sampling.{name}"].notna().any()
    ]
    is_greedy = table["sampling.greedy"].astype(bool).all()
    return [
        f"{_listed(table['generate.max_new_tokens'])} tokens after {prompt}",
        *([] if sequences == "1" else [f"{sequences} sequences per step"]),
        "always the likeliest token" if is_greedy else ", ".join(rules),
    ]


def _end(table: Frame) -> str:
    ends = ["total collapse"] if table["stop.on_collapse"].astype(bool).any() else []
    return " or ".join([*ends, f"step {_listed(table['stop.max_steps'])}"])


def _listed(values: Any) -> str:
    """The values that occur; of many, only the first and last."""
    words = occurring(values.dropna())
    return f"{words[0]} … {words[-1]}" if len(words) > MAX_VALUES else ", ".join(words) or "none"


def _arrows(ways: Sequence[Sequence[tuple[float, float]]], dash: Sequence[int] = (1, 0)) -> list[alt.Chart]:
    points = [{"way": i, "turn": k, "x": x, "y": y} for i, way in enumerate(ways) for k, (x, y) in enumerate(way)]
    heads = [{"x": way[-1][0], "y": way[-1][1], "angle": _angle(*way[-2:])} for way in ways]
    lines = alt.Chart(pd.DataFrame(points)).mark_line(color=INK, strokeWidth=1.6, strokeDash=list(dash))
    tips = alt.Chart(pd.DataFrame(heads)).mark_point(shape="triangle-up", filled=True, color=INK, size=90, opacity=1)
    return [
        lines.encode(detail="way:N", order="turn:Q", **PIXELS),
        tips.encode(angle=alt.Angle("angle:Q", scale=None), **PIXELS),
    ]


def _angle(before: tuple[float, float], tip: tuple[float, float]) -> int:
    """Of an arrow to the right, down or up, in degrees from up."""
    return 90 if tip[1] == before[1] else 180 if tip[1] > before[1] else 0


def _words(words: Sequence[tuple[float, float, str, str]]) -> list[alt.Chart]:
    frame = pd.DataFrame(words, columns=pd.Index(["x", "y", "words", "kind"]))
    looks: dict[str, dict[str, Any]] = {
        "heading": {"fontWeight": "bold", "fontSize": 13, "align": "left"},
        "name": {"fontWeight": "bold", "fontSize": 13, "align": "center"},
        "line": {"fontSize": 12, "align": "center"},
        "sample": {"fontSize": 11.5, "align": "left", "fontStyle": "italic"},
        "fact": {"fontSize": 12, "align": "left"},
    }
    return [
        alt.Chart(frame[frame["kind"] == kind]).mark_text(color="#111111", **look).encode(text="words:N", **PIXELS)
        for kind, look in looks.items()
    ]


FIGURE = Figure(
    "Figure 1: the loop, with the settings of these runs", select, draw, caption, "no run of this loop has a step yet."
)
