"""What holds after every role: nothing got out, nothing is left over, and the release's own Ansible did it."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.roles.release import FAR, RELEASE, WIRE, WORK


def test_there_is_no_way_out(host: Any) -> None:
    cards = json.loads(host.check_output("ip -json link"))
    wire = [WIRE] if os.environ["MOLECULE_SCENARIO_NAME"] == "diode" else []
    assert [card["ifname"] for card in cards] == ["lo", *wire]
    routes = host.check_output("ip -4 route; ip -6 route show table all type unicast | grep -v 'dev lo'; true")
    assert [line.split()[0] for line in routes.splitlines()] == [FAR for _ in wire]
    probe = host.run("timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'")
    assert probe.rc == 1
    assert "unreachable" in probe.stderr


def test_the_ansible_is_the_one_that_ships(host: Any) -> None:
    lock = json.loads((WORK / "demo.lock.json").read_text())
    (locked,) = [wheel["version"] for wheel in lock["wheels"] if wheel["name"] == "ansible-core"]
    python, program = RELEASE / "venv/bin/python", RELEASE / "venv/bin/ansible-playbook"
    assert f"[core {locked}]" in host.check_output(f"{python} -I {program} --version")


def test_all_is_in_effect(host: Any) -> None:
    assert host.run("ls /run/airgap/debt").stdout == ""
    stale = "systemctl show --property=Id,NeedDaemonReload '*' | grep -B1 NeedDaemonReload=yes"
    assert host.run(stale).stdout == ""
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_no_temporary_file_is_left(host: Any) -> None:
    assert host.check_output("find /etc /opt/airgap -xdev -name '.*.airgap' -o -xdev -name '.ansible_tmp*'") == ""
