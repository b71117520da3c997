"""The role network: what it writes, sets and refuses. A container has no card: that it comes up is seen in the VM."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from typing import Any

import pytest


def test_netplan_makes_one_static_card_of_it(host: Any) -> None:
    host.check_output("netplan generate")
    (unit,) = host.check_output("ls /run/systemd/network").split()
    parsed = configparser.ConfigParser(strict=False)
    parsed.read_string(host.check_output(f"cat /run/systemd/network/{unit}"))
    assert parsed["Match"]["PermanentMACAddress"] == "52:54:00:a1:00:01"
    network = parsed["Network"]
    assert (network["LinkLocalAddressing"], network["IPv6AcceptRA"]) == ("no", "no")
    assert network["Address"] == "10.0.2.15/24"
    assert "Gateway" not in network
    assert "DHCP" not in network
    assert (parsed["Route"]["Destination"], parsed["Route"]["Gateway"]) == ("172.20.0.0/16", "10.0.2.2")
    assert host.file("/etc/netplan/60-airgap.yaml").mode == 0o600


@pytest.mark.parametrize(("setting", "value"), [
    ("net.ipv4.ip_forward", "0"), ("net.ipv6.conf.all.forwarding", "0"), ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"), ("net.ipv4.conf.lo.rp_filter", "1"),
])  # fmt: skip
def test_no_routers_word_is_taken(host: Any, setting: str, value: str) -> None:
    assert host.check_output(f"sysctl -n {setting}") == value


def test_the_host_knows_its_name(host: Any) -> None:
    assert host.check_output("hostname") == "appliance-01"
    assert host.check_output("getent hosts appliance-01").split()[0] == "127.0.1.1"


def test_a_host_without_the_card_is_refused_and_left_as_it_is(host: Any, whole_role: Callable[..., str]) -> None:
    before = host.check_output("find /etc -xdev -type f -newer /etc/netplan/60-airgap.yaml")
    said = whole_role("network")
    assert "network card 52:54:00:a1:00:01: expected exactly one, found none" in said
    assert host.check_output("find /etc -xdev -type f -newer /etc/netplan/60-airgap.yaml") == before


def test_a_default_route_is_refused(whole_role: Callable[..., str]) -> None:
    said = whole_role("network", "--extra-vars", '{"network_routes": [{"to": "0.0.0.0/0", "via": "10.0.2.2"}]}')
    assert "no default route" in said
