"""Draws a run as a moving picture, an animated SVG: what the model writes, where it repeats itself, and its losses.

python tools/moving_picture.py                            # the demo's record: the picture in README
python tools/moving_picture.py runs/mine --out mine.svg   # any run on its own text

From step 0 to the last in ten seconds, then a pause, and again. Where animations are off, it shows the last step.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from collapselab.inputs.models import load_tokenizer
from collapselab.report.figures.barcode import BOUNDS, COLORS, EDGE_COLOR, repeat_lengths
from collapselab.report.values import short
from collapselab.rundir.frames import load_runs
from collapselab.visible import visible

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "builtin" / "demo"
PICTURE = RECORD / "moving-picture.svg"

MOVES_S, PAUSE_S, MAX_FRAMES = 10.0, 3.0, 31
WIDTH, HEIGHT = 960, 420
SANS, MONO = "Liberation Sans,Arial,Helvetica,sans-serif", "Liberation Mono,Menlo,Consolas,DejaVu Sans Mono,monospace"
TEXT_X, TEXT_Y, COLUMNS, CHAR, LINE, MAX_LINES = 20, 108, 64, 7.8, 19, 16  # CHAR and LINE in pixels
PLOT_X, PLOT_WIDTH = 580, 360
BARCODE_Y, BARCODE_HEIGHT = 76, 128
LOSS_Y, LOSS_HEIGHT = 248, 132
PLOT_END = LOSS_Y + LOSS_HEIGHT
OWN_COLOR, HUMAN_COLOR = "#111111", "#0072b2"
DARK = COLORS[2:4]  # marks on which the text is white


@dataclass(frozen=True)
class Step:
    """What the picture shows of a step: its sample, the repeated length at each token, losses, verdict."""

    step: int
    text: str
    ends: Sequence[int]
    lengths: Sequence[int]
    own_nats: float
    human_nats: float | None
    seq_rep_4: float
    is_degenerate: bool


@dataclass(frozen=True)
class Story:
    title: str
    human: str
    row: Mapping[str, Any]
    steps: Sequence[Step]

    def x(self, step: float) -> float:
        """Where a step begins in the plots; the last has a width too."""
        return PLOT_X + PLOT_WIDTH * step / (self.steps[-1].step + 1)

    def event(self, name: str) -> int | None:
        """The step of an event, `None` where it did not happen."""
        step = self.row.get(name)
        return None if step is None or step != step else int(step)


def read(folder: Path) -> Story:
    """The steps of a run that have a sample."""
    runs = load_runs(folder)
    row = runs.runs.iloc[0].to_dict()
    tokenizer = load_tokenizer(str(row["model"]))
    samples = runs.samples[(runs.samples["role"] == "train") & (runs.samples["index"] == 0)].set_index("step")
    steps: list[Step] = []
    for record in runs.steps.to_dict("records"):
        if record["step"] not in samples.index:
            continue
        ids = [int(token) for token in samples.loc[record["step"], "token_ids"]]
        text, ends = tokenizer.decode_with_ends(ids)
        assert text == samples.loc[record["step"], "text"], (
            f"the text of step {record['step']} is not that of its tokens"
        )
        lengths = [int(length) for length in repeat_lengths(ids)]
        human = record["val_nll_nats"]
        steps.append(
            Step(
                int(record["step"]), text, ends, lengths, float(record["train_nll_nats"]),
                None if human != human else float(human), float(record["seq_rep_4"]), bool(record["degenerate"]),
            )
        )  # fmt: skip
    title = f"{row['model']} learns from its own text, one update per sample, at learning rate {short(row['lr'])}"
    return Story(title, str(row["data"]).split(",")[0].strip(), row, steps)


def shade(length: int) -> int:
    """The index of a repeated length's colour, -1 below the shortest that is marked."""
    return sum(length >= bound for bound in BOUNDS) - 1


def lines(step: Step) -> Iterator[list[tuple[str, int]]]:
    """The lines of a sample at most COLUMNS wide, each a list of pieces with their shades. A line end is shown as ⏎."""
    shades: list[int] = []
    for end, length in zip(step.ends, step.lengths, strict=True):
        shades += [shade(length)] * (end - len(shades))
    rest = [
        (shown, mark)
        for char, mark in zip(step.text, shades, strict=True)
        for shown in ("⏎" if char == "\n" else visible(char))
    ]
    for count in range(1, MAX_LINES + 1):
        cut = first_line("".join(char for char, _ in rest))
        line, rest = rest[:cut], rest[cut:]
        if count == MAX_LINES and rest:
            line = [*line[: COLUMNS - 2], (" ", -1), ("…", -1)]
        if line:
            yield [
                ("".join(char for char, _ in piece), mark) for mark, piece in groupby(line, key=lambda pair: pair[1])
            ]


def first_line(text: str) -> int:
    """How many characters are on the first line: up to the end of line ends, or to the last blank that fits."""
    found = re.match(r"[^⏎]*⏎+", text[:COLUMNS])
    if found:
        return found.end()
    return len(text) if len(text) <= COLUMNS else text.rfind(" ", 1, COLUMNS) + 1 or COLUMNS


def sample(step: Step) -> str:
    """The text of a step; each line has a fixed width, so that the marks fit it in every font."""
    parts: list[str] = []
    for i, line in enumerate(lines(step)):
        y, column, spans = TEXT_Y + LINE * i, 0, ""
        for words, mark in line:
            shown = escape(words, quote=False)
            if mark >= 0:
                place = f'x="{TEXT_X + CHAR * column:.1f}" y="{y - 14}" width="{CHAR * len(words):.1f}"'
                parts.append(f'<rect {place} height="{LINE}" fill="{COLORS[mark]}"/>')
            spans += f'<tspan fill="#fff">{shown}</tspan>' if mark >= 0 and COLORS[mark] in DARK else shown
            column += len(words)
        parts.append(f'<text class="m" x="{TEXT_X}" y="{y}" textLength="{CHAR * column:.1f}">{spans}</text>')
    return "".join(parts)


def state(story: Story, step: Step) -> str:
    """The sentence above the text."""
    passed = [
        word
        for name, word in (("onset_step", "past onset"), ("total_collapse_step", "collapsed"))
        if (at := story.event(name)) is not None and step.step >= at
    ]
    verdict = f'<tspan fill="{EDGE_COLOR}" font-weight="bold"> · {passed[-1]}</tspan>' if passed else ""
    share = f"{100 * step.seq_rep_4:.0f} % of its 4-grams repeat earlier ones"
    return f'<text x="{TEXT_X}" y="78"><tspan font-weight="bold">step {step.step}</tspan> · {share}{verdict}</text>'


def barcode(story: Story) -> str:
    """Steps across, tokens downward, coloured where they repeat; below, the steps judged degenerate."""
    tall = max(len(step.lengths) for step in story.steps)
    paths: list[list[str]] = [[] for _ in COLORS]
    edge: list[str] = []
    for step, following in zip(story.steps, [*story.steps[1:], None], strict=True):
        x, end = story.x(step.step), story.x(following.step if following else step.step + 1)
        at = 0
        for mark, run in groupby(step.lengths, key=shade):
            count = len(list(run))
            if mark >= 0:
                y, height = BARCODE_Y + BARCODE_HEIGHT * at / tall, BARCODE_HEIGHT * count / tall
                paths[mark].append(f"M{x:.1f} {y:.1f}h{end - x:.1f}v{height:.1f}h{x - end:.1f}z")
            at += count
        if step.is_degenerate:
            edge.append(f"M{x:.1f} {BARCODE_Y + BARCODE_HEIGHT + 3}h{end - x:.1f}v5h{x - end:.1f}z")
    drawn = [*zip(paths, COLORS, strict=True), (edge, EDGE_COLOR)]
    ground = f'<rect x="{PLOT_X}" y="{BARCODE_Y}" width="{PLOT_WIDTH}" height="{BARCODE_HEIGHT}" fill="#f3f3f3"/>'
    return ground + "".join(f'<path fill="{color}" d="{"".join(path)}"/>' for path, color in drawn if path)


def losses(story: Story) -> str:
    """Both losses against step, with their names at their beginnings."""
    known = [(step.step, step.human_nats) for step in story.steps if step.human_nats is not None]
    own = [(step.step, step.own_nats) for step in story.steps]
    top = max(value for _, value in [*known, *own]) * 1.25

    def y(value: float) -> float:
        return LOSS_Y + LOSS_HEIGHT * (1 - value / top)

    parts: list[str] = []
    for tick in range(int(top) + 1):
        parts.append(f'<path stroke="#ddd" d="M{PLOT_X} {y(tick):.1f}h{PLOT_WIDTH}"/>')
        parts.append(small(PLOT_X - 6, y(tick) + 4, str(tick), " e"))
    for points, color, name, shift in (
        (own, OWN_COLOR, "its own text", 34),
        (known, HUMAN_COLOR, f"human text ({story.human})", -9),
    ):
        places = " ".join(f"{story.x(step + 0.5):.1f},{y(value):.1f}" for step, value in points)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{places}"/>')
        if points:
            parts.append(f'<g fill="{color}">{small(PLOT_X + 6, y(points[0][1]) + shift, name)}</g>')
    return "".join(parts)


def small(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text class="s{kind}" x="{x:.1f}" y="{y:.1f}">{escape(visible(words), quote=False)}</text>'


def events(story: Story) -> str:
    """A dashed line at onset and at total collapse, with their names and steps below."""
    parts: list[str] = []
    for name, words in (("onset_step", "onset"), ("total_collapse_step", "total collapse")):
        step = story.event(name)
        if step is not None:
            x = story.x(step)
            parts.append(f'<path stroke="#777" stroke-dasharray="4 3" d="M{x:.1f} {BARCODE_Y}V{PLOT_END}"/>')
            parts.append(small(x, PLOT_END + 18, f"{words}, {step}", " c"))
    return "".join(parts)


def captions() -> str:
    """What the plots and the colours are: never covered."""
    parts = [
        small(PLOT_X, BARCODE_Y - 8, "each sample a column, coloured where it repeats itself"),
        small(PLOT_X, LOSS_Y - 8, "loss, nats per token"),
        small(PLOT_X, PLOT_END + 18, "step 0"),
    ]
    x = TEXT_X
    for words, color in zip(("4 to 7", "8 to 15", "16 to 31", "32 or more tokens"), COLORS, strict=False):
        parts.append(f'<rect x="{x}" y="{PLOT_END + 8}" width="12" height="12" fill="{color}"/>')
        parts.append(small(x + 17, PLOT_END + 18, words))
        x += 30 + 7 * len(words)
    parts.append(f'<rect x="{x}" y="{PLOT_END + 12}" width="12" height="5" fill="{EDGE_COLOR}"/>')
    return "".join([*parts, small(x + 17, PLOT_END + 18, "judged degenerate")])


def cover(story: Story, step: Step) -> str:
    """Hides what comes after a step, and a line at it."""
    x = story.x(step.step + 1)
    width, height = WIDTH - x, PLOT_END - BARCODE_Y + 22
    hidden = f'<rect x="{x:.1f}" y="{BARCODE_Y - 1}" width="{width:.1f}" height="{height}" fill="#fff"/>'
    return f'{hidden}<path stroke="{EDGE_COLOR}" stroke-width="1.5" d="M{x:.1f} {BARCODE_Y}V{PLOT_END}"/>'


def frames(story: Story) -> Sequence[Step]:
    """Evenly spaced steps, the last among them."""
    count = min(MAX_FRAMES, len(story.steps))
    return [story.steps[round(i * (len(story.steps) - 1) / max(1, count - 1))] for i in range(count)]


def picture(story: Story) -> str:
    """The animated SVG."""
    shown, whole = frames(story), MOVES_S + PAUSE_S
    rules: list[str] = []
    groups: list[str] = []
    for i, step in enumerate(shown):
        is_last = i == len(shown) - 1
        begin, end = (100 * MOVES_S * place / max(1, len(shown) - 1) / whole for place in (i, i + 1))
        before, after = (
            "" if i == 0 else "0%{visibility:hidden}",
            "" if is_last else f"{end:.2f}%,to{{visibility:hidden}}",
        )
        rules.append(f"@keyframes f{i}{{{before}{begin:.2f}%{{visibility:visible}}{after}}}")
        style = f'style="animation-name:f{i}"' + ("" if is_last else ' visibility="hidden"')
        groups.append(f'<g class="f" {style}>{state(story, step)}{sample(step)}{cover(story, step)}</g>')
    title = escape(visible(story.title), quote=False)
    style = (
        f"text{{font:14px {SANS};fill:#111}}.t{{font-size:18px;font-weight:bold}}.m{{font:13px {MONO};white-space:pre}}"
        ".s{font-size:12px;fill:#444}g[fill]>.s{fill:inherit}.e{text-anchor:end}.c{text-anchor:middle}"
        f".f{{animation:{whole:g}s step-end infinite}}@media(prefers-reduced-motion:reduce){{.f{{animation:none}}}}"
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{title}</title>',
            f'<style>{style}{"".join(rules)}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<text class="t" x="{TEXT_X}" y="34">{title}</text>',
            barcode(story), losses(story), events(story), *groups, captions(), "</svg>\n",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", nargs="?", type=Path, default=RECORD, help="a run directory with the samples of its steps"
    )
    parser.add_argument("--out", type=Path, help="the picture; without it, moving-picture.svg in the run directory")
    options = parser.parse_args()
    drawn, out = read(options.run), options.out or options.run / PICTURE.name
    if not drawn.steps:
        parser.error(f"{options.run} has no training samples to show")
    out.write_text(picture(drawn), encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")
