"""Bring the host's network from whatever it was to what netplan says: static addresses and no way out.

Puts aside every earlier configuration (ifupdown, systemd-networkd, other netplan files, a link that is the resolver's
configuration), applies ours live, and then looks at the kernel: an address or route that nobody asked for is removed,
a default route in any table is an error if it stays. An ssh session outlives it as long as its address stays.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.before import set_aside
from appliance.units import mask
from custody._run import run
from custody.errors import EnvironmentProblem, OperatorMistake

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NETPLAN = Path("/etc/netplan")

#: Programs that configure networks beside systemd-networkd; killed, because asked to end they take addresses along.
RIVALS = (
    "networking.service", "ifup@.service", "ifupdown-wait-online.service", "dhcpcd.service", "dhcpcd@.service",
    "NetworkManager.service", "NetworkManager-wait-online.service", "NetworkManager-dispatcher.service",
    "connman.service", "wpa_supplicant.service", "wpa_supplicant@.service", "cloud-init-local.service",
    "cloud-init-network.service", "cloud-init.service", "systemd-resolved.service",
    "systemd-networkd-wait-online.service", "systemd-networkd-wait-online@.service",
)  # fmt: skip
_APPLY_S = 30

_RESOLV = Path("/etc/resolv.conf")
_RESOLV_TEXT = "# Written by airgap (role network): there is no name server, names are in /etc/hosts.\n"


@dataclass(frozen=True)
class Route:
    """A network reached through a neighbour."""

    to: Network
    via: ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Wanted:
    """What the interface with this MAC address shall have, all of it."""

    mac: str
    addresses: tuple[Interface, ...]
    routes: tuple[Route, ...]
    netplan_file: Path


def settle(wanted: Wanted, *, reload: bool, dry_run: bool = False) -> list[str]:
    """Make the running network what is wanted, and nothing besides.

    Args:
        wanted: the whole of it; `netplan_file` is in place already.
        reload: the file has changed.
        dry_run: only say what would change.

    Returns:
        What was, or would be, done, one line each.

    Raises:
        OperatorMistake: no interface, or several, with that MAC address.
        EnvironmentProblem: afterwards an address or a route is still missing, or a way out is still there.
    """
    interface = find_interface(wanted.mac)
    done = [f"{path}: set aside" for path in _set_aside_files(wanted.netplan_file, dry_run)]
    rivals = mask(RIVALS, kill=True, dry_run=dry_run)
    done += [f"{unit}: masked" for unit in rivals.masked] + [f"{unit}: ended" for unit in rivals.stopped]
    wrong = surplus(interface, wanted) + lacking(interface, wanted)
    if dry_run or not (reload or done or wrong):
        return done + wrong
    run(["netplan", "generate"])
    run(["systemctl", "enable", "systemd-networkd.service"])
    run(["systemctl", "restart", "systemd-networkd.service"])
    _wait(interface, wanted)
    done.append(f"{interface}: netplan's configuration applied")
    for line in surplus(interface, wanted):
        _remove(line)
        done.append(f"removed: {line}")
    left = surplus(interface, wanted) + lacking(interface, wanted)
    if left:
        raise EnvironmentProblem(
            f"network: expected {_told(wanted)} and no way out, found: {'; '.join(left)}",
            "ip address; ip route show table all",
        )
    return done


def find_interface(mac: str, root: Path = Path("/sys/class/net")) -> str:
    """Name of the network card with a MAC address; virtual interfaces (a bridge shares a card's) do not count."""
    found = {
        path.name: (path / "address").read_text().strip()
        for path in sorted(root.iterdir())
        if (path / "device").exists() and (path / "address").exists()
    }
    names = [name for name, address in found.items() if address == mac.lower()]
    if len(names) != 1:
        there = ", ".join(f"{name} {address}" for name, address in found.items()) or "no card at all"
        raise OperatorMistake(
            f"network card {mac}: expected exactly one, found {', '.join(names) or 'none'}; cards here: {there}",
            "ip link, then correct the MAC address in site.yml",
        )
    return names[0]


def _set_aside_files(keep: Path, dry_run: bool) -> list[Path]:
    candidates = [path for path in NETPLAN.glob("*.yaml") if path != keep]
    candidates += list(Path("/etc/systemd/network").glob("*.network"))
    candidates += [path for path in Path("/etc/network/interfaces.d").glob("*") if path.is_file()]
    main = Path("/etc/network/interfaces")
    if main.is_file():
        candidates.append(main)
    if _RESOLV.is_symlink() or not _RESOLV.exists() or _RESOLV.read_text() != _RESOLV_TEXT:
        candidates.append(_RESOLV)
    for path in () if dry_run else candidates:
        set_aside(path)
    if _RESOLV in candidates and not dry_run:
        _RESOLV.write_text(_RESOLV_TEXT)
    return sorted(candidates)


def _addresses(interface: str) -> set[Interface]:
    links: list[dict[str, Any]] = json.loads(run(["ip", "-json", "address", "show", "dev", interface]).text)
    return {
        ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}")
        for link in links
        for entry in link.get("addr_info", ())
    }


def _routes() -> list[tuple[str, str]]:
    """Every unicast route in every table: (family option, route as `ip route del` takes it)."""
    found = []
    for family in ("-4", "-6"):
        text = run(["ip", family, "route", "show", "table", "all", "type", "unicast"]).text
        found += [(family, " ".join(line.split())) for line in text.splitlines() if line.strip()]
    return found


def surplus(interface: str, wanted: Wanted) -> list[str]:
    """Default routes in any table, and addresses of the card that nobody asked for, as arguments of `ip`."""
    lines = [f"{family} route del {route}" for family, route in _routes() if route.startswith("default")]
    for address in sorted(_addresses(interface) - set(wanted.addresses), key=str):
        lines.append(f"-{address.version} address del {address} dev {interface}")
    return lines


def lacking(interface: str, wanted: Wanted) -> list[str]:
    """Addresses and routes that are wanted and not there. Without a carrier none of them can be, and none is told."""
    if (Path("/sys/class/net") / interface / "operstate").read_text().strip() == "down":
        return []
    missing = [f"no address {address}" for address in sorted(set(wanted.addresses) - _addresses(interface), key=str)]
    present = [route for _family, route in _routes()]
    for route in wanted.routes:
        destination = str(route.to.network_address) if route.to.num_addresses == 1 else str(route.to)
        if not any(line.startswith(f"{destination} via {route.via} ") for line in present):
            missing.append(f"no route to {route.to} via {route.via}")
    return missing


def _wait(interface: str, wanted: Wanted) -> None:
    deadline = time.monotonic() + _APPLY_S
    while lacking(interface, wanted) and time.monotonic() < deadline:
        time.sleep(0.3)


def _remove(line: str) -> None:
    # It may have gone by itself in the meantime; what is left is looked at again.
    skipped = {"proto", "expires", "error", "pref", "hoplimit", "mtu", "linkdown", "onlink"}
    words, source = [], iter(line.split())
    for word in source:
        if word in skipped - {"linkdown", "onlink"}:
            next(source, None)
        elif word not in skipped:
            words.append(word)
    run(["ip", *words], ok=range(256))


def _told(wanted: Wanted) -> str:
    return ", ".join([str(a) for a in wanted.addresses] + [f"{r.to} via {r.via}" for r in wanted.routes])


def strangers(networks: Sequence[Network], port: int = 22) -> list[str]:
    """Peers of established sessions on a port whose address is in none of the networks; loopback does not count."""
    text = run(["ss", "--no-header", "--tcp", "--numeric", "state", "established", f"( sport = :{port} )"]).text
    found = set()
    for line in text.splitlines():
        host = line.split()[3].rsplit(":", 1)[0].strip("[]").split("%")[0]
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not address.is_loopback and not any(address in network for network in networks):
            found.add(str(address))
    return sorted(found)
