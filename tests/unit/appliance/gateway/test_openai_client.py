"""The official client, as anybody would use it."""

from __future__ import annotations

import hashlib
import ssl
import time
from urllib.parse import quote

import openai
import pytest

from tests.unit.appliance.gateway.rig import Rig, ask, read_events, text_of

HELLO = [{"role": "user", "content": "hello there"}]


def test_chat(rig: Rig) -> None:
    made = rig.openai(rig.alice).chat.completions.with_raw_response.create(model="demo", messages=HELLO)
    answer = made.parse()
    assert answer.choices[0].message.content == "hello there"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 2)
    admitted, completed = rig.of_request(made.headers["x-request-id"])
    assert (admitted["user_id"], admitted["model"], admitted["decision"]) == ("alice", "demo", "allow")
    assert (admitted["role"], admitted["policy_id"], admitted["client_ip"]) == ("user", "users-ask", "10.20.0.7")
    assert (completed["status"], completed["tokens_in"], completed["tokens_out"]) == ("ok", 2, 2)


def test_the_log_has_the_text_that_was_asked_and_the_one_that_was_given(rig: Rig) -> None:
    """Both are HMACs of one key over digests of the texts alone; here they are the same text."""
    text = f"same text {time.monotonic_ns()}"
    with rig.http(rig.alice) as client:
        whole = client.post("/v1/chat/completions", json=ask(text))
        streamed = client.post("/v1/chat/completions", json=ask(text, stream=True))
    ends = [rig.of_request(answer.headers["x-request-id"]) for answer in (whole, streamed)]
    assert len({admitted["prompt_hmac"] for admitted, _ in ends}) == 1
    assert len({completed["output_hmac"] for _, completed in ends}) == 1


def test_stream(rig: Rig) -> None:
    events = list(rig.openai(rig.alice).chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "pieces 5"}], stream=True
    ))  # fmt: skip
    assert "".join(event.choices[0].delta.content or "" for event in events) == "0 1 2 3 4 "
    assert all(event.usage is None for event in events), "the client did not ask for usage"
    assert events[-1].choices[0].finish_reason == "stop"


def test_stream_with_usage(rig: Rig) -> None:
    events = list(rig.openai(rig.alice).chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "pieces 5"}], stream=True,
        stream_options={"include_usage": True},
    ))  # fmt: skip
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == 5
    assert events[-1].usage.prompt_tokens_details is None, "how much was cached tells of other users"


def test_a_stream_is_counted_though_the_client_did_not_ask(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        answer = client.post("/v1/chat/completions", json=ask("pieces 7", stream=True))
    _, completed = rig.of_request(answer.headers["x-request-id"])
    assert (completed["status"], completed["tokens_out"]) == ("ok", 7)


def test_completion_and_embeddings(rig: Rig) -> None:
    client = rig.openai(rig.alice)
    assert client.completions.create(model="demo", prompt="once upon").choices[0].text == "once upon"
    streamed = client.completions.create(model="demo", prompt="pieces 3", stream=True)
    assert "".join(event.choices[0].text for event in streamed) == "0 1 2 "
    made = client.embeddings.create(model="vectors", input=["a", "bb"])
    assert [item.embedding for item in made.data] == [
        [pytest.approx(0.001), 0.25, -0.5], [pytest.approx(0.002), 0.25, -0.5],
    ]  # fmt: skip


def test_models_are_those_that_policy_lets_one_see(rig: Rig) -> None:
    assert [model.id for model in rig.openai(rig.alice).models.list()] == ["demo", "other", "restricted", "vectors"]


@pytest.mark.parametrize(("arguments", "kind", "code"), [
    ({"model": "none"}, openai.NotFoundError, "model_not_found"),
    ({"model": "hidden"}, openai.NotFoundError, "model_not_found"),
    ({"model": "restricted"}, openai.PermissionDeniedError, "policy_denied"),
    ({"model": "vectors"}, openai.BadRequestError, "model_not_suited"),
    ({"temperature": 99}, openai.BadRequestError, "invalid_request"),
    ({"messages": []}, openai.BadRequestError, "invalid_request"),
    ({"n": 2}, openai.BadRequestError, "invalid_request"),
    ({"messages": [{"role": "user", "content": "see PAT-12345678"}]}, openai.BadRequestError, "content_filter"),
    ({"messages": [{"role": "user", "content": "refuse"}]}, openai.BadRequestError, "engine_refused"),
    ({"messages": [{"role": "user", "content": "fail"}]}, openai.InternalServerError, "engine_failed"),
])  # fmt: skip
def test_errors_are_of_the_clients_own_types(
    rig: Rig, arguments: dict[str, object], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        rig.openai(rig.alice).chat.completions.create(**{"model": "demo", "messages": HELLO, **arguments})
    assert caught.value.code == code
    assert caught.value.request_id.startswith("req-")
    assert "secret of the engine" not in str(caught.value)


@pytest.mark.parametrize("key", ["wrong", f"ag-{'a' * 12}-{'a' * 52}", "ag-", "x" * 5000])
def test_an_unknown_key_is_one_answer(rig: Rig, key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        rig.openai(key).models.list()
    assert caught.value.code == "invalid_api_key"


def test_too_many_requests_are_the_clients_rate_limit_error(rig: Rig) -> None:
    client = rig.openai(rig.add("carol", requests_per_minute=2))
    wait_until_known(rig, client)
    with pytest.raises(openai.RateLimitError) as caught:
        for _ in range(3):
            client.models.list()
    assert int(caught.value.response.headers["retry-after"]) >= 1


def wait_until_known(rig: Rig, client: openai.OpenAI) -> None:
    for _ in range(100):
        try:
            client.models.list()
        except openai.AuthenticationError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the directory is not read again")


def test_the_end_of_an_engine_in_a_stream_is_an_error_of_the_client(rig: Rig) -> None:
    for order in ("die", "cut"):
        stream = rig.openai(rig.alice).chat.completions.create(
            model="demo", messages=[{"role": "user", "content": order}], stream=True
        )
        with pytest.raises(openai.APIError, match="engine"):
            list(stream)


def test_denied_requests_are_recorded_with_what_decided(rig: Rig) -> None:
    expected = {
        "none": ("", "no such model"),
        "hidden": ("", "no policy permits this"),
        "restricted": ("", "no policy"),
    }
    with rig.http(rig.alice) as client:
        for model, (policy, reason) in expected.items():
            answer = client.post("/v1/chat/completions", json={**ask("x"), "model": model})
            admitted, _ = rig.of_request(answer.headers["x-request-id"], ended=False)
            assert (admitted["decision"], admitted["policy_id"], admitted["model"]) == ("deny", policy, model)
            assert reason in admitted["reason"]
        answer = client.post("/v1/chat/completions", json=ask("PAT-12345678"))
        admitted, _ = rig.of_request(answer.headers["x-request-id"], ended=False)
        assert (admitted["policy_id"], admitted["reason"]) == ("guard", "guard patient: block 1")


def test_what_a_guard_masks_does_not_reach_the_engine(rig: Rig) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "CODE-2222", "parameters": {"CODE-3333": {}}}}
    with rig.http(rig.alice) as client:
        answer = client.post("/v1/chat/completions", json=ask("see CODE-1111 masked", tools=[tool]))
    assert answer.json()["choices"][0]["message"]["content"] == "see [code] masked"
    (seen,) = [body for body in rig.engine_saw() if "see [code] masked" in str(body)]
    assert "CODE-" not in str(seen)
    assert "mask 3" in rig.of_request(answer.headers["x-request-id"])[0]["reason"]


def test_events_are_whole_however_they_come_from_the_engine(rig: Rig) -> None:
    with rig.http(rig.alice) as client, client.stream(
        "POST", "/v1/chat/completions", json=ask("split ümlaut \u2028 😀", stream=True)
    ) as answer:  # fmt: skip
        assert text_of(list(read_events(answer))) == "ümlaut \u2028 😀"


def test_nothing_of_the_engine_passes_but_status_and_known_fields(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        for more in ({}, {"stream": True}):
            answer = client.post("/v1/chat/completions", json=ask("leak", **more))
            assert answer.status_code == 200
            assert not {"server", "set-cookie"} & set(answer.headers)
            assert not any(word in answer.text for word in ("gguf", "timings", "verbose", "cached"))


def test_caps_are_told_to_the_engine(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        client.post("/v1/chat/completions", json=ask("capped-1", max_tokens=1 << 20))
        client.post("/v1/chat/completions", json=ask("capped-2", max_completion_tokens=7))
        client.post("/v1/chat/completions", json=ask("capped-3"))
    found = [body["max_tokens"] for body in rig.engine_saw() if "capped-" in str(body)]
    assert found == [4096, 7, 4096]


def test_a_prompt_is_counted_by_the_engine_only_when_its_bytes_do_not_tell(rig: Rig) -> None:
    client = rig.openai(rig.add("dora", prompt_max_tokens=20))
    wait_until_known(rig, client)
    counted = [body.get("path") for body in rig.engine_saw()].count("/tokenize")  # by other tests of this rig
    assert client.completions.create(model="demo", prompt="a b c").choices[0].text == "a b c"
    fits, too_long = "some_long_word " * 15, "a " * 30
    assert client.completions.create(model="demo", prompt=fits).choices[0].text == fits
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="demo", prompt=too_long)
    assert caught.value.code == "prompt_too_long"
    assert [body.get("path") for body in rig.engine_saw()].count("/tokenize") - counted == 2


def test_what_a_guard_masks_does_not_reach_the_engine_that_counts(rig: Rig) -> None:
    key = rig.add("carl", prompt_max_tokens=5)
    wait_until_known(rig, rig.openai(key))
    with rig.http(key) as client:
        assert client.post("/v1/chat/completions", json=ask("count CODE-4444 as masked")).status_code == 200
    counted, answered = [body for body in rig.engine_saw() if "as masked" in str(body)]
    assert (counted["content"], counted["prompt"]) == ("count [code] as masked",) * 2
    assert "CODE-4444" not in str(answered)


def test_a_client_certificate_is_an_identity_and_must_be_the_keys(rig: Rig) -> None:
    shown = hashlib.sha256(b"certificate").hexdigest()
    escaped = {name: quote(ssl.DER_cert_to_PEM_cert(name.encode())) for name in ("certificate", "another")}
    key = rig.add("erin", certificate=shown)
    wait_until_known(rig, rig.openai(key))
    with rig.http() as client:
        by = {"X-Airgap-Client-Certificate": escaped["certificate"]}
        answer = client.post("/v1/chat/completions", json=ask("x"), headers=by)
        assert answer.status_code == 200
        assert rig.of_request(answer.headers["x-request-id"])[0]["key_id"] == f"cert-{shown[:16]}"
        both = {**by, "Authorization": f"Bearer {key}"}
        assert client.get("/v1/models", headers=both).status_code == 200
        for wrong in (rig.alice, "nobody"):
            assert client.get("/v1/models", headers={**by, "Authorization": f"Bearer {wrong}"}).status_code == 401
        for other in (escaped["another"], shown, "-----BEGIN", escaped["certificate"][:-9]):
            assert client.get("/v1/models", headers={"X-Airgap-Client-Certificate": other}).status_code == 401


def test_streams_are_not_held_back(rig: Rig) -> None:
    with rig.http(rig.alice) as client, client.stream(
        "POST", "/v1/chat/completions", json=ask("slow 1", stream=True)
    ) as answer:  # fmt: skip
        events = read_events(answer)
        next(events)
        first_s = time.monotonic()
        assert list(events)[-1] == "[DONE]"
    assert time.monotonic() - first_s > 0.8


def test_long_prompts_pass(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        for size in (17_000, 60_000, 400_000):  # the guard reads 2^19 characters
            answer = client.post("/v1/chat/completions", json=ask("y" * size))
            assert answer.json()["choices"][0]["message"]["content"] == "y" * size
