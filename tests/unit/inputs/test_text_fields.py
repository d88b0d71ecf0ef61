"""Where the generated text of a record is, in the forms of the tools that people use."""

from __future__ import annotations

from typing import Any

import pytest

from collapselab.inputs.text_fields import find_texts, values_at, why_none

YES = {"role": "assistant", "content": "yes"}
ASKED = {"role": "user", "content": "no"}

FORMS: dict[str, tuple[Any, list[tuple[str, Any]]]] = {
    "text": ({"text": "yes"}, [("text", "yes")]),
    "prompt and completion": ({"prompt": "no", "completion": "yes"}, [("completion", "yes")]),
    "a field without a value": ({"text": None, "response": "yes"}, [("response", "yes")]),
    "Alpaca": ({"instruction": "no", "input": "no", "output": "yes"}, [("output", "yes")]),
    "transformers pipeline": ([{"generated_text": "yes"}], [("[].generated_text", "yes")]),
    "answer": ({"question": "no", "answer": "yes"}, [("answer", "yes")]),
    "messages": ({"messages": [ASKED, YES, {"role": "user", "content": "thanks"}]}, [("messages", "yes")]),
    "a tool call last": ({"messages": [YES, {"role": "assistant", "content": None}]}, [("messages", "yes")]),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "no"}, {"from": "gpt", "value": "yes"}]},
        [("conversations", "yes")],
    ),
    "parts": (
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "yes"}, {"type": "image"}]}]},
        [("messages", "yes")],
    ),
    "TRL, conversational": ({"prompt": [ASKED], "completion": [YES]}, [("completion", "yes")]),
    "vLLM": (
        {"prompt": "no", "outputs": [{"text": "yes", "token_ids": [1]}, {"text": "and"}]},
        [("outputs[].text", "yes"), ("outputs[].text", "and")],
    ),
    "OpenAI answer": ({"choices": [{"index": 0, "message": YES}]}, [("choices[].message.content", "yes")]),
    "OpenAI completion": ({"choices": [{"text": "yes"}]}, [("choices[].text", "yes")]),
    "OpenAI batch": (
        {"custom_id": "a", "response": {"status_code": 200, "body": {"id": "b", "choices": [{"message": YES}]}}},
        [("response.body.choices[].message.content", "yes")],
    ),
    "OpenAI responses batch": (
        {"response": {"body": {"output": [{"type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "yes"}]}]}}},
        [("response.body.output", "yes")],
    ),
    "lm-eval": ({"doc": {"text": "no"}, "resps": [["yes", "and"]]}, [("resps[][]", "yes"), ("resps[][]", "and")]),
    "several answers": ({"responses": ["yes", "and"]}, [("responses[]", "yes"), ("responses[]", "and")]),
    "token ids": ({"token_ids": [3, 4], "text": "no"}, [("token_ids", [3, 4])]),
    "a string": ("yes", [("", "yes")]),
    "a list of ids": ([3, 4], [("", [3, 4])]),
    "a list of messages": ([ASKED, YES], [("", "yes")]),
    "capitals": ({"Response": "yes"}, [("response", "yes")]),
    "an empty text": ({"text": ""}, [("text", "")]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_text_is_found(name: str) -> None:
    record, expected = FORMS[name]
    assert find_texts(record) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("a.b[0].c", ["x"]),
        ("a.b.0.c", ["x"]),
        ("a.b[].c", ["x", "y"]),
        ("a.b", []),
        ("a.b[7].c", []),
        ("d.e", ["dotted"]),
        ("ids", [[1, 2]]),
        ("turns", ["yes"]),
        ("none", []),
    ],
)
def test_a_named_field(field: str, expected: list[Any]) -> None:
    record = {"text": "no", "a": {"b": [{"c": "x"}, {"c": "y"}]}, "d.e": "dotted", "ids": [1, 2], "turns": [ASKED, YES]}
    assert [content for _, content in find_texts(record, field)] == expected


@pytest.mark.parametrize(
    "record",
    [{}, {"txt": "a"}, {"text": 3}, 1, None, {"messages": [ASKED]}, {"token_ids": [1, -2]}, {"token_ids": [1.0]},
     {"token_ids": [True]}, {"token_ids": [2**32]}
     ],
)  # fmt: skip
def test_what_has_no_text_says_so(record: Any) -> None:
    assert find_texts(record) == []
    assert why_none(record)


def test_the_reason_names_the_fields_and_stays_short() -> None:
    assert "its fields: txt, step" in why_none({"txt": "a", "step": 1})
    assert "no text or token ids at 'b'" in why_none({"txt": "a"}, "b")
    assert len(why_none({"f" * 1000: 1})) < 400


def test_values_keep_their_path() -> None:
    assert list(values_at({"a": [1, 2]}, "a[]")) == [("a[]", 1), ("a[]", 2)]


def test_deep_nesting_ends() -> None:
    record: Any = "x"
    for _ in range(2000):
        record = {"text": record}
    assert find_texts(record) == []
