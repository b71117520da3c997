"""The role audit: the real process, asked at its socket, with next to no rights."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.containers import Container
from tests.roles.release import SCENARIOS, give_volume, prepared
from tests.unit.appliance.audit.conftest import ORIGIN
from tests.unit.appliance.audit.old import RULES, make_old

UNIT, SOCKET, LOG = "airgap-audit.service", "/run/airgap-audit/audit.sock", "/srv/airgap/audit"
CONFIG, SEGMENT = "/etc/airgap/audit.json", f"{LOG}/segments/{0:020}"
AIRGAP = "/opt/airgap/current/venv/bin/airgap"
CLIENT = (SCENARIOS / "audit/client.py").read_text()
REQUEST = {
    "user_id": "alice", "key_id": "k1", "client_ip": "10.20.0.7", "role": "user", "model": "words",
    "model_digest": "sha256:0", "policy_id": "all", "decision": "deny", "reason": "a test", "prompt_sha256": "0" * 64,
    "request_id": "req-1",
}  # fmt: skip


def tell(host: Any, user: str = "airgap-gateway") -> Any:
    """Tell of a request as some user; returns the answer, None when the process hangs up."""
    message = json.dumps({"id": 1, "admitted": REQUEST})
    said = host.run(f"runuser -u {user} -- python3 -I -c '{CLIENT}' {SOCKET} '{message}'")
    assert said.rc == 0, said.stderr
    return json.loads(said.stdout)


def wait(host: Any) -> None:
    """Until it listens."""
    eventually(host, f"test -S {SOCKET}")


def eventually(host: Any, command: str) -> None:
    """Until a command ends well."""
    deadline = time.monotonic() + 60
    while host.run(command).rc:
        assert time.monotonic() < deadline, host.check_output(f"journalctl --no-pager -u {UNIT} | tail -n 30")
        time.sleep(0.2)


def entries(host: Any) -> list[Any]:
    """What the log holds of denied requests."""
    return list(json.loads(host.check_output(f"{AIRGAP} audit search --decision deny --json"))["entries"])


def test_what_the_gateway_tells_is_in_the_log(host: Any) -> None:
    wait(host)
    seq = tell(host)["seq"]
    found = entries(host)[-1]
    assert (found["seq"], found["user_id"], found["reason"]) == (seq, "alice", "a test")
    assert "verdict:   intact, complete" in host.check_output(f"{AIRGAP} audit verify")


def test_nobody_else_is_heard_or_reads(host: Any) -> None:
    wait(host)
    before = len(entries(host))
    assert tell(host, "airgap-nginx") is None
    assert len(entries(host)) == before
    folder = host.file(LOG)
    assert (folder.user, folder.group, folder.mode) == ("airgap-audit", "airgap-audit", 0o750)
    assert host.run(f"runuser -u airgap-gateway -- ls {LOG}").rc != 0


def test_one_that_is_killed_comes_back_and_has_lost_nothing(host: Any) -> None:
    wait(host)
    seq = tell(host)["seq"]
    host.check_output(f"systemctl kill --signal=KILL {UNIT}; rm -f {SOCKET}")
    wait(host)
    assert tell(host)["seq"] > seq
    assert seq in {entry["seq"] for entry in entries(host)}
    assert "intact" in host.check_output(f"{AIRGAP} audit verify")


def test_root_alone_orders_a_hold(host: Any) -> None:
    wait(host)
    order = f"{AIRGAP} audit hold add case-17 --reason 'a test'"
    assert host.run(f"runuser -u airgap-gateway -- {order}").rc != 0
    host.check_output(order)
    (hold,) = json.loads(host.check_output(f"{AIRGAP} audit hold list --json"))["holds"]
    assert (hold["name"], hold["reason"]) == ("case-17", "a test")
    host.check_output(f"{AIRGAP} audit hold lift case-17 --reason over")
    assert json.loads(host.check_output(f"{AIRGAP} audit hold list --json"))["holds"] == []


def test_what_is_old_is_compressed_and_expires(host: Any, container: Container, tmp_path: Path) -> None:
    """By the process under its unit, with the rights that this leaves it."""
    make_old(tmp_path)
    kept = json.loads(host.file("/etc/airgap/audit.json").content_string)
    archive = subprocess.run(["tar", "-C", tmp_path, "-c", "log"], capture_output=True, check=True).stdout
    host.check_output(f"systemctl stop {UNIT}; mv {LOG} {LOG}.kept")
    try:
        container.run(f"mkdir /run/old; tar -C /run/old -x; mv /run/old/log {LOG}", stdin=archive)
        host.check_output(f"chown -R airgap-audit: {LOG}; chmod 0750 {LOG}; test -e {SEGMENT}.log")
        container.put(json.dumps({**kept, **RULES, "origin": ORIGIN, "warm_days": 90}).encode(), CONFIG)
        container.put(tmp_path / "receipt", "/run/old/receipt")
        host.check_output(f"systemctl start {UNIT}")
        wait(host)
        eventually(host, f"! test -e {SEGMENT}.log")  # it is idle, and looks every ten seconds
        assert "intact" in host.check_output(f"{AIRGAP} audit verify")
        assert "seq" in tell(host)
        said = host.check_output(f"{AIRGAP} audit expire --receipt /run/old/receipt")
        assert said.startswith("entries 0 to 65535, until 2018-08-16: expired: tombstone at entry "), said
        assert host.check_output(f"ls {LOG}/segments").splitlines()[0].endswith("0.gone")
        assert "verdict:   intact, complete" in host.check_output(f"{AIRGAP} audit verify")
        assert "seq" in tell(host)
    finally:
        host.check_output(f"systemctl stop {UNIT}; rm -r {LOG} /run/old; mv {LOG}.kept {LOG}")
        container.put(json.dumps(kept).encode(), CONFIG)
        host.check_output(f"systemctl start {UNIT}")


def test_it_goes_and_comes_with_the_volume(host: Any, container: Container) -> None:
    host.check_output("systemctl stop srv-airgap.mount")
    assert host.run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
    # Another, empty volume: a process that began a log by itself would hide that one is gone.
    give_volume(container, prepared())
    host.check_output(f"install -d -o airgap-audit -g airgap-audit -m 0750 {LOG}; systemctl reset-failed {UNIT}")
    host.run(f"systemctl start {UNIT}")
    time.sleep(2)
    assert not host.file(SOCKET).exists
    host.check_output(f"systemctl stop {UNIT}; runuser -u airgap-audit -- {AIRGAP} audit init")
    host.check_output(f"systemctl start {UNIT}")
    wait(host)
    assert "seq" in tell(host)


def test_it_has_no_network_and_runs_as_a_user_of_its_own(host: Any) -> None:
    wait(host)
    pid = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    cards = json.loads(host.check_output(f"nsenter --net --target {pid} ip -json address"))
    assert [card["ifname"] for card in cards] == ["lo"]
    assert host.check_output(f"ps -o user:32= -p {pid}") == "airgap-audit"
    assert "CapEff:\t0000000000000000" in host.check_output(f"cat /proc/{pid}/status")


def test_it_may_do_little(exposure: Callable[..., None]) -> None:
    exposure(UNIT)
