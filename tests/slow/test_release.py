"""What is released: the wheel and the source archive hold what is needed, and an installed wheel works elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, timeout=300)
    return folder


def sources() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "src/collapselab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return {path.removeprefix("src/") for path in listed.splitlines()}


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (path,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(path).namelist())
    assert sources() <= names
    assert {name.partition("/")[0] for name in names} - {"collapselab"} == {f"{path.name.rsplit('-', 3)[0]}.dist-info"}
    assert path.stat().st_size < 20e6


def test_the_source_archive_makes_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    assert path.stat().st_size < 20e6
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    (first,), (second,) = dist.glob("*.whl"), (tmp_path / "again").glob("*.whl")
    assert zipfile.ZipFile(first).namelist() == zipfile.ZipFile(second).namelist()


def bare(folder: Path, python: str = sys.executable) -> Path:
    """The Python of a new, empty environment."""
    subprocess.run([python, "-m", "venv", folder], check=True, timeout=300)
    return folder / "bin" / "python"


def pip_install(python: Path, *arguments: str | Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    command = [python, "-m", "pip", "install", *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def said(folder: Path, python: Path, *arguments: str) -> str:
    """What Python printed, started in a folder that is not the repository, without its settings."""
    done = subprocess.run(
        [python, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=900, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_it_runs(folder: Path, python: Path) -> None:
    """The installed package is the one that is imported, and the demo's first three steps give a page."""
    where = said(folder, python, "-c", "import collapselab; print(collapselab.__file__)").strip()
    assert Path(where).is_relative_to(python.parents[1]), where
    run, page = folder / "a", folder / "a.html"
    demo = ["run", "demo", "--stop.max_steps", "3", "--eval.full_every", "0", "--fresh", "--out", str(run)]
    for arguments in (["--version"], demo, ["report", str(run), "-o", str(page)]):
        said(folder, python, "-m", "collapselab", *arguments)
    assert json.loads((run / "summary.json").read_text())["last_step"] == 3
    assert page.stat().st_size > 1e5


def test_an_installed_wheel_runs(dist: Path, tmp_path: Path) -> None:
    """In an environment of its own, with the libraries of this one and without the repository."""
    python = bare(tmp_path / "env")
    (path,) = dist.glob("*.whl")
    pip_install(python, "--no-deps", "--no-index", path)
    (packages,) = (tmp_path / "env" / "lib").glob("*/site-packages")
    # Without the hooks of editable installs: only the folder is added to the path, after the environment's own.
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    check_it_runs(tmp_path, python)


def test_wheel_and_source_archive_run_in_a_bare_environment(dist: Path, tmp_path: Path) -> None:
    """With nothing but what pip brings: first torch, at the pinned version, as README says, then each archive."""
    python = bare(tmp_path / "env")
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    (torch,) = re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pip_install(python, torch.partition("+")[0])
    pip_install(python, wheel)
    check_it_runs(tmp_path, python)
    pip_install(python, "--no-deps", "--force-reinstall", archive)
    check_it_runs(tmp_path, python)
    size = sum(f.stat().st_size for f in (tmp_path / "env").rglob("*") if f.is_file() and not f.is_symlink())
    assert size < 2e9


def test_the_constraints_leave_room_for_the_trackers(dist: Path, tmp_path: Path) -> None:
    """They are resolved for the extra dev, which has all others except this one."""
    (wheel,) = dist.glob("*.whl")
    pip_install(bare(tmp_path / "env"), "--dry-run", f"{wheel}[track]")


def pythons() -> dict[str, str | None]:
    """Where each supported Python is on this machine, `None` where it is not."""
    found: dict[str, str | None] = {}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        found[version] = str(kept[-1]) if kept else shutil.which(f"python{version}")
    return found


@pytest.mark.parametrize(("version", "python"), pythons().items())
def test_the_light_install_audits(dist: Path, tmp_path: Path, version: str, python: str | None) -> None:
    """The commands of docs/how-to/install.md for who only audits, on each Python that is here."""
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    environment = bare(tmp_path / "env", python)
    (wheel,) = dist.glob("*.whl")
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"^pip install (numpy .*)$", page, re.MULTILINE)
    pip_install(environment, "--no-deps", wheel)
    pip_install(environment, *named.split())
    (tmp_path / "samples.jsonl").write_text(json.dumps({"completion": "it is so, " * 80}) + "\n")
    assert said(tmp_path, environment, "-c", "import collapselab; print(collapselab.__version__)").strip()
    for command in ("--help", "presets", "models", "metrics", "run demo --dry-run"):
        said(tmp_path, environment, "-m", "collapselab", *command.split())
    assert '"loop"' in said(tmp_path, environment, "-m", "collapselab", "audit", "samples.jsonl", "--json")
    size = sum(f.stat().st_size for f in (tmp_path / "env").rglob("*") if f.is_file() and not f.is_symlink())
    assert size < 400e6
