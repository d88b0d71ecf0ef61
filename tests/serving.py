"""`collapselab serve` as a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def started(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """The server and its address."""
    command = [sys.executable, "-m", "collapselab", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"http://\S+", said):
            return process, found[0]
    raise AssertionError(said)
