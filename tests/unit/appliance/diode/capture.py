"""Everything that comes in by a card, until standard input ends: `capture.py CARD`; prints each kind of frame once.

The tap of packet(7) lies before every filter of the kernel: what it does not see did not come.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections import Counter

_ETH_P_ALL, _SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING, _SO_RCVBUFFORCE = 3, 263, 6, 23, 33


def kind(frame: bytes) -> str:
    """MAC address and ethertype, of UDP over IPv4 also address and port; all of the destination."""
    ethertype = int.from_bytes(frame[12:14], "big")
    text = f"{frame[:6].hex(':')} {ethertype:04x}"
    if ethertype == 0x0800 and frame[23] == socket.IPPROTO_UDP:
        return f"{text} {socket.inet_ntoa(frame[30:34])} {int.from_bytes(frame[36:38], 'big')}"
    return text


with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as tap:
    tap.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
    tap.bind((sys.argv[1], 0))
    print("ready", flush=True)
    found: Counter[str] = Counter()
    while sys.stdin not in (ready := select.select([tap, sys.stdin], [], [])[0]) or tap in ready:
        if tap in ready:
            found[kind(tap.recv(65536))] += 1
        elif sys.stdin in ready:
            break
    dropped = struct.unpack("2I", tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
    print(json.dumps({"dropped": dropped, "frames": found}))
