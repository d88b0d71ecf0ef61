"""Figure 1: the loop, drawn with the settings that the runs had."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.words import TRAINING_SOURCES
from collapselab.config.schema import split_at_commas
from collapselab.report.theme import layered, short, themed

BOX_WIDTH, BOX_GAP, MARGIN = 168, 26, 4
LINE_PX, HEADING_PX, PADDING = 15, 22, 8
CHARS_A_LINE = 27
MAX_VALUES = 4  # of a setting that varies, beyond it first and last
INK, BOX_FILL = "#333333", "#f2f5f9"


@dataclass(frozen=True)
class Box:
    """One part of the loop: what happens, and with which settings."""

    heading: str
    facts: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        return [line for fact in self.facts for line in textwrap.wrap(fact, CHARS_A_LINE, break_on_hyphens=False)]


def schema(table: Frame) -> alt.LayerChart:
    """The loop as four boxes, with the settings of these runs (rows of `groups.run_table`); no scale, no axes."""
    boxes = loop(table)
    height = HEADING_PX + LINE_PX * max(len(box.lines) for box in boxes) + 2 * PADDING
    lefts = [MARGIN + i * (BOX_WIDTH + BOX_GAP) for i in range(len(boxes))]
    width, top, below = lefts[-1] + BOX_WIDTH + MARGIN, 34, 34 + height + 26
    middle = top + height / 2
    # From the last box down, back to the left, and up into the first: the loop.
    first, last = lefts[0] + BOX_WIDTH / 2, lefts[-1] + BOX_WIDTH / 2
    ways: list[list[tuple[float, float]]] = [
        [(left + BOX_WIDTH, middle), (left + BOX_WIDTH + BOX_GAP - 7, middle)] for left in lefts[:-1]
    ]
    ways.append([(last, top + height), (last, below), (first, below), (first, top + height + 7)])
    words = [
        (MARGIN, 14.0, f"{_listed(table['model_label'])}, after t updates", "heading"),
        (width - MARGIN, 14.0, _how_many(table), "right"),
        (width / 2, below + 14.0, f"next step, until {_end(table)}", "centre"),
    ]
    for box, left in zip(boxes, lefts, strict=True):
        words.append((left + PADDING, top + PADDING + 12.0, box.heading, "heading"))
        lines = enumerate(box.lines)
        words += [(left + PADDING, top + PADDING + HEADING_PX + LINE_PX * i + 10.0, line, "fact") for i, line in lines]
    rectangles = pd.DataFrame({"x": lefts, "y": top, "x2": [x + BOX_WIDTH for x in lefts], "y2": top + height})
    size = (width, below + 22)
    layers = (_boxes(rectangles, size), *_arrows(ways, size), *_words(words, size))
    title = "The loop: a model is trained on the text it has just written"
    return themed(layered(*layers, width=size[0], height=size[1], title=title), has_frame=False)


def loop(table: Frame) -> tuple[Box, ...]:
    """What happens in one turn of the loop, in the words of the figure."""
    return (_evaluate(table), _write(table), _judge(table), _update(table))


def _evaluate(table: Frame) -> Box:
    texts = list(dict.fromkeys(text for data in table["data"] for text in split_at_commas(data)))
    every = _listed(table["eval.every"])
    return Box(
        "1  Evaluate",
        (
            f"loss on human text: {', '.join(texts)}",
            f"protocol {_listed(table['eval.protocol'])}",
            "at every step" if every == "1" else f"every {every} steps",
        ),
    )


def _write(table: Frame) -> Box:
    prompt = "the end-of-text token" if (table["generate.prompt"] == "").all() else _listed(table["generate.prompt"])
    if (table["generate.prompt_tokens"] > 0).any():
        prompt = f"{_listed(table['generate.prompt_tokens'])} tokens of real text"
    sequences = _listed(table["generate.batch_size"])
    greedy = table["sampling.greedy"].astype(bool)
    rules = [f"temperature {_listed(table['sampling.temperature'])}"]
    rules += [
        f"{name.replace('_', '-')} {_listed(table[f'sampling.{name}'])}"
        for name in ("top_k", "top_p", "min_p")
        if table[f"sampling.{name}"].notna().any()
    ]
    return Box(
        "2  Write",
        (
            f"{_listed(table['generate.max_new_tokens'])} tokens after {prompt}",
            *([] if sequences == "1" else [f"{sequences} sequences a step"]),
            "the likeliest token each time" if greedy.all() else ", ".join(rules),
        ),
    )


def _judge(table: Frame) -> Box:
    sources = [TRAINING_SOURCES[source] for source in dict.fromkeys(table["train.source"])]
    is_stream, window = (table["collapse.source"] == "stream").all(), _listed(table["collapse.window"])
    return Box(
        "3  Read and judge",
        (
            f"training loss on {', '.join(sources)}",
            f"is the {'text' if is_stream else 'probe'} degenerate?",
            f"total collapse: the last {window} {'steps' if is_stream else 'probes'} all are",
        ),
    )


def _update(table: Frame) -> Box:
    optimizer = " and ".join({"adamw": "AdamW", "sgd": "SGD"}[name] for name in dict.fromkeys(table["optim.name"]))
    updates = _listed(table["train.steps_per_sequence"])
    return Box(
        "4  Update",
        (
            f"one {optimizer} step" if updates == "1" else f"{updates} {optimizer} steps",
            f"learning rate {_listed(table['lr'])}",
            f"weight decay {_listed(table['optim.weight_decay'])}, gradient clipped at {_listed(table['optim.clip'])}",
        ),
    )


def _end(table: Frame) -> str:
    ends = ["total collapse"] if table["stop.on_collapse"].astype(bool).any() else []
    return " or ".join([*ends, f"step {_listed(table['stop.max_steps'])}"])


def _how_many(table: Frame) -> str:
    runs, seeds = len(table), table["seed"].nunique()
    return f"{runs} run{'s' * (runs != 1)}, {seeds} seed{'s' * (seeds != 1)}"


def _listed(values: Any) -> str:
    """The values that occur, in order of size where they have one; only the ends of many."""
    known = [value for value in dict.fromkeys(values.tolist()) if not pd.isna(value)]
    ordered = sorted(known) if all(isinstance(value, (int, float)) for value in known) else known
    words = [short(value) if isinstance(value, (int, float)) else str(value) for value in ordered]
    if len(words) > MAX_VALUES:
        return f"{words[0]} … {words[-1]}"
    return ", ".join(words) or "none"


def _place(size: tuple[float, float], *names: str) -> dict[str, Any]:
    """Pixels as coordinates, from the upper left corner."""
    scales = {"x": alt.Scale(domain=[0, size[0]], nice=False), "y": alt.Scale(domain=[size[1], 0], nice=False)}
    channels = {"x": alt.X, "y": alt.Y}
    placed: dict[str, Any] = {name: channels[name](f"{name}:Q", scale=scales[name], axis=None) for name in ("x", "y")}
    return placed | {name: f"{name}:Q" for name in names}


def _boxes(rectangles: pd.DataFrame, size: tuple[float, float]) -> alt.Chart:
    mark = alt.Chart(rectangles).mark_rect(fill=BOX_FILL, stroke=INK, strokeWidth=1.2, cornerRadius=6)
    return mark.encode(**_place(size, "x2", "y2"))


def _arrows(ways: Sequence[Sequence[tuple[float, float]]], size: tuple[float, float]) -> list[alt.Chart]:
    points = [{"way": i, "turn": k, "x": x, "y": y} for i, way in enumerate(ways) for k, (x, y) in enumerate(way)]
    heads = [{"x": way[-1][0], "y": way[-1][1], "angle": 90 if way[-1][1] == way[-2][1] else 0} for way in ways]
    lines = alt.Chart(pd.DataFrame(points)).mark_line(color=INK, strokeWidth=1.6)
    tips = alt.Chart(pd.DataFrame(heads)).mark_point(shape="triangle-up", filled=True, color=INK, size=90, opacity=1)
    angle = alt.Angle("angle:Q", scale=alt.Scale(domain=[0, 360], range=[0, 360]))
    return [
        lines.encode(detail="way:N", order="turn:Q", **_place(size)),
        tips.encode(angle=angle, **_place(size)),
    ]


def _words(words: Sequence[tuple[float, float, str, str]], size: tuple[float, float]) -> list[alt.Chart]:
    frame = pd.DataFrame(words, columns=pd.Index(["x", "y", "words", "kind"]))
    looks: dict[str, dict[str, Any]] = {
        "heading": {"fontWeight": "bold", "fontSize": 13, "align": "left"},
        "fact": {"fontSize": 11.5, "align": "left"},
        "centre": {"fontSize": 12, "align": "center"},
        "right": {"fontSize": 12, "align": "right"},
    }
    return [
        alt.Chart(frame[frame["kind"] == kind])
        .mark_text(color="#111111", **look)
        .encode(text="words:N", **_place(size))
        for kind, look in looks.items()
    ]
