"""The one card, its addresses, and the ports that the appliance serves."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path

from bundler.install import paths
from bundler.install.preflight.finding import Case, Finding, entries, read
from custody._run import run

NET = "/sys/class/net"
_PROCESS = re.compile(r'"([^"]+)",pid=(\d+)')


def check_card(case: Case) -> Iterator[Finding]:
    """The card that the site file names by its MAC address is there."""
    mac = case.site.network.interface_mac
    found = {read(card / "address"): card.name for card in entries(case.at(NET)) if (card / "device").exists()}
    if mac not in found:
        cards = ", ".join(f"{name} {address}" for address, name in sorted(found.items())) or "no card"
        yield Finding("network.interface_mac", mac, cards, "compare with: ip -brief link")


def check_diode(case: Case) -> Iterator[Finding]:
    """The diode's card is there, and another one than the site's."""
    if case.site.diode is None:
        return
    name, mac = case.site.diode.interface, case.site.network.interface_mac
    cards = {card.name: read(card / "address") for card in entries(case.at(NET)) if (card / "device").exists()}
    if cards.get(name) in (None, mac):
        found = ", ".join(f"{card} {address}" for card, address in sorted(cards.items())) or "no card"
        yield Finding("diode.interface", f"{name}, a card of its own", found, "compare with: ip -brief link")


def check_addresses(case: Case) -> Iterator[Finding]:
    """No other card of this host has an address of the site file."""
    wanted = {str(ipaddress.ip_interface(address).ip) for address in case.site.network.addresses}
    for card in json.loads(run(["ip", "-json", "address", "show"]).stdout):
        taken = sorted(wanted & {entry["local"] for entry in card["addr_info"]})
        if taken and card.get("address") != case.site.network.interface_mac:
            name = card["ifname"]
            remedy = f"take it away: ip address flush dev {name}, and out of the configuration of {name}"
            yield Finding(f"address {', '.join(taken)}", "on the site's card alone", f"on {name}", remedy)


def check_ports(case: Case) -> Iterator[Finding]:
    """Ports of the appliance are free, or held by what is to hold them."""
    listening = run(["ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes"]).text
    for port in (22, 443):
        holders: dict[str, str] = {}
        for line in listening.splitlines():
            if line.split()[3].rpartition(":")[2] == str(port):
                found = _PROCESS.findall(line) or [("the kernel", "0")]
                holders.update({program: _unit(pid) for program, pid in found if not _expected(port, program, pid)})
        for program, unit in sorted(holders.items()):
            remedy = f"systemctl disable --now {unit}" if unit else f"stop {program}"
            yield Finding(f"port {port}", "free", f"{program} {unit}".strip(), remedy)


def _expected(port: int, program: str, pid: str) -> bool:
    if port == 22:
        return program in ("sshd", "systemd")  # systemd: by ssh.socket
    return paths.CURRENT.is_symlink() and _unit(pid) == "nginx.service"


def _unit(pid: str) -> str:
    try:
        group = Path("/proc", pid, "cgroup").read_text().strip().rpartition("/")[2]
    except OSError:
        return ""
    return group if group.endswith((".service", ".socket")) else ""
