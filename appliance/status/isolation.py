"""Whether anything can get in or out beside what the site allowed: asked of the kernel, not of configuration.

The packet filter is compared whole: the file that the role wrote is loaded into an empty network namespace, and what
the kernel holds there must be what it holds here. A rule that somebody added shows, whatever it says.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from appliance.diode import config
from appliance.status.line import Line, line
from custody._run import run

TOPIC = "isolation"
FILTER_FILE = Path("/etc/airgap/firewall.nft")
NETPLAN_FILE = Path("/etc/netplan/60-airgap.yaml")

_TABLE = "table inet airgap"
_LIST = f"list {_TABLE}\n"
#: What listens by design, besides the loopback interface: ssh and the gateway.
_SERVED = {("tcp", 22), ("tcp", 443)}
#: Protocols of the packet sockets that networkd holds by itself, if_ether.h.
_ARP_LLDP = (0x0806, 0x88CC)
#: Larger networks than these are a way out as good as a default route (0.0.0.0/1, 2000::/3).
_WIDEST_BITS = {4: 8, 6: 7}
#: `tcp LISTEN 0 128 0.0.0.0:8000 0.0.0.0:* users:(("python3",pid=1,fd=3))`, ss(8)
_SOCKET = re.compile(
    r'(?P<kind>\S+)\s+\S+\s+\d+\s+\d+\s+(?P<local>\S+):(?P<port>\S+)\s+\S+\s*(?:users:\(\("(?P<by>[^"]*))?'
)


def look() -> Iterator[Line]:
    """Every way in or out that the kernel has."""
    yield _routes()
    yield _own_filter()
    yield _ufw()
    yield _forwarding()
    yield _listening()
    yield _packet_sockets()
    diode = config.load() if config.FILE.is_file() else None
    if diode is not None:
        yield _diode(diode)
    yield from _interfaces(diode.interface if diode is not None else "")


def our_card() -> str:
    """MAC address of the one card that the site uses, from netplan's file."""
    return str(_netplan()["match"]["macaddress"])


def our_addresses() -> list[str]:
    """The host's own addresses, without prefix lengths, from netplan's file."""
    return [str(ipaddress.ip_interface(address).ip) for address in _netplan()["addresses"]]


def _netplan() -> Any:
    try:
        return yaml.safe_load(NETPLAN_FILE.read_text())["network"]["ethernets"]["airgap"]
    except yaml.YAMLError as error:
        raise ValueError(f"{NETPLAN_FILE}: not YAML") from error


def _routes() -> Line:
    found = []
    for family, version in (("-4", 4), ("-6", 6)):
        text = run(["ip", "-json", family, "route", "show", "table", "all", "type", "unicast"]).text
        for route in json.loads(text or "[]"):
            to = route["dst"]
            if to == "default" or ipaddress.ip_network(to).prefixlen < _WIDEST_BITS[version]:
                by = route.get("gateway") or route.get("dev") or "several"
                found.append(f"{to} by {by} in table {route.get('table', 'main')}")
    return line(TOPIC, "default routes", ", ".join(found) or "none, v4 and v6, every table", bad=bool(found))


def _own_filter() -> Line:
    what = "own packet filter"
    if not FILTER_FILE.is_file():
        return line(TOPIC, what, f"{FILTER_FILE} is missing", bad=True)
    # One line a transaction (-i): a table is listed whole only after the transaction that made it.
    script = f'include "{FILTER_FILE}"\n{_LIST}'.encode()
    wanted = run(["unshare", "--net", "nft", "--stateless", "--interactive"], stdin=script).text
    found = run(["nft", "--stateless", "--interactive"], stdin=_LIST.encode()).text
    wanted, found = wanted[wanted.find(_TABLE) :], found[found.find(_TABLE) :]
    if not found.startswith(_TABLE):
        return line(TOPIC, what, "not loaded: systemctl restart airgap-firewall", bad=True)
    drops = len(re.findall(r"type filter hook (?:input|output|forward) priority [^;]*; policy drop;", found))
    if found != wanted or drops != 3:
        return line(TOPIC, what, f"not as in {FILTER_FILE.name} (nft list {_TABLE})", bad=True)
    return line(TOPIC, what, "as installed: drops in, out and forward")


def _ufw() -> Line:
    ruleset = json.loads(run(["nft", "-j", "list", "ruleset"]).text)["nftables"]
    chains = {(c["family"], c["name"]): c for c in (entry.get("chain") for entry in ruleset) if c}
    missing = []
    for family, prefix in (("ip", "ufw"), ("ip6", "ufw6")):
        for name in ("INPUT", "OUTPUT", "FORWARD"):
            if chains.get((family, name), {}).get("policy") != "drop":
                missing.append(f"{family} {name}")
        if (family, f"{prefix}-user-input") not in chains:
            missing.append(f"{prefix}-user-input")
    found = f"no drop in: {', '.join(missing)}" if missing else "drops in, out and forward, v4 and v6"
    return line(TOPIC, "ufw", found, bad=bool(missing))


def _forwarding() -> Line:
    keys = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
    on = [key for key in keys if (file := Path("/proc/sys/net") / key).exists() and file.read_text().strip() != "0"]
    return line(TOPIC, "forwarding", f"on: {', '.join(on)}" if on else "off", bad=bool(on))


def _listening() -> Line:
    seen, strange = set(), []
    for row in run(["ss", "-H", "-l", "-n", "-t", "-u", "-p"]).text.splitlines():
        if not (socket := _SOCKET.match(row)):
            raise ValueError(f"ss: cannot read {row!r}")
        address = re.sub(r"[\[\]]|%.*", "", socket["local"])
        port = (socket["kind"], int(socket["port"]))
        if address != "*" and ipaddress.ip_address(address).is_loopback:
            continue
        seen.add(port)
        if port not in _SERVED:
            strange.append(f"{port[0]} {port[1]} ({socket['by'] or 'unknown'})")
    found = ", ".join(strange) or ", ".join(f"{kind} {port}" for kind, port in sorted(seen)) or "nothing"
    return line(TOPIC, "listening", found, bad=bool(strange))


def _packet_sockets() -> Line:
    """Sockets below the packet filter, as DHCP clients use them; networkd has some for ARP and LLDP by itself."""
    found = set()
    for row in run(["ss", "-H", "-0", "-n", "-p"]).text.splitlines():
        protocol, names = re.search(r"\[(\d+)\]", row), set(re.findall(r'\("([^"]+)",pid=', row))
        if names != {"systemd-network"} or not protocol or int(protocol[1]) not in _ARP_LLDP:
            found |= names or {"unknown"}
    return line(TOPIC, "packet sockets", ", ".join(sorted(found)) or "none of others", warning=bool(found))


def _diode(settings: config.Config) -> Line:
    """The filter at the card of the diode: nothing in, one flow out."""
    table = run(["nft", "--stateless", "list", "table", "netdev", "airgap_diode"], ok=range(256)).text
    chains = re.findall(r'type filter hook (?:in|e)gress device "([^"]*)" priority [^;]*; policy drop;', table)
    passing = [row for row in table.splitlines() if re.search(r"\b(accept|jump|goto|queue|fwd|dup)\b", row)]
    flow = f"daddr {settings.address} udp dport {settings.port} "
    bad = chains != [settings.interface] * 2 or len(passing) != 1 or flow not in passing[0]
    found = f"one flow to {settings.address} by {settings.interface}, nothing in"
    return line(TOPIC, "diode", "not as installed: systemctl restart airgap-diode-link" if bad else found, bad=bad)


def _interfaces(diode: str) -> Iterator[Line]:
    links = json.loads(run(["ip", "-json", "address", "show"]).text)
    mac, wanted = our_card(), set(our_addresses())
    ours = [link for link in links if link.get("address") == mac]
    others = [
        link["ifname"]
        for link in links
        if "UP" in link["flags"] and link["link_type"] != "loopback" and link not in ours and link["ifname"] != diode
    ]
    if others:
        yield line(TOPIC, "interfaces", f"also up: {', '.join(others)}", bad=True)
    else:
        names = ", ".join(link["ifname"] for link in ours) or "no"
        yield line(TOPIC, "interfaces", f"{names} card of the site, no other up", bad=len(ours) != 1)
    there = {entry["local"] for link in ours for entry in link["addr_info"]}
    strange, missing = sorted(there - wanted), sorted(wanted - there)
    complaints = [f"{address} is not the site's" for address in strange] + [f"{a} is missing" for a in missing]
    yield line(TOPIC, "addresses", ", ".join(complaints or sorted(there)), bad=bool(complaints))
