"""The filters open one flow for a site with a diode; without one they say nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.templates import render

ROOT = Path(__file__).parents[3]
DIODE = {
    "firewall_diode_interface": "enp5s0", "firewall_diode_address": "10.9.0.1", "firewall_diode_receiver": "10.9.0.2",
    "firewall_diode_port": 5514, "_firewall_diode_family": "4",
}  # fmt: skip
NONE = {
    "firewall_diode_interface": "", "firewall_diode_address": "", "firewall_diode_receiver": "",
    "firewall_diode_port": 5514, "_firewall_diode_family": "4",
}  # fmt: skip
FILTERS = [("firewall.nft.j2", "4"), ("before.rules.j2", "4"), ("before.rules.j2", "6")]


def lines(name: str, family: str, diode: dict[str, Any]) -> list[str]:
    """A template of the role firewall; its lines without blanks around them."""
    some = {"4": ["10.0.2.0/24"], "6": []}
    none: dict[str, list[str]] = {"4": [], "6": []}
    text = render("firewall", name, _family=family, _firewall_management=some, _firewall_time=none, **diode)
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize(("name", "family"), FILTERS)
def test_without_a_diode_a_filter_is_as_if_there_were_none(name: str, family: str) -> None:
    plain, more = lines(name, family, NONE), lines(name, family, DIODE)
    assert not [line for line in plain if "diode" in line]
    added = [line for line in more if line not in plain and line and not line.startswith("#")]
    assert [line for line in plain if line not in more] == []
    accepted = [line for line in added if line.lower().endswith("accept")]
    assert all("enp5s0" in line or "skuid" in line for line in added)
    assert len(accepted) == (family == "4")
    for line in accepted:
        assert all(word in line for word in ("airgap-diode", "10.9.0.1", "10.9.0.2", "5514", "enp5s0"))


def test_in_our_own_table_the_card_is_judged_before_anything_else_is_let_pass() -> None:
    found = [line for line in lines("firewall.nft.j2", "4", DIODE) if "accept" in line or "enp5s0" in line]
    inwards = [line.startswith('iifname "enp5s0"') and "drop" in line for line in found]
    assert inwards.index(True) == 1  # after the loopback alone
    output = found[found.index('oifname "lo" accept') :]
    assert output[1].startswith('oifname "enp5s0" meta skuid "airgap-diode" ip saddr 10.9.0.1 ip daddr 10.9.0.2')
    assert output[2].startswith('oifname "enp5s0" counter drop')


def test_the_playbook_s_role_does_nothing_without_a_card_but_remove_what_was_left() -> None:
    for file in ("configure.yml", "main.yml"):
        for task in yaml.safe_load((ROOT / "roles/diode/tasks" / file).read_text()):
            condition = task.get("when", "")
            assert condition.startswith("diode_interface | length") or task["name"] == "Configure wire and sender"
