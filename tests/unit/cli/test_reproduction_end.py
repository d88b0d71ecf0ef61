"""The last words of a reproduction: the picture of freeze and drift side by side, and what is seen in it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collapselab.cli import reproducing
from synthetic_runs import judged_run, make_config


def test_a_reproduction_ends_with_the_picture_of_freeze_and_drift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for temperature, onset in ((0.8, 10.0), (1.0, math.inf)):
        config = make_config(sampling__temperature=temperature, sampling__top_k=None)
        judged_run(tmp_path / "runs" / f"{temperature:g}", config, onset)
    picture = tmp_path / "figures" / "barcodes.png"

    def drawn(*_: object) -> None:
        picture.parent.mkdir()
        picture.touch()

    tasks: Any = [SimpleNamespace(path=path) for path in sorted((tmp_path / "runs").iterdir())]
    monkeypatch.setattr(reproducing, "write_report", lambda *_: None)
    monkeypatch.setattr(reproducing, "_print_verdicts", lambda _: None)
    reproducing._write(tasks, tmp_path, "A title")  # pyright: ignore[reportPrivateUsage]
    assert "picture" not in capsys.readouterr().err, "no path of a picture that was not drawn"

    monkeypatch.setattr(reproducing, "write_report", drawn)
    reproducing._write(tasks, tmp_path, "A title")  # pyright: ignore[reportPrivateUsage]
    words = " ".join(capsys.readouterr().err.split())
    last = words[words.index("picture:") :]
    assert last.startswith(f"picture: {picture} (freeze: temperature 0.8, onset at step 8, entropy ")
    assert "; drift: pure sampling (temperature 1), no onset in 30 steps, entropy " in last
