"""The role firewall, asked from a neighbour's side: a network namespace on the other end of a wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.containers import Container

HOST, OPERATOR = "10.0.2.15", "10.0.2.2"  # as in the site file
STRANGER_NET = "198.51.100"
CONNECTED, REFUSED, DROPPED = 0, 1, 124  # bash's and timeout's


@pytest.fixture(scope="module", autouse=True)
def neighbour(host: Any) -> Iterator[None]:
    """A wire with an operator and a stranger at its end."""
    host.check_output(
        "ip netns add neighbour && ip link add wire type veth peer name wire netns neighbour"
        f" && ip address add {HOST}/24 dev wire && ip address add {STRANGER_NET}.15/24 dev wire && ip link set wire up"
        f" && ip -n neighbour address add {OPERATOR}/24 dev wire"
        f" && ip -n neighbour address add {STRANGER_NET}.2/24 dev wire && ip -n neighbour link set wire up"
    )
    yield  # a reboot, or destroy, takes it along


def connect(host: Any, address: str, port: int, prefix: str = "") -> int:
    """Try to open a TCP connection; how it ended."""
    return int(host.run(f"{prefix} timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}'").rc)


def test_the_operator_reaches_ssh_and_nothing_else(host: Any) -> None:
    inside = "ip netns exec neighbour"
    assert connect(host, HOST, 22, inside) == CONNECTED
    assert connect(host, HOST, 443, inside) == REFUSED  # let through; nobody listens yet
    assert connect(host, HOST, 8080, inside) == DROPPED


def test_a_stranger_reaches_nothing(host: Any) -> None:
    for port in (22, 443, 8080):
        assert connect(host, f"{STRANGER_NET}.15", port, "ip netns exec neighbour") == DROPPED


def test_the_host_reaches_nobody(host: Any) -> None:
    assert connect(host, OPERATOR, 22) == DROPPED
    assert connect(host, f"{STRANGER_NET}.2", 80) == DROPPED
    assert host.run(f"ping -c 1 -W 2 {OPERATOR}").rc != 0


def test_own_table_drops_and_outlives_a_stopped_ufw(host: Any) -> None:
    host.check_output("systemctl stop ufw.service")
    try:
        assert connect(host, OPERATOR, 22) == DROPPED
        assert connect(host, HOST, 8080, "ip netns exec neighbour") == DROPPED
    finally:
        host.check_output("systemctl start ufw.service")
    ruleset = json.loads(host.check_output("nft --json list table inet airgap"))["nftables"]
    policies = {entry["chain"]["hook"]: entry["chain"]["policy"] for entry in ruleset if "chain" in entry}
    assert policies == {"input": "drop", "output": "drop", "forward": "drop"}


def test_ufw_denies_both_ways(host: Any) -> None:
    said = host.check_output("ufw status verbose")
    assert "Status: active" in said
    assert "deny (incoming), deny (outgoing)" in said


def test_the_unit_may_do_little(exposure: Callable[..., None]) -> None:
    exposure("airgap-firewall.service")


def test_after_a_reboot_the_filter_is_there_before_the_network(host: Any, container: Container) -> None:
    container.reboot()
    assert host.check_output("nft list table inet airgap").count("policy drop") == 3
    began = {}
    for unit, moment in (("airgap-firewall", "ActiveEnter"), ("systemd-networkd", "InactiveExit")):
        shown = f"systemctl show --property={moment}TimestampMonotonic --value {unit}.service"
        began[unit] = int(host.check_output(shown))
    assert 0 < began["airgap-firewall"] < began["systemd-networkd"]
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
