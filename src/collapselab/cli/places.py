"""Where a command will write is looked at before it computes anything."""

from __future__ import annotations

import os
from pathlib import Path

from collapselab.errors import InputError


def check_folder(folder: Path, option: str) -> None:
    """Refuses a folder that cannot be made or written into."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{option}: {there} is not a folder", f"choose another place with {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{option}: {there} cannot be written to", f"choose another place with {option}")
