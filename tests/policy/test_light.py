"""Who only audits text needs no torch and no plotting: a small install is enough, and what is missing is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# All of these are left out by the light install of docs/how-to/install.md.
HEAVY = (
    "torch", "transformers", "safetensors", "pandas", "lifelines", "altair", "vl_convert", "huggingface_hub",
    "matplotlib", "pyarrow", "rensa", "zstandard",
)  # fmt: skip
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from collapselab.cli import main
main(sys.argv[1:])
"""


def without_heavy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT % (HEAVY,), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    "command",
    [
        "audit samples.jsonl --json --report page.html",
        "presets",
        "models",
        "metrics",
        "run demo --dry-run",
    ],
)
def test_auditing_and_planning_need_nothing_heavy(tmp_path: Path, command: str) -> None:
    text = "it is so, " * 80
    (tmp_path / "samples.jsonl").write_text(json.dumps({"completion": text}) + "\n")
    done = without_heavy(tmp_path, *command.split())
    assert done.returncode == 0, done.stderr
    if command.startswith("audit"):
        assert '"loop"' in done.stdout
        assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("command", "package"), [("run demo", "torch"), ("report .", "pandas")])
def test_what_is_missing_is_named(tmp_path: Path, command: str, package: str) -> None:
    done = without_heavy(tmp_path, *command.split())
    assert done.returncode == 1
    assert f"the package {package} is not installed" in done.stderr
    assert f"hint: pip install {package}" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_an_audit_lacks_is_asked_for_alone(tmp_path: Path) -> None:
    """An extra of the package would bring torch into a light install."""
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    (tmp_path / "rows.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    for name, package in (("rows.parquet", "pyarrow"), ("rows.jsonl.zst", "zstandard")):
        assert f"hint: pip install {package}\n" in without_heavy(tmp_path, "audit", name).stderr
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert "(pip install rensa)" in without_heavy(tmp_path, "audit", "rows.jsonl").stdout
