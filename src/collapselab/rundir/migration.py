"""Version 1 of the files of a run, in the names of this version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READ_VERSIONS = (1, 2)
_NAMES = {"stop": "ended_by", "outcome": "ended_by", "state": "fate", "loss_state": "loss_fate"}
_VALUES = {
    "ended_by": {"collapsed": "collapse", "diverged": "divergence"},
    "fate": {"collapsed": "onset"},
    "status": dict.fromkeys(("collapsed", "diverged", "budget"), "finished"),
}


def migrated(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file, or a line of records, with the names and words of this version.

    A line has no version of its own, and a resumed run of version 1 has lines of both: the names identify the version.
    """
    if content["schema"] != 1 if "schema" in content else "ended_by" in content:
        return dict(content)
    result = {_NAMES.get(name, name): value for name, value in content.items()}
    result |= {name: words.get(result[name], result[name]) for name, words in _VALUES.items() if _is_word(result, name)}
    return result | ({"schema": 2} if "schema" in content else {})


def _is_word(content: Mapping[str, Any], name: str) -> bool:
    return isinstance(content.get(name), str)
