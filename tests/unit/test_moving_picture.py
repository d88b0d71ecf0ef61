"""README's moving picture is what its command draws from the record, and says what the record says."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from collapselab.rundir.frames import load_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("moving_picture", ROOT / "tools" / "moving_picture.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def test_the_picture_is_current_and_small(tool: ModuleType) -> None:
    written = tool.PICTURE.read_text(encoding="utf-8")
    assert written == tool.picture(tool.read(tool.RECORD)), "run: python tools/moving_picture.py"
    assert len(written.encode()) < 1e6
    ElementTree.fromstring(written)


def test_each_frame_has_the_text_of_its_step(tool: ModuleType) -> None:
    """White space apart, since lines are broken at blanks."""
    samples = load_runs(tool.RECORD).samples
    texts = samples[samples["role"] == "train"].set_index("step")["text"]
    frames = re.findall(r'<g class="f".*?</g>', tool.PICTURE.read_text(encoding="utf-8"))
    assert len(frames) == tool.MAX_FRAMES
    for frame in frames:
        step = int(re.search(r">step (\d+)<", frame)[1])  # type: ignore[index]
        shown = "".join(re.findall(r'<text class="m"[^>]*>(.*?)</text>', frame))
        shown = unescape(re.sub(r"<[^>]+>", "", shown)).replace("⏎", "")
        assert "".join(shown.split()) == "".join(texts[step].split()), step
    assert "step 0<" in frames[0]
    assert "step 119<" in frames[-1]


def test_the_title_has_the_rate_as_it_is(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """3.2e-4, the rate of the sweeps of safeguards, was 3e-4."""
    runs = load_runs(tool.RECORD)
    monkeypatch.setattr(tool, "load_runs", lambda _="": replace(runs, runs=runs.runs.assign(lr=3.2e-4)))
    assert tool.read(tool.RECORD).title.endswith("at learning rate 3.2e-4")


def test_marks_are_those_of_the_barcode(tool: ModuleType) -> None:
    """By hand: the second `x y z w` repeats the first."""
    step = tool.Step(0, "x y z w x y z w", [1, 3, 5, 7, 9, 11, 13, 15], [0, 0, 0, 0, 4, 4, 4, 4], 1.0, None, 0.2, False)
    assert list(tool.lines(step)) == [[("x y z w", -1), (" x y z w", 0)]]


@pytest.mark.parametrize(
    ("text", "length"), [("a b", 3), ("a⏎⏎b", 3), ("a" * 70, 64), ("a" * 60 + " bcdef", 61), ("", 0)]
)
def test_lines_end_at_line_ends_or_blanks(tool: ModuleType, text: str, length: int) -> None:
    assert tool.first_line(text) == length
