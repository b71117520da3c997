"""What is surplus, what is lacking, who would be cut off; from outputs of ip and ss as Debian 13 prints them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import network
from custody.errors import OperatorMistake
from tests.unit.appliance.conftest import Programs

WANTED = network.Wanted(
    mac="52:54:00:a1:00:01",
    addresses=(ipaddress.ip_interface("10.0.2.15/24"),),
    routes=(
        network.Route(ipaddress.ip_network("172.20.0.0/16"), ipaddress.ip_address("10.0.2.2")),
        network.Route(ipaddress.ip_network("172.21.0.9/32"), ipaddress.ip_address("10.0.2.2")),
    ),
    netplan_file=Path("/etc/netplan/60-airgap.yaml"),
)
GOOD = """\
10.0.2.0/24 dev ens2 proto kernel scope link src 10.0.2.15
172.20.0.0/16 via 10.0.2.2 dev ens2 proto static
172.21.0.9 via 10.0.2.2 dev ens2 proto static
"""


def addresses(*given: str) -> tuple[int, str]:
    """Return what `ip -json address` prints."""
    found = [dict(zip(("local", "prefixlen"), (a.split("/")[0], int(a.split("/")[1])), strict=True)) for a in given]
    return 0, json.dumps([{"addr_info": found}])


@pytest.fixture
def host(programs: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A host whose network is as wanted."""
    monkeypatch.setattr(Path, "read_text", lambda _self: "up\n")
    answers = {
        "ip -json address": addresses("10.0.2.15/24"),
        "ip -4 route show table all": (0, GOOD),
        "ip -6 route show table all": (0, ""),
    }
    return programs("appliance.network", answers=answers)


def test_a_settled_network_has_nothing_surplus_and_lacks_nothing(host: Programs) -> None:
    assert network.surplus("ens2", WANTED) == []
    assert network.lacking("ens2", WANTED) == []


def test_default_routes_of_every_table_and_family_are_surplus(host: Programs) -> None:
    host.answers["ip -4 route show table all"] = (0, GOOD + "default via 10.0.2.2 dev ens2 table 77 metric 5\n")
    host.answers["ip -6 route show table all"] = (0, "default via fe80::2 dev ens2 proto ra metric 1024 expires 9sec\n")
    assert network.surplus("ens2", WANTED) == [
        "-4 route del default via 10.0.2.2 dev ens2 table 77 metric 5",
        "-6 route del default via fe80::2 dev ens2 proto ra metric 1024 expires 9sec",
    ]


def test_link_local_and_other_addresses_are_surplus(host: Programs) -> None:
    host.answers["ip -json address"] = addresses("10.0.2.15/24", "10.0.2.99/24", "fe80::5054:ff:fea1:1/64")
    assert network.surplus("ens2", WANTED) == [
        "-4 address del 10.0.2.99/24 dev ens2",
        "-6 address del fe80::5054:ff:fea1:1/64 dev ens2",
    ]


def test_missing_addresses_and_routes_are_told(host: Programs) -> None:
    host.answers["ip -json address"] = addresses("10.0.2.15/16")
    host.answers["ip -4 route show table all"] = (0, "172.21.0.9 via 10.0.2.3 dev ens2\n")
    assert network.lacking("ens2", WANTED) == [
        "no address 10.0.2.15/24",
        "no route to 172.20.0.0/16 via 10.0.2.2",
        "no route to 172.21.0.9/32 via 10.0.2.2",
    ]


def card(root: Path, name: str, mac: str, real: bool = True) -> None:
    """Make a card of a /sys/class/net."""
    (root / name).mkdir()
    (root / name / "address").write_text(f"{mac}\n")
    if real:
        (root / name / "device").mkdir()


def test_the_card_is_found_by_its_address_and_a_bridge_is_not(tmp_path: Path) -> None:
    card(tmp_path, "ens2", "52:54:00:a1:00:01")
    card(tmp_path, "br0", "52:54:00:a1:00:01", real=False)
    card(tmp_path, "ens3", "52:54:00:a1:00:02")
    assert network.find_interface("52:54:00:A1:00:01", tmp_path) == "ens2"
    with pytest.raises(OperatorMistake, match=r"found none.*ens2 52:54:00:a1:00:01"):
        network.find_interface("52:54:00:a1:00:09", tmp_path)


def test_two_cards_with_one_address_are_refused(tmp_path: Path) -> None:
    card(tmp_path, "ens2", "52:54:00:a1:00:01")
    card(tmp_path, "ens3", "52:54:00:a1:00:01")
    with pytest.raises(OperatorMistake, match="ens2, ens3"):
        network.find_interface("52:54:00:a1:00:01", tmp_path)


def test_sessions_from_elsewhere_are_named(programs: Callable[..., Programs]) -> None:
    sessions = """\
0 0 10.0.2.15:22 10.0.2.2:50000
0 36 [::ffff:10.0.2.15]:22 [::ffff:192.0.2.7]:50001
0 0 [fd00::15]:22 [fd00::2]:50002
0 0 [fe80::1%ens2]:22 [fe80::2%ens2]:50003
0 0 127.0.0.1:22 127.0.0.1:50004
"""
    programs("appliance.network", answers={"ss": (0, sessions)})
    networks = [ipaddress.ip_network("10.0.2.0/24"), ipaddress.ip_network("fd00::/64")]
    assert network.strangers(networks) == ["192.0.2.7", "fe80::2"]
