"""Bodies that are bombs, and the texts of a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from appliance.gateway import body
from appliance.gateway.refusal import Refused
from appliance.gateway.service import ROUTES

BOMBS = {
    "deep arrays": b"[" * 100_000,
    "deep arrays, closed": b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a key twice": b'{"model": "a", "model": "b"}',
    "a key twice, spelled otherwise": b'{"model": "a", "mod\\u0065l": "b"}',
    "a key twice, below": b'{"a": [{"x": 1, "x": 2}]}',
    "NaN": b'{"temperature": NaN}',
    "Infinity": b'{"temperature": -Infinity}',
    "a float that is infinite": b'{"temperature": 1e999}',
    "a huge number": b'{"seed": ' + b"9" * 100_000 + b"}",
    "a number of 65 digits": b'{"seed": ' + b"1" * 65 + b"}",
    "a huge fraction": b'{"temperature": 0.' + b"1" * 1_000 + b"}",
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "an array": b"[]",
    "a string": b'"x"',
    "nothing": b"",
    "more after the end": b"{} {}",
    "a comment": b"{} // x",
    "a control character": b'{"a": "\x00"}',
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_parse_refuses(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        body.parse(data, 32)
    assert caught.value.status == 400


def test_parse_takes_what_is_deep_as_allowed() -> None:
    data = b'{"a":' + b"[" * 31 + b"]" * 31 + b"}"
    assert "a" in body.parse(data, 32)
    with pytest.raises(Refused):
        body.parse(data, 31)
    assert body.parse(b'{"a": "[[[[[[[["}', 4) == {"a": "[[[[[[[["}
    assert body.parse(b'{"a": "\\ud83d\\ude00"}', 4) == {"a": "😀"}


@pytest.mark.parametrize("more", [
    {"messages": [{"role": "root", "content": "x"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
    {"messages": [{"role": "user", "content": 7}]},
    {"messages": "x"},
    {"max_tokens": 0}, {"max_tokens": True}, {"max_tokens": "7"}, {"max_tokens": 1.5}, {"seed": 1 << 60},
    {"temperature": "hot"}, {"stream": "yes"}, {"logit_bias": {"1": 1000}}, {"stop": [1]}, {"tool_choice": "all"},
    {"model": ""}, {"model": "x" * 300}, {"model": None},
])  # fmt: skip
def test_check_refuses_a_field_that_is_not_as_expected(more: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        body.check(body.Chat, {"model": "m", "messages": [{"role": "user", "content": "x"}], **more})
    assert caught.value.param is not None


def lists(schema: Any) -> Iterator[dict[str, Any]]:
    """Every list in what pydantic makes of a model."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from lists(part)


@pytest.mark.parametrize("kind", [route.kind for route in ROUTES.values()])
def test_every_list_of_a_request_is_short_or_ends_at_its_first_wrong_element(kind: type[BaseModel]) -> None:
    found = list(lists(kind.__pydantic_core_schema__))
    assert found
    assert all(each.get("fail_fast") or each["max_length"] <= 128 for each in found)


EMPTY = [{}] * 4000
USER = {"role": "user", "content": EMPTY, "tool_calls": EMPTY}
OUTPUT = {"type": "function_call_output", "call_id": "x", "output": EMPTY}
THOUGHT = {"type": "reasoning", "summary": EMPTY, "content": EMPTY}


@pytest.mark.parametrize(("kind", "more"), [
    ("chat", {"messages": EMPTY}), ("chat", {"messages": [USER] * 50}), ("chat", {"tools": EMPTY}),
    ("chat", {"messages": [], "logit_bias": {str(number): "" for number in range(100_000)}}),
    ("embed", {"input": [1] * 2000}), ("respond", {"input": EMPTY[:2000]}), ("respond", {"input": [USER] * 50}),
    ("respond", {"input": [OUTPUT] * 50}), ("respond", {"input": [THOUGHT] * 50}),
])  # fmt: skip
def test_a_list_of_wrong_elements_makes_few_errors(kind: str, more: dict[str, Any]) -> None:
    """Of each, pydantic would make some, and of 100,000 a gigabyte."""
    route = next(route for route in ROUTES.values() if route.name == kind)
    with pytest.raises(ValidationError) as caught:
        route.kind.model_validate({"model": "m", **more})
    assert caught.value.error_count() < 32


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2]], 7, None, ["a", 1]])
def test_token_numbers_are_refused_since_no_guard_reads_them(prompt: Any) -> None:
    with pytest.raises(Refused):
        body.check(body.Completion, {"model": "m", "prompt": prompt})
    with pytest.raises(Refused):
        body.check(body.Embedding, {"model": "m", "input": prompt})


def test_fields_that_nobody_knows_do_not_pass() -> None:
    ours = {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.5}
    theirs = {
        "cache_salt": "x", "id_slot": 1, "cache_prompt": True, "slot_id": 1, "n_keep": 3, "grammar": "x", "user": "x",
        "lora": [], "samplers": [], "__verbose": True, "prompt_cache_key": "x",
    }  # fmt: skip
    assert body.check(body.Chat, {**ours, **theirs}) == ours
    message = {"role": "user", "content": "x", "cache_control": {}}
    assert body.check(body.Chat, {**ours, "messages": [message]}) == ours


CONTENT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}], "name": "three"},
        {"role": "assistant", "tool_calls": [
            {"id": "four", "type": "function", "function": {"name": "five", "arguments": "six"}},
        ]},
    ],
    "tools": [{"type": "function", "function": {
        "name": "seven", "description": "eight", "parameters": {"type": "object", "nine": {"role": ["ten", 11]}},
    }}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "eleven", "schema": {"twelve": True}}},
}  # fmt: skip


def test_every_text_that_reaches_the_model_is_spoken() -> None:
    checked = body.check(body.Chat, json.loads(json.dumps(CONTENT)))
    texts = body.spoken(checked)
    assert texts == [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "type", "object", "nine", "role", "ten",
        "eleven", "twelve",
    ]  # fmt: skip
    again = body.respoken(checked, [text.upper() for text in texts])
    assert body.spoken(again) == [text.upper() for text in texts]
    assert again["messages"][0] == {"role": "system", "content": "ONE"}
    assert again["tools"][0]["function"]["parameters"] == {"TYPE": "OBJECT", "NINE": {"ROLE": ["TEN", 11]}}
    assert body.respoken(checked, texts) == checked


def test_the_prompt_of_a_single_text_is_that_text() -> None:
    assert body.spoken({"model": "m", "messages": [{"role": "user", "content": "hi"}]}) == ["hi"]
    assert body.spoken({"model": "m", "prompt": "hi"}) == body.spoken({"model": "m", "input": "hi"}) == ["hi"]
