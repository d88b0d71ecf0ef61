"""Where a record holds the text that a model generated: usual fields, messages, servers' answers, or a named field."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

Content = str | list[int]

# The names of TRL, OpenAI, ShareGPT, vLLM, lm-eval and of most people's files; the first that holds a text counts.
TEXT_FIELDS = (
    "token_ids",
    "text",
    "completion",
    "response",
    "output",
    "generated_text",
    "answer",
    "messages",
    "conversations",
    "completions",
    "outputs",
    "responses",
    "choices",
    "resps",
    "filtered_resps",
    "generation",
    "generations",
    "prediction",
    "content",
)
_ASSISTANT = ("assistant", "gpt", "model")  # the names used by OpenAI and TRL, ShareGPT, and Gemini
# Where a server's answer or a message holds its text.
_INSIDE = ("content", "value", "text", "message", "body", "choices", "generated_text", "output")
_MAX_DEPTH = 8


def find_texts(record: object, field: str | None = None, *, ids_too: bool = True) -> list[tuple[str, Content]]:
    """(path, text or token ids) of each generated text of a record; several where it holds several answers.

    Of messages it is the assistant's last turn with a text. Empty: there is none.

    Args:
        record: a JSON value; a string is a text itself, a list of whole numbers are token ids.
        field: a path such as `a.b[0].c`, with `[]` for all items; default: the first of `TEXT_FIELDS` with a text.
        ids_too: token ids count as a text.
    """
    if field is not None:
        found = [(name, value) for name, value in values_at(record, field) if value is not None]
        return [pair for name, value in found for pair in _texts(name, value, ids_too=ids_too)]
    if isinstance(record, str) or (ids_too and is_token_ids(record)):
        return [("", cast(Content, record))]
    if isinstance(record, list):  # a record that is a list of messages
        return list(_texts("", cast(list[Any], record)))
    if not isinstance(record, Mapping):
        return []
    fields = cast(Mapping[str, Any], record)
    lowered = {str(name).lower(): value for name, value in fields.items()}
    return _first_field(fields, ids_too) or _first_field(lowered, ids_too)


def _first_field(fields: Mapping[str, Any], ids_too: bool) -> list[tuple[str, Content]]:
    for name in TEXT_FIELDS:
        if fields.get(name) is not None:
            found = list(_texts(name, fields[name], ids_too=ids_too and name == "token_ids"))
            if found:
                return found
    return []


def why_none(record: object, field: str | None = None) -> str:
    """The reason why `find_texts` finds nothing."""
    if not isinstance(record, Mapping):
        return f"is no object with a text, received {reprlib.repr(record)}"
    names = ", ".join(map(str, cast(Mapping[str, Any], record))) or "none"
    names = names if len(names) < 200 else names[:200] + " …"
    sought = "no generated text in a known field" if field is None else f"no text or token ids at {field!r}"
    return f"has {sought} (its fields: {names})"


def values_at(record: object, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of each place that a path of names and numbers leads to: `a.b[0].c`, `a.b.0.c`, `a[].c`.

    A field whose whole name is the path goes first.
    """
    if isinstance(record, Mapping) and path in record:
        yield path, cast(Mapping[str, Any], record)[path]
        return
    parts = [part for part in re.split(r"\.|(\[\d*\])", path) if part]
    yield from ((path, value) for value in _follow(record, parts))


def is_token_ids(value: object) -> bool:
    """Whether a value is a list of whole numbers from 0 to 2^32 - 1."""
    if not isinstance(value, list) or not value:
        return False
    # bool is an int in Python, but not a token.
    return all(type(token) is int and 0 <= token < 2**32 for token in cast(list[Any], value))


def last_turn(messages: Sequence[Any]) -> str | None:
    """The text of the assistant's last message that has one (a tool call has none)."""
    for message in reversed(messages):
        turn = cast(Mapping[str, Any], message if isinstance(message, Mapping) else {})
        content = message_text(turn)
        if turn.get("role", turn.get("from")) in _ASSISTANT and content:
            return content
    return None


def message_text(turn: Mapping[str, Any]) -> str | None:
    """The text of one message; of a list of parts, the texts among them."""
    content: Any = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        mappings = [cast(Mapping[str, Any], part) for part in cast(list[Any], content) if isinstance(part, Mapping)]
        parts = [part.get("text") for part in mappings]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def is_messages(value: object) -> bool:
    """Whether a value is a list of messages: at least one names who speaks."""
    return isinstance(value, list) and any(
        isinstance(item, Mapping) and ("role" in item or "from" in item) for item in cast(list[Any], value)
    )


def _texts(path: str, value: Any, *, ids_too: bool = False, depth: int = 0) -> Iterator[tuple[str, Content]]:
    if isinstance(value, str) or (ids_too and (is_token_ids(value) or value == [])):
        yield path, value
    elif is_messages(value):
        turn = last_turn(value)
        if turn is not None:
            yield path, turn
    elif depth >= _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _texts(f"{path}[]", item, ids_too=ids_too, depth=depth + 1)
    elif isinstance(value, Mapping):
        inner = cast(Mapping[str, Any], value)
        parts = message_text(inner) if isinstance(inner.get("content"), list) else None
        if parts:
            yield f"{path}.content", parts
            return
        for name in _INSIDE:
            found = list(_texts(f"{path}.{name}", inner.get(name), depth=depth + 1))
            if found:
                yield from found
                return


def _follow(value: Any, parts: Sequence[str]) -> Iterator[Any]:
    if not parts:
        yield value
        return
    part, rest = parts[0].strip("[]"), parts[1:]
    if isinstance(value, list):
        items = cast(list[Any], value)
        if part == "":
            for item in items:
                yield from _follow(item, rest)
        elif re.fullmatch("[0-9]{1,9}", part) and int(part) < len(items):
            yield from _follow(items[int(part)], rest)
    elif isinstance(value, Mapping) and part in value:
        yield from _follow(cast(Mapping[str, Any], value)[part], rest)
