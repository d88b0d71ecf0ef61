"""Imports point downward, and what plans, draws or watches does not wait for torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "collapselab"

# From the bottom up; a module imports from its own layer and those below. A package stands for its modules.
_LAYERS = """
errors visible files records randomness interruptions ranks
config inputs metrics
testing
collapse engine rundir
step analysis
safeguards monitor
loop
runner report tracking
serve
sweep
cli
api __main__
"""
LAYERS = [line.split() for line in _LAYERS.strip().splitlines()]
# Imports upward, inside a function: none is allowed but these (importer, imported).
LAZY_UPWARD: set[tuple[str, str]] = set()

_TORCH_FREE = """
errors visible files records randomness interruptions ranks config inputs metrics collapse
rundir.layout rundir.claim rundir.lease
rundir.line_files rundir.record_writer rundir.run_files rundir.judged_again
rundir.environment rundir.machine rundir.progress rundir.frames rundir.migration rundir.parquet step.measure
monitor tracking analysis report
serve sweep.grid sweep.presets sweep.tiers sweep.estimate
sweep.resources sweep.schedule cli
"""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


# A package stands for its modules, except that the command line fetches some of its own when a command needs them.
TORCH_FREE = ["__init__", *(m for n in _TORCH_FREE.split() for m, _ in modules() if m == n or m.startswith(f"{n}."))]
TORCH_FREE = [module for module in TORCH_FREE if not module.startswith("cli.")]


def layer(module: str) -> int:
    """The layer of a module, by the longest listed name that contains it."""
    found = [i for i, names in enumerate(LAYERS) for name in names if module == name or module.startswith(f"{name}.")]
    assert found, f"{module} has no layer: add it to LAYERS"
    return found[0]


def imports(tree: ast.AST, *, inside_function: bool = False) -> Iterator[tuple[str, bool]]:
    """(module of this package, whether inside a function) of each import that runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "collapselab" else [module]
            yield from ((name, inside_function) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, inside_function) for alias in node.names)
        else:
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports(node, inside_function=inside_function or is_function)


def full_name(module: str) -> str:
    return "collapselab" if module == "__init__" else f"collapselab.{module}"


def upward(module: str, source: str) -> list[str]:
    """The imports of a module that point upward."""
    found: list[str] = []
    for name, is_lazy in imports(ast.parse(source)):
        imported = name.removeprefix("collapselab.")
        if not name.startswith("collapselab.") or (is_lazy and (module, imported) in LAZY_UPWARD):
            continue
        if layer(imported) > layer(module):
            found.append(imported)
    return found


@pytest.mark.parametrize(("module", "path"), [pair for pair in modules() if pair[0] != "__init__"])
def test_imports_point_downward(module: str, path: Path) -> None:
    assert upward(module, path.read_text(encoding="utf-8")) == [], f"{module} imports from a layer above its own"


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_the_package_does_not_need_the_repository(module: str, path: Path) -> None:
    """What is beside `src` is not shipped."""
    imported = {name.partition(".")[0] for name, _ in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert imported.isdisjoint({"benchmarks", "tools", "tests", "examples"}), module


def test_an_upward_import_is_found() -> None:
    assert upward("metrics.repetition", "from collapselab.loop import loop") == ["loop"]
    assert upward("config", "def f():\n    from collapselab import runner") == ["runner"]
    assert upward("config", "if TYPE_CHECKING:\n    from collapselab.loop import loop") == []
    assert upward("loop", "import collapselab.config.schema") == []


def test_every_listed_module_exists() -> None:
    known = {name for name, _ in modules()}
    assert [name for names in LAYERS for name in names if name not in known] == []


@pytest.fixture(scope="module")
def heavy_by_module() -> dict[str, list[str]]:
    """What heavy packages each torch-free module brings in. One process imports them all, in order, and says when."""
    names = [full_name(module) for module in TORCH_FREE]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    print(name, *sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {name: heavy for name, *heavy in rows}


def test_the_command_line_does_not_wait_for_pandas() -> None:
    program = "import sys, collapselab.cli; print({'pandas', 'scipy', 'lifelines', 'altair'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_free_modules_import_without_torch(module: str, heavy_by_module: dict[str, list[str]]) -> None:
    # Modules are imported in order: the first one named here is the culprit.
    name = full_name(module)
    assert heavy_by_module[name] == [], f"{name}, or a module listed before it, imports {heavy_by_module[name]}"


def test_no_module_needs_fcntl() -> None:
    """Imports run with `fcntl` taken away, as on Windows; file locks are filelock's."""
    names = [full_name(module) for module, _ in modules() if module.startswith(("rundir", "config", "runner", "cli"))]
    program = (
        f"import sys, importlib; sys.modules['fcntl'] = None\nfor name in {names!r}: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
