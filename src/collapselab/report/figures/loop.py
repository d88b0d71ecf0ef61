"""Figure 1: the loop, with the settings of the runs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import TRAINING_SOURCES
from collapselab.config.base import split_at_commas
from collapselab.report.captions import runs_in_words
from collapselab.report.entries import Figure
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs
from collapselab.report.theme import layered, themed
from collapselab.report.values import counted, occurring
from collapselab.rundir.frames import Runs

BOX_WIDTH, BOX_GAP, MARGIN = 168, 26, 4
LINE_PX, HEADING_PX, PADDING = 15, 22, 8
CHARS_A_LINE = 27
MAX_VALUES = 4  # of a setting that varies; of more values, only the first and last are shown
INK, BOX_FILL = "#333333", "#f2f5f9"
PIXELS: dict[str, Any] = {  # measured from the upper left corner
    "x": alt.X("x:Q", scale=None, axis=None),
    "y": alt.Y("y:Q", scale=None, axis=None),
}


def select(runs: Runs) -> Frame | None:
    """The main runs, or all runs if none trains on its own text."""
    table = run_table(runs)
    main = main_runs(table)
    table = table if main.empty else main
    return None if table.empty else table


def draw(table: Frame) -> alt.LayerChart:
    """The loop as four boxes, with the settings of these runs; no scale, no axes."""
    boxes = {
        heading: [line for fact in facts for line in textwrap.wrap(fact, CHARS_A_LINE, break_on_hyphens=False)]
        for heading, facts in loop(table).items()
    }
    height = HEADING_PX + LINE_PX * max(map(len, boxes.values())) + 2 * PADDING
    lefts = [MARGIN + i * (BOX_WIDTH + BOX_GAP) for i in range(len(boxes))]
    width, top, below = lefts[-1] + BOX_WIDTH + MARGIN, 34, 34 + height + 26
    middle = top + height / 2
    # From the last box down, back to the left, and up into the first: the loop.
    first, last = lefts[0] + BOX_WIDTH / 2, lefts[-1] + BOX_WIDTH / 2
    ways: list[list[tuple[float, float]]] = [
        [(left + BOX_WIDTH, middle), (left + BOX_WIDTH + BOX_GAP - 7, middle)] for left in lefts[:-1]
    ]
    ways.append([(last, top + height), (last, below), (first, below), (first, top + height + 7)])
    many = f"{counted(len(table), 'run')}, {counted(table['seed'].nunique(), 'seed')}"
    words = [
        (MARGIN, 14.0, f"{_listed(table['model_label'])}, after t updates", "heading"),
        (width - MARGIN, 14.0, many, "right"),
        (width / 2, below + 14.0, f"next step, until {_end(table)}", "centre"),
    ]
    for (heading, lines), left in zip(boxes.items(), lefts, strict=True):
        words.append((left + PADDING, top + PADDING + 12.0, heading, "heading"))
        start = top + PADDING + HEADING_PX + 10.0
        words += [(left + PADDING, start + LINE_PX * i, line, "fact") for i, line in enumerate(lines)]
    rectangles = pd.DataFrame({"x": lefts, "y": top, "x2": [x + BOX_WIDTH for x in lefts], "y2": top + height})
    mark = alt.Chart(rectangles).mark_rect(fill=BOX_FILL, stroke=INK, strokeWidth=1.2, cornerRadius=6)
    layers = (mark.encode(**PIXELS, x2="x2:Q", y2="y2:Q"), *_arrows(ways), *_words(words))
    title = "The loop: a model is trained on the text it has just written"
    return themed(layered(*layers, width=width, height=below + 22, title=title), has_frame=False)


def caption(table: Frame) -> str:
    boxes = ". ".join(f"{heading.split('  ')[1]}: {'; '.join(facts)}" for heading, facts in loop(table).items())
    return f"One step of the loop in {runs_in_words(table)}. {boxes}. Then the next step begins."


def loop(table: Frame) -> dict[str, list[str]]:
    """The parts of one step of the loop with their settings, in the words of the figure."""
    texts = dict.fromkeys(text for data in table["data"] for text in split_at_commas(data))
    every, updates = _listed(table["eval.every"]), _listed(table["train.steps_per_sequence"])
    sources = [TRAINING_SOURCES[source] for source in dict.fromkeys(table["train.source"])]
    is_stream, window = (table["collapse.source"] == "stream").all(), _listed(table["collapse.window"])
    optimizer = " and ".join({"adamw": "AdamW", "sgd": "SGD"}[name] for name in dict.fromkeys(table["optim.name"]))
    return {
        "1  Evaluate": [
            f"loss on human text: {', '.join(texts)}",
            f"protocol {_listed(table['eval.protocol'])}",
            "at every step" if every == "1" else f"every {every} steps",
        ],
        "2  Write": _writing(table),
        "3  Read and judge": [
            f"training loss on {', '.join(sources)}",
            f"is the {'text' if is_stream else 'probe'} degenerate?",
            f"total collapse: the last {window} {'steps' if is_stream else 'probes'} are all degenerate",
        ],
        "4  Update": [
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


def _arrows(ways: Sequence[Sequence[tuple[float, float]]]) -> list[alt.Chart]:
    points = [{"way": i, "turn": k, "x": x, "y": y} for i, way in enumerate(ways) for k, (x, y) in enumerate(way)]
    heads = [{"x": way[-1][0], "y": way[-1][1], "angle": 90 if way[-1][1] == way[-2][1] else 0} for way in ways]
    lines = alt.Chart(pd.DataFrame(points)).mark_line(color=INK, strokeWidth=1.6)
    tips = alt.Chart(pd.DataFrame(heads)).mark_point(shape="triangle-up", filled=True, color=INK, size=90, opacity=1)
    return [
        lines.encode(detail="way:N", order="turn:Q", **PIXELS),
        tips.encode(angle=alt.Angle("angle:Q", scale=None), **PIXELS),
    ]


def _words(words: Sequence[tuple[float, float, str, str]]) -> list[alt.Chart]:
    frame = pd.DataFrame(words, columns=pd.Index(["x", "y", "words", "kind"]))
    looks: dict[str, dict[str, Any]] = {
        "heading": {"fontWeight": "bold", "fontSize": 13, "align": "left"},
        "fact": {"fontSize": 11.5, "align": "left"},
        "centre": {"fontSize": 12, "align": "center"},
        "right": {"fontSize": 12, "align": "right"},
    }
    return [
        alt.Chart(frame[frame["kind"] == kind]).mark_text(color="#111111", **look).encode(text="words:N", **PIXELS)
        for kind, look in looks.items()
    ]


FIGURE = Figure("Figure 1: the loop, with the settings of these runs", select, draw, caption, "no run has a step yet.")
