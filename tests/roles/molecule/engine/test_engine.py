"""The role engine: the real server with the bundle's model, at a Unix socket, with next to no rights."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

from tests.containers import Container
from tests.roles.release import SCENARIOS, SECOND, give_volume, prepared

UNIT, SOCKET = "airgap-engine-airgap-words.service", "/run/airgap-engine/airgap-words/airgap-words.sock"
SECOND_UNIT, SECOND_SOCKET = f"airgap-engine-{SECOND}.service", f"/run/airgap-engine/{SECOND}/{SECOND}.sock"
#: Of two tenants; 1000 at night: minutes on a machine of its own, hours on one with two cores.
CONVERSATIONS = int(os.environ.get("AIRGAP_TEST_CONVERSATIONS", "100"))
CLIENT = (SCENARIOS / "engine/client.py").read_text()


def ask(host: Any, path: str, body: dict[str, Any] | None = None, socket: str = SOCKET) -> tuple[int, Any]:
    """Ask as somebody of the gateway's group; returns the status and the answer."""
    said = host.run_expect(
        [0],
        f"runuser -u airgap-gateway -g airgap-engine -- python3 -I -c '{CLIENT}' {socket} {path} '{json.dumps(body)}'",
    ).stdout
    status, _, answer = said.partition("\n")
    return int(status), json.loads(answer) if answer.startswith("{") else answer


def wait(host: Any, unit: str = UNIT, socket: str = SOCKET) -> None:
    """Until the model is loaded."""
    deadline = time.monotonic() + 120
    while host.run(f"test -S {socket}").rc or ask(host, "/health", socket=socket)[0] != 200:
        assert time.monotonic() < deadline, host.check_output(f"journalctl --no-pager -u {unit} | tail -n 30")
        time.sleep(0.3)


def test_the_model_answers(host: Any) -> None:
    wait(host)
    body = {"messages": [{"role": "user", "content": "What is an air gap?"}], "temperature": 0, "max_tokens": 16}
    status, answer = ask(host, "/v1/chat/completions", body)
    assert (status, answer["model"]) == (200, "airgap-words")
    assert answer["choices"][0]["message"]["content"].strip()
    assert ask(host, "/v1/models")[1]["data"][0]["id"] == "airgap-words"


def test_a_second_model_has_an_engine_and_a_limit_of_its_own(host: Any) -> None:
    """It answers at its own socket, also while the first is away."""
    wait(host)
    wait(host, SECOND_UNIT, SECOND_SOCKET)
    shown = "systemctl show --property=MemoryMax --value"
    limit, second_limit = (int(host.check_output(f"{shown} {each}")) for each in (UNIT, SECOND_UNIT))
    assert 0 <= limit - 2 * second_limit <= 1 << 20
    host.check_output(f"systemctl stop {UNIT}")
    try:
        answer = ask(host, "/v1/models", socket=SECOND_SOCKET)[1]
        assert [each["id"] for each in answer["data"]] == [SECOND]
        body = {"prompt": "An air gap is", "max_tokens": 4}
        assert ask(host, "/v1/completions", body, SECOND_SOCKET)[0] == 200
    finally:
        host.check_output(f"systemctl start {UNIT}")


def test_slots_are_not_shown_and_figures_are(host: Any) -> None:
    wait(host)
    assert ask(host, "/slots")[0] == 501
    status, figures = ask(host, "/metrics")
    assert status == 200
    assert "llamacpp:tokens_predicted_total" in figures


def test_it_has_no_network_and_runs_as_a_user_of_its_own(host: Any) -> None:
    wait(host)
    pid = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    assert host.check_output("ss -H -lnt 'sport = :8080'") == ""
    cards = json.loads(host.check_output(f"nsenter --net --target {pid} ip -json address"))
    assert [card["ifname"] for card in cards] == ["lo"]
    assert host.check_output(f"ps -o user:32= -p {pid}") == "airgap-engine"
    assert "CapEff:\t0000000000000000" in host.check_output(f"cat /proc/{pid}/status")


def test_its_socket_is_for_the_gateway_alone(host: Any) -> None:
    folder = host.file(SOCKET.rpartition("/")[0])
    assert (folder.user, folder.group, folder.mode) == ("airgap-engine", "airgap-engine", 0o750)
    done = host.run(f"runuser -u nobody -- python3 -I -c '{CLIENT}' {SOCKET} /health null")
    assert done.rc != 0
    assert "PermissionError" in done.stderr


def test_no_tenant_hears_another(host: Any) -> None:
    """Also over an engine that is killed in the middle."""
    wait(host)
    kill = f"systemctl kill --signal=KILL {UNIT}"
    found = json.loads(host.check_output(f"python3 -I {SCENARIOS}/engine/tenants.py {SOCKET} {CONVERSATIONS} {kill}"))
    assert (found["answers"], found["leaks"]) == (CONVERSATIONS, [])
    assert found["asked again"] > 0
    assert found["tenants apart"] > 0.1, found  # twice what is tolerated, or it would see nothing


def test_it_goes_and_comes_with_the_volume(host: Any, container: Container) -> None:
    host.check_output("systemctl stop srv-airgap.mount")
    assert host.run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
    assert not host.file(SOCKET).exists
    give_volume(container, prepared())
    test_the_model_answers(host)


def test_one_that_is_killed_comes_back(host: Any) -> None:
    wait(host)
    host.check_output(f"systemctl kill --signal=KILL {UNIT}")
    time.sleep(1)
    test_the_model_answers(host)
    assert int(host.check_output(f"systemctl show --property=NRestarts --value {UNIT}")) > 0


def test_what_it_logs_is_not_what_was_asked(host: Any) -> None:
    wait(host)
    canary = "quokka"
    ask(host, "/v1/completions", {"prompt": f"the {canary} is", "max_tokens": 4})
    log = host.check_output(f"journalctl --no-pager -u {UNIT}")
    assert canary not in log
    assert re.search("model loaded", log)


def test_it_may_do_little(exposure: Callable[..., None]) -> None:
    exposure(UNIT, 1.5)
