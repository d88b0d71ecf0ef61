"""What is released: the wheel and the source archive hold what is needed, and an installed wheel works elsewhere."""

from __future__ import annotations

import json
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


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


def test_an_installed_wheel_runs(dist: Path, tmp_path: Path) -> None:
    """In an environment of its own, with the libraries of this one and without the repository."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    (path,) = dist.glob("*.whl")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", path]
    subprocess.run(install, check=True, timeout=300)
    (packages,) = (tmp_path / "env" / "lib").glob("*/site-packages")
    # Without the hooks of editable installs: only the folder is added to the path, after the environment's own.
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    where = "import collapselab; print(collapselab.__file__)"
    said = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()).is_relative_to(packages)
    quick = ["run", "demo", "--model", "builtin:pico", "--stop.max_steps", "1", "--eval.full_every", "0", "--out", "a"]
    for arguments in (["--version"], quick, ["report", "a", "-o", "a.html"]):
        command = [python, "-m", "collapselab", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["last_step"] == 1
    assert (tmp_path / "a.html").stat().st_size > 1e5
