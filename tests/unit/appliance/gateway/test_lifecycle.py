"""What ends while requests are open: keys, engines, clients, the audit process, the disk, the gateway itself."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import uvloop

from appliance.gateway import record
from appliance.gateway.live import apply
from appliance.gateway.refusal import Refused
from tests.bench.gateway import load
from tests.killing import SEED
from tests.unit.appliance.gateway.rig import Rig, ask, read_events
from tests.unit.appliance.gateway.test_attacks import wait_for


def ended_by(rig: Rig, key: str, act: Callable[[], object]) -> tuple[str, float]:
    """Begin an endless stream, act, and see with what error it ends, after how many seconds."""
    with rig.http(key) as client, client.stream(
        "POST", "/v1/chat/completions", json=ask("endless", stream=True)
    ) as answer:  # fmt: skip
        events = read_events(answer)
        next(events)
        act()
        begun_s = time.monotonic()
        *_, last = events
    assert last != "[DONE]"
    code = last["error"]["code"]
    assert rig.of_request(answer.headers["x-request-id"])[1]["status"] == code
    return code, time.monotonic() - begun_s


def test_a_revoked_key_ends_its_open_stream_within_2_s(rig: Rig) -> None:
    key = rig.add("frank")
    wait_for(lambda: is_known(rig, key))
    code, after_s = ended_by(rig, key, lambda: rig.revoke("frank"))
    assert code == "invalid_api_key"
    assert after_s < 2
    assert not is_known(rig, key)


def test_an_expired_key_ends_its_open_stream_within_2_s(rig: Rig) -> None:
    key = rig.add("grace", expires_at=int(time.time()) + 5)
    wait_for(lambda: is_known(rig, key))
    expires_at = rig._users["grace"]["expires_at"]
    code, _ = ended_by(rig, key, lambda: None)
    assert code == "invalid_api_key"
    assert time.time() - expires_at < 2
    assert not is_known(rig, key)


def is_known(rig: Rig, key: str) -> bool:
    with rig.http(key) as client:
        return client.get("/v1/models").status_code == 200


def test_an_engine_that_is_killed_ends_streams_with_an_error_and_comes_back(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig().start()
    code, _ = ended_by(rig, rig.alice, lambda: rig.kill("engine"))
    assert code == "engine_failed"
    with rig.http(rig.alice) as client:
        answer = client.post("/v1/chat/completions", json=ask("x"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
        assert rig.of_request(answer.headers["x-request-id"])[1]["status"] == "engine_failed"
        rig.start_engine()
        wait_for(lambda: client.post("/v1/chat/completions", json=ask("x")).status_code == 200)
    assert rig.gaps() == []


def test_a_client_that_goes_before_the_engine_answers_is_recorded_as_cancelled(rig: Rig) -> None:
    before = sum("ended" in line for line in rig.engine_saw())
    connection = rig.raw()
    connection.sendall(rig.request(json.dumps(ask("hang on")).encode()))
    wait_for(lambda: any("hang on" in str(line) for line in rig.engine_saw()))
    connection.close()
    wait_for(lambda: sum("ended" in line for line in rig.engine_saw()) == before + 1)
    wait_for(lambda: rig.entries("completed")[-1]["status"] == "cancelled")


def test_clients_that_go_at_any_time_leave_no_request_open(make_rig: Callable[..., Rig]) -> None:
    rig, chance = make_rig().start(), random.Random(SEED)
    print(f"AIRGAP_TEST_SEED={SEED}")
    for _ in range(60):
        connection = rig.raw()
        connection.sendall(rig.request(json.dumps(ask("slow 0.05", stream=bool(chance.getrandbits(1)))).encode()))
        time.sleep(chance.random() * 0.02)
        connection.close()
    with rig.management() as client:
        wait_for(lambda: "airgap_gateway_open_requests 0.0" in client.get("/metrics").text)
        wait_for(lambda: "airgap_gateway_unacknowledged_ends 0.0" in client.get("/metrics").text)
    assert not [gap for gap in rig.gaps() if "without an end" in gap]


def test_sigterm_drains(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(timeouts={"drain_s": 1.5}).start()
    found: dict[str, object] = {}

    def fetch(name: str, text: str) -> None:
        with rig.http(rig.alice) as client, client.stream(
            "POST", "/v1/chat/completions", json=ask(text, stream=True)
        ) as answer:  # fmt: skip
            *_, found[name] = read_events(answer)

    threads = [threading.Thread(target=fetch, args=pair) for pair in (("short", "slow 0.7"), ("long", "endless"))]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(rig.engine_saw()) == 2)
    with rig.http(rig.alice) as client:
        assert client.get("/healthz").status_code == 200
        rig.signal("gateway", signal.SIGTERM)
        wait_for(lambda: client.get("/healthz").status_code == 503)
        answer = client.post("/v1/chat/completions", json=ask("x"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    for thread in threads:
        thread.join()
    assert rig.wait("gateway") == 0
    assert found["short"] == "[DONE]"
    assert found["long"]["error"]["code"] == "shutting_down"  # type: ignore[index]
    assert sorted(entry["status"] for entry in rig.entries("completed")) == ["ok", "shutting_down"]
    assert rig.gaps() == []
    assert not rig.socket.exists()
    assert rig.said() == ""


def bodies(rig: Rig) -> int:
    """Requests that the engine has seen."""
    return sum("messages" in line for line in rig.engine_saw())


FULL = """
import os, pathlib
from custody.ledger import disk
real = disk._OpenFile.write
def write(self, offset, data):
    if pathlib.Path({switch!r}).exists():
        raise OSError(28, "No space left on device")
    real(self, offset, data)
disk._OpenFile.write = write
"""


def test_a_full_disk_refuses_requests_and_what_began_ends_later(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    switch = rig.base / "full"
    rig.start(before_audit=FULL.format(switch=str(switch)))
    with rig.http(rig.alice) as client:
        with client.stream("POST", "/v1/chat/completions", json=ask("endless", stream=True)) as stream:
            events = read_events(stream)
            next(events)
            switch.touch()
            seen = bodies(rig)
            for _ in range(3):
                answer = client.post("/v1/chat/completions", json=ask("x"))
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_record")
            denied = client.post("/v1/chat/completions", json={**ask("x"), "model": "none"})
            assert denied.status_code == 503, "what cannot be recorded is not decided either"
            assert bodies(rig) == seen
        time.sleep(0.3)
        switch.unlink()
        wait_for(lambda: client.post("/v1/chat/completions", json=ask("x")).status_code == 200)
    assert rig.of_request(stream.headers["x-request-id"])[1]["status"] == "cancelled"


def test_without_the_audit_process_nothing_is_served_and_ends_are_told_when_it_is_back(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(timeouts={"record_s": 1}).start()
    with rig.http(rig.alice) as client:
        with client.stream("POST", "/v1/chat/completions", json=ask("endless", stream=True)) as stream:
            events = read_events(stream)
            next(events)
            rig.audit.kill()
            wait_for(lambda: client.get("/healthz").status_code == 503)
            answer = client.post("/v1/chat/completions", json=ask("x"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_record")
        rig.audit.start()
        wait_for(lambda: client.post("/v1/chat/completions", json=ask("x")).status_code == 200, 20)
    assert rig.of_request(stream.headers["x-request-id"])[1]["status"] == "cancelled"


def test_an_audit_process_that_stands_still_refuses_requests_and_admits_nothing_unseen(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(timeouts={"record_s": 0.5}).start()
    process = rig.audit._process
    assert process is not None
    with rig.http(rig.alice) as client:
        seen = bodies(rig)
        process.send_signal(signal.SIGSTOP)
        begun_s = time.monotonic()
        answer = client.post("/v1/chat/completions", json=ask("x"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_record")
        assert time.monotonic() - begun_s < 3
        process.send_signal(signal.SIGCONT)
        assert rig.of_request(answer.headers["x-request-id"])[1]["status"] == "cancelled"
        assert bodies(rig) == seen
        assert client.post("/v1/chat/completions", json=ask("x")).status_code == 200


def test_an_audit_process_that_hangs_is_told_so_much_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is late is kept, since its number may still come; but not for ever more."""
    monkeypatch.setattr(record, "_WAITING", 5)

    async def ask_often() -> int:
        heard = 0

        async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            nonlocal heard
            while data := await reader.read(1 << 16):
                heard += data.count(b"admitted")

        await asyncio.start_unix_server(hang, str(tmp_path / "a.sock"))
        made = record.Record(tmp_path / "a.sock", 0.01)
        made.start()
        while not made.is_connected:
            await asyncio.sleep(0.01)
        for _ in range(20):
            with pytest.raises(Refused):
                await made.admitted({"decision": "allow"})
        await asyncio.sleep(0.05)
        await made.close(0)
        return heard

    assert asyncio.run(ask_often()) == 5


def test_an_end_that_the_audit_process_never_takes_is_told_once(make_rig: Callable[..., Rig]) -> None:
    """Another log than the one that admitted: its number is nobody's there."""
    rig = make_rig().start()
    with rig.http(rig.alice) as client:
        for _ in range(20):
            client.post("/v1/chat/completions", json=ask("x"))
        with client.stream("POST", "/v1/chat/completions", json=ask("endless", stream=True)) as stream:
            events = read_events(stream)
            next(events)
            rig.audit.kill()
            rig.audit.folder.rename(rig.base / "elsewhere")
        rig.audit.start()
        wait_for(rig.is_ready, 20)
    with rig.management() as client:
        wait_for(lambda: "airgap_gateway_unacknowledged_ends 0.0" in client.get("/metrics").text)
    time.sleep(1.5)
    assert rig.said().count("an end is not taken") == 1


def test_a_policy_with_a_typo_changes_nothing(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig().start()
    file = rig.base / "policies/site.cedar"
    good = file.read_text()
    with rig.http(rig.alice) as client:
        file.write_text(good.replace("permit", "pemrit"))
        rig.signal("gateway", signal.SIGHUP)
        wait_for(lambda: "refused, the old ones stay" in rig.said())
        assert client.post("/v1/chat/completions", json=ask("x")).status_code == 200
        file.write_text(good.replace('"general"', '"nothing"'))
        rig.signal("gateway", signal.SIGHUP)
        wait_for(lambda: client.post("/v1/chat/completions", json=ask("x")).status_code == 404)


BROKEN = """
import pathlib
from appliance.gateway import policy
real = policy.read_folder
def read(folder):
    if pathlib.Path({switch!r}).exists():
        raise ValueError("what nobody thought of")
    return real(folder)
policy.read_folder = read
"""


def test_policies_that_fail_otherwise_are_told_and_the_next_are_read(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    switch, file = rig.base / "broken", rig.base / "policies/site.cedar"
    rig.start(before_gateway=BROKEN.format(switch=str(switch)))
    switch.touch()
    rig.signal("gateway", signal.SIGHUP)
    wait_for(lambda: "policies: not read, the old ones stay: ValueError" in rig.said())
    switch.unlink()
    file.write_text(file.read_text().replace('"general"', '"nothing"'))
    with rig.http(rig.alice) as client:
        assert client.post("/v1/chat/completions", json=ask("x")).status_code == 200
        rig.signal("gateway", signal.SIGHUP)
        wait_for(lambda: client.post("/v1/chat/completions", json=ask("x")).status_code == 404)


def test_applied_policies_are_in_force_without_a_signal(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    live, other = rig.base / "live", rig.base / "other"
    live.mkdir()
    apply(rig.base / "policies", live)
    shutil.copytree(rig.base / "policies", other)
    text = (other / "site.cedar").read_text()
    (other / "site.cedar").write_text(text.replace('"general"', '"nothing"'))
    settings = json.loads(rig.config.read_text())
    rig.config.write_text(json.dumps({**settings, "policies": str(live / "current")}))
    rig.start()
    with rig.http(rig.alice) as client:
        assert client.post("/v1/chat/completions", json=ask("x")).status_code == 200
        version = apply(other, live).after
        wait_for(lambda: client.post("/v1/chat/completions", json=ask("x")).status_code == 404)
        wait_for(lambda: rig.said().count(f"policies: {version}") == 1)
        (live / version / "guard.yml").write_text("")
        assert apply(other, live).is_mended
        wait_for(lambda: rig.said().count(f"policies: {version}") == 2)


def test_a_directory_that_is_gone_lets_nobody_in(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig().start()
    assert is_known(rig, rig.alice)
    (rig.base / "people.db").unlink()
    wait_for(lambda: not is_known(rig, rig.alice))


def test_prompts_are_in_no_log(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig().start()
    with rig.http(rig.alice) as client:
        for text in ("secret-prompt", "refuse secret-prompt", "fail secret-prompt", "die secret-prompt"):
            for more in ({}, {"stream": True}, {"model": "none"}, {"n": "secret-prompt"}, {"temperature": 9}):
                client.post("/v1/chat/completions", json={**ask(text), **more})
    rig.signal("gateway", signal.SIGTERM)
    rig.wait("gateway")
    assert "secret-prompt" not in rig.said()
    assert "secret-prompt" not in json.dumps(rig.entries())


def killed_under_load(rig: Rig, kills: int) -> None:
    """Whoever was given an answer is in the log, however often the gateway dies."""
    chance, answered, stop = random.Random(SEED), [], threading.Event()  # type: random.Random, list[str], threading.Event
    print(f"AIRGAP_TEST_SEED={SEED}")

    def load(number: int) -> None:
        while not stop.is_set():
            try:
                with rig.http(rig.alice) as client:
                    while not stop.is_set():
                        more = {"stream": True} if number % 2 else {}
                        with client.stream("POST", "/v1/chat/completions", json=ask("pieces 3", **more)) as answer:
                            for data in answer.iter_bytes():
                                if answer.status_code == 200 and data:
                                    answered.append(answer.headers["x-request-id"])
            except (httpx.TransportError, OSError):
                time.sleep(0.02)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            count = len(answered)
            wait_for(lambda count=count: len(answered) > count + 5, 20)  # type: ignore[misc]
            time.sleep(chance.random() * 0.1)
            rig.kill("gateway")
            rig.start_gateway()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    admitted = {entry["request_id"] for entry in rig.entries("admitted") if entry["decision"] == "allow"}
    assert len(set(answered)) > kills * 5
    assert set(answered) <= admitted
    seen = bodies(rig)
    assert seen <= len(admitted), "the engine saw nothing that was not admitted"


def test_gateway_killed_10_times_answers_nothing_without_a_record(make_rig: Callable[..., Rig]) -> None:
    killed_under_load(make_rig().start(), 10)


@pytest.mark.nightly
def test_gateway_killed_50_times_answers_nothing_without_a_record(make_rig: Callable[..., Rig]) -> None:
    killed_under_load(make_rig().start(), 50)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_requests_leave_no_cycles_behind(make_rig: Callable[..., Rig]) -> None:
    """Which would hold bodies until somebody looks for them; here nobody does."""
    rig = make_rig().start(before_gateway="import gc; gc.disable(); gc.freeze = gc.disable")
    long = "x" * (1 << 20)
    refused = [
        ask(long), {**ask(long), "model": "none"}, {**ask(long), "model": "restricted"}, {**ask(long), "n": 7},
        ask(f"refuse {long[:400_000]}"), ask(f"fail {long[:400_000]}"), {"model": "demo", "input": long},
    ]  # fmt: skip
    served = [ask(long[:400_000]), ask("pieces 3", stream=True), ask("die", stream=True)]
    with rig.http(rig.alice) as client:
        for number in range(45):
            if number == 5:
                before = resident_bytes(rig.pid("gateway"))
            statuses = [client.post("/v1/chat/completions", json=body).status_code for body in refused]
            assert statuses == [400, 404, 403, 400, 400, 502, 400]
            for body in served:
                assert client.post("/v1/chat/completions", json=body).status_code == 200
            client.post("/v1/chat/completions", content=b"[" + b"1," * (1 << 19))
            for _ in range(3):
                with rig.raw() as connection:  # and gone
                    connection.sendall(rig.request(json.dumps(ask(f"hang {long[:400_000]}")).encode()))
    with rig.management() as client:
        wait_for(lambda: "airgap_gateway_open_requests 0.0" in client.get("/metrics").text)
    assert resident_bytes(rig.pid("gateway")) - before < 20 << 20, "one body of each round would be 40 MB"


@pytest.mark.nightly
def test_memory_is_flat_over_100000_requests(make_rig: Callable[..., Rig]) -> None:
    """From 20,000 on, when caches and pools are as full as they get.

    The bound is 4 MiB: a request that left one object behind would take 80,000 times 56 bytes, and more.
    """
    rig = make_rig().start()
    assert rig.audit._process is not None
    pids, request = (rig.pid("gateway"), rig.audit._process.pid), rig.request(json.dumps(ask("x")).encode())
    served, before = 0, (0, 0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while served < 100_000:
            _took, rate, wrong = runner.run(load(rig.socket, request, 32, 5))
            assert wrong == []
            served += int(rate * 5)
            if served >= 20_000 and not before[0]:
                before = resident_bytes(pids[0]), resident_bytes(pids[1])
    grown = [resident_bytes(pid) - then for pid, then in zip(pids, before, strict=True)]
    print(f"after {served}: gateway {before[0]} {grown[0]:+}, audit {before[1]} {grown[1]:+} bytes")
    assert max(grown) < 4 << 20, grown
    with rig.management() as client:
        wait_for(lambda: "airgap_gateway_unacknowledged_ends 0.0" in client.get("/metrics").text)
    assert rig.gaps() == []


def test_a_response_for_nobody_is_not_believed(make_rig: Callable[..., Rig], tmp_path: object) -> None:
    """An engine's socket that says something nobody asked for, or says two answers at once."""
    rig = make_rig()
    rig.audit.start()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(rig.base / "e.sock"))
    listening.listen()
    said = []
    for text in ("a", "b"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        content = {"id": "1", "object": "chat.completion", "created": 1, "model": "demo", "choices": [choice]}
        said.append(json.dumps(content))
    answer = "".join(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}" for text in said).encode()

    def engine() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            connection.recv(1 << 16)
            connection.sendall(answer)

    thread = threading.Thread(target=engine, daemon=True)
    thread.start()
    rig.audit.gateway().close()
    rig.start_gateway()
    with rig.http(rig.alice) as client:
        for _ in range(4):
            answered = client.post("/v1/chat/completions", json=ask("x"))
            assert answered.status_code in (200, 502)
            if answered.status_code == 200:
                assert answered.json()["choices"][0]["message"]["content"] == "a"
    listening.close()
