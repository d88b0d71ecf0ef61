"""What happens to a language model that is trained on its own output, how soon, and what prevents it.

from collapselab import load_runs, presets, run

run(presets.demo(), out="runs/demo")
frames = load_runs("runs/demo")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collapselab import presets
    from collapselab.config import RunConfig
    from collapselab.data import load_text
    from collapselab.errors import InputError
    from collapselab.frames import Runs, load_runs
    from collapselab.loop import online_loop
    from collapselab.models import load_model
    from collapselab.overrides import override
    from collapselab.runner import run
    from collapselab.setup import build

__version__ = version("collapselab")
__all__ = [
    "InputError",
    "RunConfig",
    "Runs",
    "__version__",
    "build",
    "load_model",
    "load_runs",
    "load_text",
    "online_loop",
    "override",
    "presets",
    "run",
]

_HOME = {
    "InputError": "errors",
    "RunConfig": "config",
    "Runs": "frames",
    "build": "setup",
    "load_model": "models",
    "load_runs": "frames",
    "load_text": "data",
    "online_loop": "loop",
    "override": "overrides",
    "run": "runner",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: each name is fetched when it is first asked for.
    if name == "presets":
        return import_module("collapselab.presets")
    if name not in _HOME:
        raise AttributeError(f"module 'collapselab' has no attribute {name!r}")
    value = getattr(import_module(f"collapselab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
