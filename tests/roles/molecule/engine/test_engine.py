"""The role engine: the real server with the bundle's model, on the loopback, with next to no rights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.containers import Container
from tests.roles.release import give_volume, prepared

ASK = """
import json, urllib.request
body = {"messages": [{"role": "user", "content": "What is an air gap?"}], "temperature": 0, "max_tokens": 16}
kind = {"Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8080/v1/chat/completions", json.dumps(body).encode(), kind)
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


def wait(host: Any) -> None:
    """Until the engine listens."""
    deadline = time.monotonic() + 60
    while not host.run("ss -H -lnt 'sport = :8080'").stdout:
        assert time.monotonic() < deadline, host.check_output("journalctl --no-pager -u airgap-engine | tail -n 30")
        time.sleep(0.3)


def test_the_model_answers(host: Any) -> None:
    wait(host)
    answer = json.loads(host.check_output(f"python3 -I -c '{ASK}'"))
    assert answer["choices"][0]["message"]["content"].strip()


def test_it_listens_on_the_loopback_alone_as_a_user_of_its_own(host: Any) -> None:
    assert {line.split()[3] for line in host.check_output("ss -H -lnt 'sport = :8080'").splitlines()} == {
        "127.0.0.1:8080"
    }
    pid = host.check_output("systemctl show --property=MainPID --value airgap-engine.service")
    assert host.check_output(f"ps -o user:32= -p {pid}") == "airgap-engine"
    assert "CapEff:\t0000000000000000" in host.check_output(f"cat /proc/{pid}/status")


def test_it_goes_and_comes_with_the_volume(host: Any, container: Container) -> None:
    host.check_output("systemctl stop srv-airgap.mount")
    assert host.run("systemctl is-active airgap-engine.service").stdout.strip() == "inactive"
    give_volume(container, prepared())
    test_the_model_answers(host)


def test_it_may_do_little(exposure: Callable[[str], float]) -> None:
    exposure("airgap-engine.service")
