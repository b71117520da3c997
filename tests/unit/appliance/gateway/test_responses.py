"""OpenAI's Responses API by the official client, as far as an engine has it that keeps nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
import pytest

from tests.unit.appliance.gateway.rig import Rig, ask


def of_engine(rig: Rig, text: str) -> dict[str, Any]:
    """What the engine was asked in which a text stands."""
    return next(line for line in rig.engine_saw() if line.get("path") == "/v1/responses" and text in json.dumps(line))


def test_response(rig: Rig) -> None:
    made = rig.openai(rig.alice).responses.with_raw_response.create(
        model="demo", instructions="be brief", input="hello there"
    )
    answer = made.parse()
    assert answer.output_text == "hello there"
    assert (answer.model, answer.status) == ("demo", "completed")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 2)
    assert "cached" not in made.text, "how much was cached tells of other users"
    assert "timings" not in made.text
    admitted, completed = rig.of_request(made.headers["x-request-id"])
    assert (admitted["user_id"], admitted["policy_id"], admitted["decision"]) == ("alice", "users-ask", "allow")
    assert (completed["status"], completed["tokens_in"], completed["tokens_out"]) == ("ok", 2, 2)


def test_stream(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        raw = client.post("/v1/responses", json={"model": "demo", "input": "pieces 5", "stream": True})
    assert "secret" not in raw.text, "neither events nor fields that are not on the list"
    assert "timings" not in raw.text
    assert "cached" not in raw.text
    completed = rig.of_request(raw.headers["x-request-id"])[1]
    assert (completed["status"], completed["tokens_out"]) == ("ok", 5)
    events = list(rig.openai(rig.alice).responses.create(model="demo", input="pieces 5", stream=True))
    assert events[0].type == "response.created"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "0 1 2 3 4 "
    assert events[-1].type == "response.completed"
    assert (events[-1].response.output_text, events[-1].response.model) == ("0 1 2 3 4 ", "demo")


def test_events_may_come_in_single_bytes(rig: Rig) -> None:
    events = rig.openai(rig.alice).responses.create(model="demo", input="split grün 🔒\u2028", stream=True)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "grün 🔒\u2028"


def test_the_log_has_the_same_text_of_a_chat_and_a_response(rig: Rig) -> None:
    text = f"same text {time.monotonic_ns()}"
    with rig.http(rig.alice) as client:
        answers = [
            client.post("/v1/chat/completions", json=ask(text)),
            client.post("/v1/responses", json={"model": "demo", "input": text}),
            client.post("/v1/responses", json={"model": "demo", "input": text, "stream": True}),
        ]
    ends = [rig.of_request(answer.headers["x-request-id"]) for answer in answers]
    assert len({admitted["prompt_hmac"] for admitted, _ in ends}) == 1
    assert len({completed["output_hmac"] for _, completed in ends}) == 1


def test_what_was_answered_may_be_asked_again(rig: Rig) -> None:
    """As the client does it: outputs become inputs."""
    client = rig.openai(rig.alice)
    first = client.responses.create(model="demo", input="first turn")
    turns: list[Any] = [
        {"role": "user", "content": "first turn"}, *[item.model_dump() for item in first.output],
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
        {"role": "user", "content": [{"type": "input_text", "text": "second turn"}]},
    ]  # fmt: skip
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    assert client.responses.create(model="demo", input=turns, tools=tools).output_text == "second turn"  # type: ignore[call-overload]
    seen = of_engine(rig, "second turn")
    assert [item["type"] for item in seen["input"]] == [
        "message", "message", "reasoning", "function_call", "function_call_output", "message",
    ]  # fmt: skip
    assert not any("id" in item for item in seen["input"])


def test_the_engine_gets_the_listed_fields_and_the_gateways_own(rig: Rig) -> None:
    text = f"listed {time.monotonic_ns()}"
    more = {
        "id_slot": 3, "cache_prompt": True, "cache_salt": "mine", "store": True, "user": "x", "background": False,
        "text": {"format": {"type": "text"}}, "max_output_tokens": 100_000, "max_tokens": 7,
    }  # fmt: skip
    with rig.http(rig.alice) as client:
        assert client.post("/v1/responses", json={"model": "demo", "input": text, **more}).status_code == 200
    seen = of_engine(rig, text)
    assert set(seen) == {"path", "model", "input", "stream", "max_output_tokens", "cache_prompt", "cache_salt"}
    assert (seen["max_output_tokens"], seen["cache_prompt"]) == (4096, False)
    assert seen["cache_salt"] != "mine"


def test_the_guard_reads_instructions_input_and_tools(rig: Rig) -> None:
    name = f"n{time.monotonic_ns()}"
    with rig.http(rig.alice) as client:
        body: dict[str, Any] = {"model": "demo", "instructions": f"{name} CODE-1234", "input": "CODE-5678"}
        assert client.post("/v1/responses", json=body).status_code == 200
        seen = of_engine(rig, name)
        assert (seen["instructions"], seen["input"]) == (f"{name} [code]", "[code]")
        patient = "PAT-12345678"
        tool = {"type": "function", "name": "f", "parameters": {"properties": {patient: {}}}}
        part = [{"role": "assistant", "content": [{"type": "output_text", "text": patient}]}]
        for more in ({"instructions": patient}, {"input": patient}, {"input": part}, {"tools": [tool]}):
            answer = client.post("/v1/responses", json={"model": "demo", "input": "x", **more})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_filter"), more


@pytest.mark.parametrize("more", [
    {"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"prompt": {"id": "pmpt_1"}}, {"background": True},
    {"tools": [{"type": "web_search"}]}, {"text": {"format": {"type": "json_object"}}}, {"tool_choice": {"type": "x"}},
    {"input": []}, {"input": [{"type": "item_reference", "id": "x"}]}, {"input": [1, 2, 3]}, {"max_output_tokens": 0},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}]},
])  # fmt: skip
def test_what_the_engine_would_pass_over_is_refused(rig: Rig, more: dict[str, Any]) -> None:
    with rig.http(rig.alice) as client:
        answer = client.post("/v1/responses", json={"model": "demo", "input": "x", **more})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert error["param"].split(".")[0] == next(iter(more))


def test_policies_decide_as_of_a_chat(rig: Rig) -> None:
    client = rig.openai(rig.alice)
    with pytest.raises(openai.PermissionDeniedError):
        client.responses.create(model="restricted", input="x")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="hidden", input="x")
    with pytest.raises(openai.BadRequestError, match="embeddings only"):
        client.responses.create(model="vectors", input="x")
    with pytest.raises(openai.AuthenticationError):
        rig.openai("nobody").responses.create(model="demo", input="x")


def test_a_prompt_that_is_too_long_is_counted_by_the_engine(rig: Rig) -> None:
    key = rig.add("shorty", prompt_max_tokens=10)
    with rig.http(key) as client:
        for _ in range(200):
            if client.get("/v1/models").status_code == 200:
                break
            time.sleep(0.05)
    client = rig.openai(key)
    with pytest.raises(openai.BadRequestError, match="the prompt has 11 tokens"):
        client.responses.create(model="demo", instructions="one two three", input="x " * 8)
    assert client.responses.create(model="demo", input="x " * 8).status == "completed"


@pytest.mark.parametrize("order", ["die", "cut"])
def test_a_stream_never_ends_quietly(rig: Rig, order: str) -> None:
    made = rig.openai(rig.alice).responses.with_raw_response.create(model="demo", input=order, stream=True)
    with pytest.raises(openai.APIError, match="the engine"):
        list(made.parse())
    assert rig.of_request(made.headers["x-request-id"])[1]["status"] == "engine_failed"


def test_an_engine_that_refuses_is_quoted_and_one_that_fails_is_not(rig: Rig) -> None:
    client = rig.openai(rig.alice)
    with pytest.raises(openai.BadRequestError, match="exceeds the context"):
        client.responses.create(model="demo", input="refuse")
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model="demo", input="fail it")
    assert "secret" not in str(caught.value)
