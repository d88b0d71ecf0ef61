"""What happens to a language model that is trained on its own output, how soon, and what prevents it.

import collapselab

result = collapselab.run("demo", lr=1e-4)
collapselab.figure(result.path)
frames = collapselab.load_runs(result.path)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collapselab.api import figure, run
    from collapselab.config import presets
    from collapselab.config.overrides import override
    from collapselab.config.schema import RunConfig
    from collapselab.errors import InputError
    from collapselab.inputs.models import load_model
    from collapselab.inputs.texts import load_text
    from collapselab.loop import online_loop
    from collapselab.monitor.monitor import CollapseMonitor
    from collapselab.rundir.frames import Runs, load_runs
    from collapselab.step.parts import build

__version__ = version("collapselab")
__all__ = [
    "CollapseMonitor",
    "InputError",
    "RunConfig",
    "Runs",
    "__version__",
    "build",
    "figure",
    "load_model",
    "load_runs",
    "load_text",
    "online_loop",
    "override",
    "presets",
    "run",
]

_HOME = {
    "CollapseMonitor": "monitor.monitor",
    "InputError": "errors",
    "RunConfig": "config.schema",
    "Runs": "rundir.frames",
    "build": "step.parts",
    "figure": "api",
    "load_model": "inputs.models",
    "load_runs": "rundir.frames",
    "load_text": "inputs.texts",
    "online_loop": "loop",
    "override": "config.overrides",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: each name is fetched when it is first asked for.
    if name == "presets":
        return import_module("collapselab.config.presets")
    if name not in _HOME:
        raise AttributeError(f"module 'collapselab' has no attribute {name!r}")
    value = getattr(import_module(f"collapselab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
