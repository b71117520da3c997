"""Frames that a test sends into a guest, and a summary of what a capture holds.

Router advertisements follow RFC 4861 (section 4.2, options 4.6) and RFC 8106 (recursive name servers).
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dpkt  # type: ignore[import-untyped]

ALL_NODES = "ff02::1"
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_LIFETIME_S = 1800


@dataclass(frozen=True, order=True)
class Conversation:
    """All packets of a capture that are alike. Ports are 0 where the protocol has none."""

    ethertype: str  # "ip", "ip6", "arp" or 0x….
    proto: str  # "tcp", "udp", "icmp", "icmp6" or a number; empty for what is not IP
    src: str  # an IP address, or a hardware address for what is not IP
    dst: str
    sport: int
    dport: int
    kind: str  # such as "arp who-has 10.0.2.2", "tcp", "dns example.org", "router-solicitation"
    packets: int


def link_local(mac: str) -> str:
    """Return the EUI-64 link-local address of a hardware address (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def router_advertisement(src_mac: str, prefix: str, dns: str = "2001:db8::53") -> bytes:
    """Return an Ethernet frame that offers a default route, addresses of a prefix and a name server.

    Args:
        src_mac: The router's hardware address; its link-local address is made from it.
        prefix: Such as `2001:db8:1::/64`; on-link and autonomous.
        dns: Address of the recursive name server.
    """
    network = ipaddress.IPv6Network(prefix)
    mac = bytes.fromhex(src_mac.replace(":", ""))
    source = ipaddress.IPv6Address(link_local(src_mac)).packed
    target = ipaddress.IPv6Address(ALL_NODES).packed
    header = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, _LIFETIME_S, 0, 0)
    link_layer = struct.pack("!BB6s", 1, 1, mac)
    on_link_autonomous = 0xC0
    prefix_information = struct.pack(
        "!BBBBIII16s", 3, 4, network.prefixlen, on_link_autonomous, 86400, 14400, 0, network.network_address.packed
    )
    name_server = struct.pack("!BBHI16s", 25, 3, 0, _LIFETIME_S, ipaddress.IPv6Address(dns).packed)
    body = bytearray(header + link_layer + prefix_information + name_server)
    pseudo = source + target + struct.pack("!II", len(body), 58)
    struct.pack_into("!H", body, 2, _checksum(pseudo + bytes(body)))
    ip6 = struct.pack("!IHBB16s16s", 6 << 28, len(body), 58, 255, source, target)
    return _ALL_NODES_MAC + mac + b"\x86\xdd" + ip6 + bytes(body)


def conversations(pcaps: Iterable[Path]) -> list[Conversation]:
    """Return every distinct conversation of pcap files with its number of packets, most frequent first."""
    counts: Counter[tuple[str, str, str, str, int, int, str]] = Counter()
    for pcap in pcaps:
        with pcap.open("rb") as stream:
            for _, frame in dpkt.pcap.Reader(stream):
                counts[_describe(frame)] += 1
    return [Conversation(*key, packets) for key, packets in counts.most_common()]


def _describe(frame: bytes) -> tuple[str, str, str, str, int, int, str]:
    """Return the fields of a conversation but for the count."""
    ethernet = dpkt.ethernet.Ethernet(frame)
    packet = ethernet.data
    if isinstance(packet, dpkt.arp.ARP):
        source, target = (str(ipaddress.ip_address(raw)) for raw in (packet.spa, packet.tpa))
        kind = f"arp who-has {target}" if packet.op == dpkt.arp.ARP_OP_REQUEST else f"arp {source} is-at"
        return "arp", "", _mac(ethernet.src), _mac(ethernet.dst), 0, 0, kind
    if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
        return f"0x{ethernet.type:04x}", "", _mac(ethernet.src), _mac(ethernet.dst), 0, 0, "other"
    version = "ip6" if isinstance(packet, dpkt.ip6.IP6) else "ip"
    source, target = (str(ipaddress.ip_address(raw)) for raw in (packet.src, packet.dst))
    data = packet.data
    proto = type(data).__name__.lower() if not isinstance(data, bytes) else str(packet.p)
    sport, dport = getattr(data, "sport", 0), getattr(data, "dport", 0)
    return version, proto, source, target, sport, dport, _kind(proto, data)


def _kind(proto: str, data: Any) -> str:
    """Name what a packet is for, as far as its header tells."""
    if proto == "icmp6":
        neighbour = {133: "router-solicitation", 134: "router-advertisement"}
        neighbour |= {135: "neighbour-solicitation", 136: "neighbour-advertisement", 143: "mld-report"}
        return neighbour.get(data.type, f"icmp6 {data.type}")
    if proto == "icmp":
        return {0: "echo-reply", 8: "echo-request"}.get(data.type, f"icmp {data.type}")
    if proto == "udp" and 53 in (data.sport, data.dport):
        try:
            return f"dns {dpkt.dns.DNS(data.data).qd[0].name}"
        except (dpkt.UnpackError, IndexError, UnicodeDecodeError):
            return "dns"
    return proto


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
