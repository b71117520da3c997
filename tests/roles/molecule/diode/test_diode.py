"""The role diode: the log of the real process arrives beyond a wire, by one flow of one user; nothing comes back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.containers import Container
from tests.roles.release import FAR, NEAR, SCENARIOS, WIRE, play

SENDER, LINK = "airgap-diode.service", "airgap-diode-link.service"
AIRGAP, LOG = "/opt/airgap/current/venv/bin/airgap", "/srv/airgap/audit"
INSIDE = "ip netns exec far"


@pytest.fixture(scope="module", autouse=True)
def receiver(host: Any) -> Iterator[None]:
    """`airgap diode receive` in the namespace beyond the wire."""
    listen = f"{AIRGAP} diode receive --listen {FAR}:5514 --folder /root/far --log-key {LOG}/log.vkey"
    # What was sent while nobody listened is lost; here it is sent again.
    host.check_output(f"systemctl stop {SENDER}; rm -f /srv/airgap/diode/position")
    host.check_output(f"systemd-run --unit=receiver --collect {INSIDE} {listen}")
    wait(host, lambda: "listening" in host.check_output("journalctl --no-pager -u receiver.service"))
    host.check_output(f"systemctl start {SENDER}")
    yield
    host.check_output("systemctl stop receiver.service")


def status(host: Any) -> dict[str, Any]:
    """What has come."""
    found: dict[str, Any] = json.loads(host.run(f"{AIRGAP} diode status /root/far --json").stdout or "{}")
    return found


def wait(host: Any, met: Callable[[], bool]) -> None:
    """Until something holds."""
    deadline = time.monotonic() + 120
    while not met():
        assert time.monotonic() < deadline, host.check_output(
            "journalctl --no-pager -u receiver -u 'airgap-*' | tail -n 40"
        )
        time.sleep(0.5)


def counter(host: Any, comment: str) -> int:
    """Packets that a rule at the card has seen."""
    rules = json.loads(host.check_output("nft --json list table netdev airgap_diode"))["nftables"]
    (found,) = [entry["rule"] for entry in rules if entry.get("rule", {}).get("comment") == comment]
    return int(next(part["counter"]["packets"] for part in found["expr"] if "counter" in part))


def shout(host: Any, user: str, address: str, port: int) -> None:
    """Try to send a datagram as some user."""
    host.run(f"runuser -u {user} -- bash -c 'echo shout >/dev/udp/{address}/{port}'")


def test_the_log_arrives_and_is_verified(host: Any) -> None:
    wait(host, lambda: status(host).get("verified", 0) > 0)
    host.check_output("systemctl restart airgap-audit.service")  # which says so in its log
    size = int(host.check_output(f"sed -n 2p {LOG}/checkpoint"))
    wait(host, lambda: status(host)["verified"] >= size)
    assert status(host)["verdict"] in ("complete", "under way")
    assert "intact" in host.check_output(f"{AIRGAP} ledger verify --ledger /root/far --log-key {LOG}/log.vkey")


def test_a_sender_that_is_killed_goes_on(host: Any) -> None:
    host.check_output(f"systemctl kill --signal=KILL {SENDER}; systemctl restart airgap-audit.service")
    size = int(host.check_output(f"sed -n 2p {LOG}/checkpoint"))
    wait(host, lambda: status(host).get("verified", 0) >= size)
    assert status(host)["conflicts"] == 0


def test_nobody_else_sends_and_nothing_else_is_sent(host: Any) -> None:
    host.check_output(f"systemctl stop {SENDER}")
    try:
        before = counter(host, "log")
        for user in ("root", "airgap-audit", "airgap-gateway"):
            shout(host, user, FAR, 5514)
        for port in (53, 123, 443):
            shout(host, "airgap-diode", FAR, port)
        shout(host, "airgap-diode", "127.0.0.1", 5514)
        assert counter(host, "log") == before
        shout(host, "airgap-diode", FAR, 5514)
        assert counter(host, "log") == before + 1
    finally:
        host.check_output(f"systemctl start {SENDER}")


def test_with_ufw_and_without_it_the_flow_is_the_same(host: Any) -> None:
    host.check_output("systemctl stop ufw.service")
    try:
        before = counter(host, "log")
        shout(host, "root", FAR, 5514)
        shout(host, "airgap-diode", FAR, 53)
        shout(host, "airgap-diode", FAR, 5514)
        assert counter(host, "log") > before
        assert counter(host, "refused out") == 0
    finally:
        host.check_output("systemctl start ufw.service")


def test_nothing_comes_out_of_the_diode(host: Any) -> None:
    listening = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('0.0.0.0', 22)); s.settimeout(5); s.recv(9)"
    )
    host.check_output(f'systemd-run --unit=ear --collect python3 -I -c "{listening}"')
    mac = host.check_output(f"cat /sys/class/net/{WIRE}/address")
    host.check_output(f"ip -n far neighbour replace {NEAR} lladdr {mac} nud permanent dev {WIRE}")
    before = counter(host, "refused in")
    for _ in range(3):
        host.run(f"{INSIDE} bash -c 'echo shout >/dev/udp/{NEAR}/22'")
    assert counter(host, "refused in") > before
    wait(host, lambda: host.run("systemctl is-active ear.service").stdout.strip() != "active")
    assert "TimeoutError" in host.check_output("journalctl --no-pager -u ear.service")


def test_it_reads_the_log_and_can_neither_write_it_nor_sign(host: Any) -> None:
    sender = "runuser -u airgap-diode -G airgap-diode -G airgap-audit --"
    assert host.run(f"{sender} cat {LOG}/checkpoint").rc == 0
    assert host.run(f"{sender} cat {LOG}/log.key").rc != 0
    assert host.run(f"{sender} touch {LOG}/segments/x").rc != 0
    assert host.run("runuser -u airgap-diode -- cat /srv/airgap/audit/checkpoint").rc != 0
    pid = host.check_output(f"systemctl show --property=MainPID --value {SENDER}")
    assert host.check_output(f"ps -o user:32= -p {pid}") == "airgap-diode"
    assert "CapEff:\t0000000000000000" in host.check_output(f"cat /proc/{pid}/status")


def test_the_wire_has_one_neighbour_and_one_route(host: Any) -> None:
    (neighbour,) = json.loads(host.check_output(f"ip -json neighbour show dev {WIRE}"))
    assert (neighbour["dst"], neighbour["state"]) == (FAR, ["PERMANENT"])
    assert [route["dst"] for route in json.loads(host.check_output(f"ip -json route show dev {WIRE}"))] == [FAR]
    assert host.check_output(f"ip -6 address show dev {WIRE}") == ""


@pytest.mark.parametrize("unit", [SENDER, LINK])
def test_the_units_may_do_little(exposure: Callable[..., None], unit: str) -> None:
    exposure(unit)


def test_a_site_file_without_a_diode_takes_it_away(host: Any, container: Container) -> None:
    def run(**more: str) -> str:
        argv, environment = play(SCENARIOS / "diode" / "alone.yml", "--extra-vars", json.dumps(more))
        done = subprocess.run(container.enter(*argv, env=environment), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    run(diode_interface="")
    assert "changed=0" in run(diode_interface="")
    assert host.run("ls /etc/airgap/diode.json /etc/airgap/diode.nft /etc/systemd/system/airgap-diode*").stdout == ""
    assert host.run(f"systemctl is-active {SENDER} {LINK}").stdout.split() == ["inactive", "inactive"]
    assert "UP" not in json.loads(host.check_output(f"ip -json link show {WIRE}"))[0]["flags"]
    run()
    assert host.run(f"systemctl is-active {SENDER} {LINK}").stdout.split() == ["active", "active"]
    assert "changed=0" in run()
