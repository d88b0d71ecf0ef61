"""What a run needs of its machine, and where that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NAMELESS = """
import pwd, sys

def unknown(number):
    raise KeyError(number)

pwd.getpwuid = unknown
from collapselab.cli import main
main(sys.argv[1:])
"""


def test_a_user_without_a_name_and_without_a_home_can_run(tiny_folder: Path, text_file: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    settings = ["--model", str(tiny_folder), "--data", str(text_file), "--stop.max_steps", "1", "--engine", "plain"]
    settings += ["--eval.protocol", "windows[20,5]", "--eval.full_every", "0", "--threads", "1"]
    settings += ["--generate.max_new_tokens", "100"]
    command = [sys.executable, "-c", NAMELESS, "run", "demo", *settings, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "loss.svg").exists()
    assert list((tmp_path / "tmp").glob("collapselab-home-*")) == []
