"""What the process imports from which the runs of `local.py` are forked; its objects are never garbage."""

import gc

gc.disable()
import collapselab.runner  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]

gc.freeze()
gc.enable()
