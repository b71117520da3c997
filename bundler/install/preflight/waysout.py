"""Other ways out of the host than the one card: each is a finding, unless the site file accepts it by its name.

An accepted one is still told, as a warning with the site's reason. Paths below /sys: kernel, Documentation/ABI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bundler.install.preflight.finding import Case, Finding, entries, read
from bundler.install.preflight.network import NET

#: Engines whose networks go through FORWARD, past rules for the host itself; as /proc/PID/comm spells them.
_ENGINES = ("dockerd", "containerd", "podman", "conmon", "crio", "lxd", "incusd", "libvirtd", "systemd-nspawn")
#: include/uapi/linux/if.h
_IFF_UP = 1
#: PCI base class 02 (network), subclass 80 (other): wireless cards.
_WIRELESS_CLASS = "0x0280"
#: A USB bus in a device's path below /sys/devices.
_USB = re.compile(r"usb\d+")


@dataclass(frozen=True)
class WayOut:
    """One way out, by the name that the site file accepts it by: `KIND:NAME`."""

    name: str
    found: str
    remedy: str


def check_ways_out(case: Case) -> Iterator[Finding]:
    """Ways out that nobody accepted; accepted ones, and acceptances of what is not there, as warnings."""
    reasons = {entry.what: entry.reason for entry in case.site.accept}
    ways = {way.name: way for way in (*_cards(case), *_radios(case), *_controllers(case), *_software(case))}
    for name, way in ways.items():
        if name in reasons:
            yield Finding(name, "no other way out", way.found, f"accepted by the site: {reasons[name]}", False)
        else:
            yield Finding(name, "no other way out", way.found, f"{way.remedy}; or accept it by name in the site file")
    for name in sorted(reasons.keys() - ways.keys()):
        yield Finding(name, "a way out that is there", "accepted, and not there", "take it out of the site file", False)


def _cards(case: Case) -> Iterator[WayOut]:
    cards, mac = entries(case.at(NET)), case.site.network.interface_mac
    ours = any(read(card / "address") == mac for card in cards)  # without it, `check_card` has said so
    for card in cards:
        if card.name == "lo" or not card.is_dir():
            continue
        kind, name = _device_type(read(card / "uevent")), card.name
        device = card / "device"
        if (card / "phy80211").exists() or (card / "wireless").exists() or kind == "wlan":
            yield WayOut(f"wireless:{name}", "wireless card", "remove it, or switch it off in the firmware")
        elif kind == "wwan":
            yield WayOut(f"modem:{name}", "mobile network modem", "remove it")
        elif not device.exists():
            if int(read(card / "flags") or "0", 16) & _IFF_UP:
                remedy = f"remove what makes it, then: ip link delete {name}"
                yield WayOut(f"virtual:{name}", f"{kind or 'tunnel or other'} interface, up", remedy)
        elif read(card / "address") == mac:
            continue
        elif any(_USB.fullmatch(part) for part in device.resolve().parts):
            yield WayOut(f"usb-network:{name}", "USB network adapter", "unplug it")
        elif case.site.diode is not None and name == case.site.diode.interface:
            continue  # one flow leaves by it, which the site file names
        elif ours and read(card / "carrier") == "1":
            yield WayOut(f"card:{name}", "a second card with a cable", "pull the cable")


def _radios(case: Case) -> Iterator[WayOut]:
    for device in entries(case.at("/sys/bus/pci/devices")):
        if read(device / "class").startswith(_WIRELESS_CLASS) and not (device / "net").exists():
            yield WayOut(f"wireless:{device.name}", "wireless card without a driver", "remove it")
    for radio in entries(case.at("/sys/class/bluetooth")):
        yield WayOut(f"bluetooth:{radio.name}", "Bluetooth", "remove it, or switch it off in the firmware")
    for modem in (*entries(case.at("/sys/class/wwan")), *entries(case.at("/sys/class/usbmisc"))):
        if modem.name.startswith("cdc-wdm") or modem.name.removeprefix("wwan").isdigit():
            yield WayOut(f"modem:{modem.name}", "mobile network modem", "remove it")


def _controllers(case: Case) -> Iterator[WayOut]:
    # DMI type 38 is the IPMI device (SMBIOS 3.7, section 7.39): told by the firmware, with or without a driver.
    found = [
        *entries(case.at("/sys/class/ipmi")),
        *case.at("/dev").glob("ipmi*"),
        *case.at("/sys/firmware/dmi/entries").glob("38-*"),
    ]
    if found:
        remedy = "switch its network off in the firmware and pull its cable"
        yield WayOut("bmc:ipmi", f"a management controller ({found[0].name})", remedy)


def _software(case: Case) -> Iterator[WayOut]:
    running = {read(process / "comm") for process in entries(case.at("/proc")) if process.name.isdigit()}
    for engine in sorted(running.intersection(_ENGINES)):
        yield WayOut(f"containers:{engine}", "running; its networks bypass the host's rules", f"remove {engine}")
    for version, path in (("ipv4", "ipv4/ip_forward"), ("ipv6", "ipv6/conf/all/forwarding")):
        if read(case.at(f"/proc/sys/net/{path}")) == "1":
            key = f"net.{path.replace('/', '.')}"
            yield WayOut(f"forwarding:{version}", f"{key} = 1", f"find what sets it, then: sysctl -w {key}=0")


def _device_type(uevent: str) -> str:
    return next((line[8:] for line in uevent.splitlines() if line.startswith("DEVTYPE=")), "")
