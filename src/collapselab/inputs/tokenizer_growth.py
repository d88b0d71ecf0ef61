"""How much longer a tokenizer can make a text, from its parts alone: a hostile one turns a sentence into gigabytes."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any, cast

import tokenizers

from collapselab.errors import InputError

MAX_GROWTH = 1000  # a text may become this many times longer; known tokenizers stay below 40


def check_growth(backend: tokenizers.Tokenizer, origin: str) -> None:
    """Refuses a tokenizer that can make a text thousands of times longer, for example by doubling a letter forty times.

    Raises:
        InputError: encoding or decoding may grow a text beyond `MAX_GROWTH`.
    """
    encoding = _growth(backend.normalizer) * _growth(backend.pre_tokenizer)
    growth = max(encoding, _growth(backend.decoder))
    if growth > MAX_GROWTH:
        raise InputError(
            f"{origin}: this tokenizer can make a text {growth:.0e} times longer; the limit is {MAX_GROWTH}",
            "check that its file is complete and from a source you trust",
        )


def _growth(part: Any) -> float:
    """The largest factor by which a part of a tokenizer can increase the bytes of a text."""
    return 1.0 if part is None else _growth_of(json.loads(part.__getstate__()))


def _growth_of(part: Any) -> float:
    if isinstance(part, list):
        return math.prod(_growth_of(step) for step in cast(list[Any], part))
    if not isinstance(part, dict):
        return 1.0
    step = cast(dict[str, Any], part)
    match step.get("type"):
        case "Replace":
            content, pattern = len(step["content"].encode()), step["pattern"].get("String")
            return max(1.0, content / len(pattern.encode())) if pattern else 1.0 + content
        case "Precompiled":
            # The size of a trie, the trie, then the replacements, each ending with a zero byte.
            charsmap = base64.b64decode(step["precompiled_charsmap"])
            (size,) = struct.unpack_from("<I", charsmap)
            return float(max(1, *map(len, charsmap[4 + size :].split(b"\0"))))
        case "ByteLevel":
            return 2.0  # a byte of a character that is not ASCII becomes a character of two bytes
        case _:
            return _growth_of(list(step.values()))
