"""Attacks by name, each on the real gateway."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.unit.appliance.gateway.rig import Rig, ask, read_events, text_of


def answers(rig: Rig, data: bytes, *, until_closed: bool = False) -> list[int]:
    """Status codes of what comes back for bytes."""
    connection, found = rig.raw(), b""
    with connection:
        connection.sendall(data)
        if not until_closed:
            connection.settimeout(1.5)
        try:
            while more := connection.recv(1 << 16):
                found += more
        except (TimeoutError, ConnectionResetError):
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", found)]


@pytest.mark.parametrize("path", [
    "//v1/models", "/v1//models", "/v1/models/", "/v1/../v1/models", "/v1/./models", "/%761/models", "/v1%2fmodels",
    "/v1/models%00", "/V1/models", "/v1/Models", "/v1/models;x", "/v1/models%20", "/v1\\models",
    "/healthz/../v1/models", "/v1/models#x", "/", "/v1", "*", "/slots", "/props", "/v1/chat/completions/..", "/metrics",
    "/v1/models/../../slots",
])  # fmt: skip
def test_a_path_that_is_not_exactly_a_route_is_none(rig: Rig, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: g\r\nX-Airgap-Client-Address: 10.20.0.7\r\nConnection: close\r\n"
    (status,) = answers(rig, head.encode() + f"Authorization: Bearer {rig.alice}\r\n\r\n".encode(), until_closed=True)
    assert status in (400, 404)


@pytest.mark.parametrize("query", ["api_key={}", "key={}", "access_token={}", "x=1", "model=demo"])
def test_a_key_in_the_url_lets_nobody_in(rig: Rig, query: str) -> None:
    with rig.http() as client:
        assert client.get(f"/v1/models?{query.format(rig.alice)}").status_code == 401
        with_key = client.get(f"/v1/models?{query.format(rig.alice)}", headers=rig.headers(rig.alice))
        assert with_key.status_code == 400


@pytest.mark.parametrize("value", ["{}", "Basic {}", "bearer", "Bearer", "Bearer {} x", "Bearer {},x", "Token {}"])
def test_a_key_is_taken_in_one_form_alone(rig: Rig, value: str) -> None:
    with rig.http() as client:
        found = client.get("/v1/models", headers={"Authorization": value.format(rig.alice)})
        assert found.status_code == 401
        assert found.headers["www-authenticate"] == "Bearer"


def test_a_forged_forwarded_for_is_not_read(rig: Rig) -> None:
    forged = {"X-Forwarded-For": "10.20.0.7", "X-Real-IP": "10.20.0.7", "Forwarded": "for=10.20.0.7"}
    with rig.http(rig.alice) as client:
        answer = client.post(
            "/v1/chat/completions", json=ask("x"), headers={**forged, "X-Airgap-Client-Address": "192.0.2.9"}
        )
    assert answer.status_code == 403
    admitted, _ = rig.of_request(answer.headers["x-request-id"], ended=False)
    assert (admitted["client_ip"], admitted["policy_id"]) == ("192.0.2.9", "not-from-there")


@pytest.mark.parametrize("name", ["Authorization", "X-Airgap-Client-Address", "X-Airgap-Client-Certificate"])
def test_a_header_that_decides_and_is_there_twice_decides_nothing(rig: Rig, name: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(rig.socket))) as client:
        headers = [*rig.headers(rig.alice).items(), (name, "10.20.0.7"), (name, "10.20.0.8")]
        assert client.get("http://gateway/v1/models", headers=headers).status_code == 400


@pytest.mark.parametrize("address", ["", "unix:", "10.20.0.7, 192.0.2.1", "localhost", "1", "10.20.0.007"])
def test_without_an_address_from_nginx_nothing_is_served(rig: Rig, address: str) -> None:
    with rig.http(rig.alice) as client:
        assert client.get("/v1/models", headers={"X-Airgap-Client-Address": address}).status_code == 503


SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n"


@pytest.mark.parametrize("head", [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length : 5\r\n",
    " Content-Length: 5\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: chunked\nX: y\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "X\x00: y\r\n",
])  # fmt: skip
def test_request_smuggling_ends_the_connection(rig: Rig, head: str) -> None:
    """Two readings of where a request ends: it is refused, and nothing after it is a request."""
    data = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n{head}\r\n0\r\n\r\n".encode() + SMUGGLED
    found = answers(rig, data, until_closed=True)
    assert found == [400]


def test_an_upgrade_to_another_protocol_is_not_made(rig: Rig) -> None:
    head = "GET /v1/models HTTP/1.1\r\nHost: g\r\nX-Airgap-Client-Address: 10.20.0.7\r\n"
    head += f"Authorization: Bearer {rig.alice}\r\n"
    for upgrade in ("h2c\r\nHTTP2-Settings: x", "websocket\r\nSec-WebSocket-Key: x"):
        found = answers(rig, head.encode() + f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n".encode())
        assert 101 not in found


@pytest.mark.parametrize("bomb", [
    lambda: b"X: " + b"x" * (1 << 20),
    lambda: b"".join(b"X%d: y\r\n" % i for i in range(50_000)),
    lambda: b"x" * (1 << 20),
    lambda: b"".join(b"X: y\r\n" for _ in range(101)) + b"\r\n",
    lambda: b"X: " + b"x" * 20_000 + b"\r\n\r\n",
], ids=["long value", "many", "long name", "101", "20 kB"])  # fmt: skip
def test_header_bombs_are_cut_off(rig: Rig, bomb: Callable[[], bytes]) -> None:
    connection = rig.raw()
    before_kb = resident_kb(rig)
    with connection:
        try:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: g\r\n" + bomb())
            data = connection.recv(1 << 16)
        except (BrokenPipeError, ConnectionResetError):
            data = b""
    assert data in (b"",) or data.startswith(b"HTTP/1.1 400 ")
    assert resident_kb(rig) < before_kb + 8_000
    assert rig.is_ready()


def test_a_long_url_is_cut_off(rig: Rig) -> None:
    assert answers(rig, b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: g\r\n\r\n", until_closed=True) == [400]


@pytest.mark.parametrize(("data", "status"), [
    (b"[" * 100_000, 400),
    (b'{"a":' * 50_000, 400),
    (b'{"model": "demo", "model": "demo", "messages": []}', 400),
    (b'{"seed": ' + b"9" * 1_000_000 + b"}", 400),
    (b'{"messages": [' + b'{"role":"user","content":"x"},' * 60_000 + b"{}]}", 400),
    (b'{"a": [' + b"[]," * 600_000 + b"[]]}", 400),
    (b"x" * (3 << 20), 413),
])  # fmt: skip
def test_json_bombs_are_refused_soon(rig: Rig, data: bytes, status: int) -> None:
    with rig.http(rig.alice) as client:
        begun_s = time.monotonic()
        try:
            answer = client.post("/v1/chat/completions", content=data, headers={"Content-Type": "application/json"})
            assert answer.status_code == status
        except httpx.WriteError:
            assert status == 413, "refused while it was being sent"
        assert time.monotonic() - begun_s < 5
    assert rig.is_ready()


def test_malformed_requests_count_against_the_limit(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    key = rig.add("mallory", requests_per_minute=1)
    rig.start()
    bomb = b'{"model": "demo", "input": [{"role": "user", "content": [' + b"{}," * 100_000 + b"{}]}]}"
    with rig.http(key) as client:
        found = [
            client.post("/v1/responses", content=bomb, headers={"Content-Type": "application/json"}) for _ in range(3)
        ]
        assert [answer.status_code for answer in found] == [400, 429, 429]
        time.sleep(1.1)  # refusals for too much are recorded once in a second
        found.append(client.post("/v1/chat/completions", json=ask("well-formed")))
        assert found[-1].json()["error"]["code"] == "requests_per_minute"
    told = [
        (entry["request_id"], entry["model"], entry["policy_id"], entry["reason"]) for entry in rig.entries("admitted")
    ]
    assert told == [
        (found[1].headers["x-request-id"], "", "limits", "requests_per_minute; 0 more since the last record"),
        (found[3].headers["x-request-id"], "demo", "limits", "requests_per_minute; 1 more since the last record"),
    ]
    assert resident_kb(rig) < 200_000


def test_a_body_without_an_end_is_refused_when_it_is_too_large(rig: Rig) -> None:
    def endless() -> object:
        while True:
            yield b"x" * 65_536

    with rig.http(rig.alice) as client:
        try:
            answer = client.post(
                "/v1/chat/completions", content=endless(), headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 413
        except (httpx.WriteError, httpx.RemoteProtocolError):
            pass
    assert rig.is_ready()


@pytest.mark.parametrize("headers", [
    {"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    {"Content-Type": "application/jsonp"}, {"Content-Type": "multipart/form-data; boundary=application/json"},
])  # fmt: skip
def test_what_is_not_plain_json_is_not_read(rig: Rig, headers: dict[str, str]) -> None:
    with rig.http(rig.alice) as client:
        assert client.post("/v1/chat/completions", content=b"{}", headers=headers).status_code == 415


def test_a_stranger_is_turned_away_before_a_body_is_read(rig: Rig) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nX-Airgap-Client-Address: 10.20.0.7\r\n"
    assert answers(rig, head + b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n") == [401]


def test_slowloris_is_bounded(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(timeouts={"header_s": 1, "body_s": 1, "idle_s": 1}).start()
    silent, header, body = rig.raw(), rig.raw(), rig.raw()
    header.sendall(b"GET /v1/models HTTP/1.1\r\nHost: g\r\n")
    body.sendall(rig.request(b"{}" * 100)[:-150])
    begun_s = time.monotonic()
    for connection in (silent, header):
        connection.settimeout(5)
        dripping(connection, b"X" if connection is header else b"")
        assert time.monotonic() - begun_s < 4
    assert body.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert rig.is_ready()


@pytest.mark.parametrize("byte", [b"x", b"\r\n"])
def test_whoever_was_answered_and_goes_on_sending_is_not_waited_for(make_rig: Callable[..., Rig], byte: bytes) -> None:
    """uvicorn's own timer ends with the first byte after an answer: of a body that is not read, or of an empty line."""
    rig = make_rig(timeouts={"header_s": 1, "body_s": 1, "idle_s": 1}).start()
    for path, status in {"POST /v1/chat/completions": 401, "POST /v1/none": 404, "GET /healthz": 200}.items():
        with rig.raw() as connection:
            length = "Content-Length: 900000\r\n" if byte == b"x" else ""
            connection.sendall(f"{path} HTTP/1.1\r\nHost: g\r\n{length}\r\n".encode())
            assert whole(connection).startswith(b"HTTP/1.1 %d " % status)
            begun_s = time.monotonic()
            dripping(connection, byte)
            assert time.monotonic() - begun_s < 4


def test_a_stranger_who_sends_a_body_late_is_told_and_may_ask_again(rig: Rig) -> None:
    with rig.raw() as connection:
        for _ in range(2):
            data = rig.request(b"x" * 1000, "nobody")
            connection.sendall(data[:-1000])
            assert whole(connection).startswith(b"HTTP/1.1 401 ")
            connection.sendall(data[-1000:])


def whole(connection: socket.socket) -> bytes:
    """An answer to its end: of an error, or of health."""
    found = b""
    while not found.endswith((b"}}", b"ok\n")):
        found += connection.recv(1 << 16)
    return found


def dripping(connection: socket.socket, byte: bytes) -> None:
    """Send a byte now and then until the other end is tired of it."""
    connection.settimeout(0.2)
    for _ in range(30):
        try:
            if byte:
                connection.sendall(byte)
            if connection.recv(1) == b"":
                return
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return
    raise AssertionError("it waits for ever")


def test_more_connections_than_allowed_are_closed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(bounds={"connections": 20}).start()
    held = [rig.raw() for _ in range(20)]
    more = rig.raw()
    more.settimeout(5)
    with suppress(ConnectionResetError):
        assert more.recv(1) == b""
    for connection in held:
        connection.close()
    time.sleep(0.2)
    assert rig.is_ready()


def test_an_endless_stream_ends_when_the_client_does(rig: Rig) -> None:
    before = sum("ended" in line for line in rig.engine_saw())
    with rig.http(rig.alice) as client, client.stream(
        "POST", "/v1/chat/completions", json=ask("endless", stream=True)
    ) as answer:  # fmt: skip
        events = read_events(answer)
        next(events)
    _, completed = rig.of_request(answer.headers["x-request-id"])
    assert completed["status"] == "cancelled"
    assert completed["tokens_out"] >= 1
    wait_for(lambda: sum("ended" in line for line in rig.engine_saw()) == before + 1)


def test_endless_and_huge_streams_are_bounded(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(bounds={"answer_bytes": 100_000, "stream_bytes": 300_000}, timeouts={"request_s": 2}).start()
    with rig.http(rig.alice) as client:
        for order, code in (("endless", "timeout"), ("huge 200000", "engine_failed"), ("pieces 3000", "engine_failed")):
            with client.stream("POST", "/v1/chat/completions", json=ask(order, stream=True)) as answer:
                *_, last = read_events(answer)
            assert last["error"]["code"] == code, order
            assert rig.of_request(answer.headers["x-request-id"])[1]["status"] == code
        whole = client.post("/v1/chat/completions", json=ask("huge 200000"))
        assert whole.status_code == 502
        assert client.post("/v1/chat/completions", json=ask("huge 90000")).status_code == 200


def test_a_client_that_reads_nothing_holds_the_engine_back_and_not_memory(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(timeouts={"stall_s": 2}).start()
    before_kb = resident_kb(rig)
    connection = rig.raw()
    connection.sendall(rig.request(json.dumps(ask("pieces 400000", stream=True)).encode()))
    wait_for(lambda: any(entry["status"] == "stalled" for entry in rig.entries("completed")), 15)
    assert resident_kb(rig) < before_kb + 20_000
    connection.close()
    assert rig.is_ready()


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_two_tenants_and_a_canary(make_rig: Callable[..., Rig], count: int) -> None:
    """Interleaved conversations: nobody is given another's text, also over an engine that dies in the middle.

    What a client says of caches is not passed on. The same with the real engine: `tests/roles/molecule/engine`.
    """
    rig = make_rig().start()
    wrong: list[str] = []
    done = iter(range(2 * count))
    own = {"cache_salt": "shared", "id_slot": 0, "cache_prompt": True, "slot_id": 0}

    def say(client: httpx.Client, canary: str, stream: bool) -> str:
        with client.stream("POST", "/v1/chat/completions", json=ask(canary, **own, stream=stream)) as answer:
            if stream:
                events = list(read_events(answer)) if answer.status_code == 200 else []
                return text_of(events) if events[-1:] == ["[DONE]"] else ""
            answer.read()
            return answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else ""

    def talk(number: int) -> None:
        user = ("alice", "bob")[number % 2]
        with rig.http(getattr(rig, user)) as client:
            canary = f"canary-{user}-{number}"
            for stream in (False, True):
                if next(done) == count:
                    rig.kill("engine")
                    rig.start_engine()
                wait_for(lambda stream=stream: bool(text := say(client, canary, stream)) and said(text, canary), 60)

    def said(text: str, canary: str) -> bool:
        if text != canary:
            wrong.append(f"{canary}: {text}")
        return True

    with ThreadPoolExecutor(25) as pool:
        list(pool.map(talk, range(count)))
    assert wrong == []
    seen = [body for body in rig.engine_saw() if "canary-" in str(body)]
    salts = {user: {body["cache_salt"] for body in seen if f"canary-{user}" in str(body)} for user in ("alice", "bob")}
    assert 2 * count <= len(seen) < 2 * count + 100, "some were asked again"
    assert all(len(found) == 1 for found in salts.values())
    assert salts["alice"] != salts["bob"]
    assert not any("id_slot" in body or "slot_id" in body or body["cache_prompt"] for body in seen)
    assert "shared" not in str(salts)


def resident_kb(rig: Rig) -> int:
    lines = Path(f"/proc/{rig.pid('gateway')}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def wait_for(what: Callable[[], bool], timeout_s: float = 10) -> None:
    until_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < until_s
        time.sleep(0.05)
