"""What values of a site file and an inventory look like."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from bundler.manifest.form import Form, text
from custody.errors import TrustRejected
from custody.trust.keys import PublicKey
from custody.trust.profile import P384_SCHEME

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
#: A wider network is a mistake: two halves of the address space are the whole.
_WIDEST_PREFIX = 8

HostName = Annotated[str, text(_LABEL, "a host name of one label: lower-case letters, digits and -")]
DomainName = Annotated[
    str, text(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*{_LABEL}", "a domain name in lower case, like appliance.site.example")
]
Mac = Annotated[
    str,
    text(
        "(?!(?:00:){5}00)[0-9a-f][02468ace](?::[0-9a-f]{2}){5}",
        'the MAC address of one card, lower case and in quotes, like "52:54:00:a1:00:01"',
    ),
]
CardName = Annotated[str, text("[a-z][a-z0-9]{0,14}", "the name of a card: lower-case letters and digits, like enp4s0")]
Serial = Annotated[
    str, text("[A-Za-z0-9._-]{1,64}", "a serial of letters, digits and ._-, in quotes if all are digits")
]
#: The kinds of `preflight.waysout`, and the host's own names.
WayOutName = text(
    r"(bluetooth|bmc|card|containers|forwarding|modem|usb-network|virtual|wireless):[A-Za-z0-9._:@-]{1,32}",
    "the name of a way out, like bmc:ipmi",
)
Reason = text(r"[^\x00-\x1f\x7f]{8,200}", "a reason of 8 to 200 characters on one line")


def _absolute(path: Path) -> Path:
    if not re.fullmatch("/[A-Za-z0-9/._-]+", str(path)) or ".." in path.parts:
        raise ValueError("not absolute")
    return path


def _address(value: str) -> str:
    address = ipaddress.ip_address(value)
    if address.is_multicast or address.is_loopback or address.is_unspecified or "%" in value:
        raise ValueError("not one machine's")
    return str(address)


def _interface(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f:.]+/\d+", value):
        raise ValueError("no prefix length")
    interface = ipaddress.ip_interface(value)
    _address(str(interface.ip))
    whole = interface.network
    if whole.num_addresses > 2 and interface.ip in (whole.network_address, whole.broadcast_address):
        raise ValueError("the network's own address")
    return str(interface)


def _network(value: str) -> str:
    network = ipaddress.ip_network(value)
    if network.prefixlen < _WIDEST_PREFIX or not re.fullmatch(r"[0-9a-f:.]+(/\d+)?", value):
        raise ValueError("too wide")
    return str(network)


def _public_key(value: str) -> str:
    try:
        key = PublicKey.from_text(value)
    except TrustRejected as error:
        raise ValueError(str(error)) from error
    if key.scheme != P384_SCHEME:
        raise ValueError("not P-384")
    return value


EscrowKey = Annotated[str, Form("the text of a NAME.pub that `airgap keys new` made, of scheme p384", _public_key)]
AbsolutePath = Annotated[Path, Form("an absolute path of letters, digits and /._-, without ..", _absolute)]
#: As above; somebody may have written the secret itself.
SecretPath = Annotated[
    Path, Form("the absolute path of a file with the secret, never the secret itself", _absolute, secret=True)
]
InterfaceAddress = Annotated[
    str, Form("an address of one machine with its prefix length, like 10.0.2.15/24", _interface)
]
Network = Annotated[
    str, Form(f"a network without host bits, of /{_WIDEST_PREFIX} or smaller, like 10.0.2.0/24", _network)
]
Address = Annotated[str, Form("the IP address of one machine, like 10.0.2.2", _address)]
MigProfile = Annotated[str, text(r"[1-9]g\.\d{1,3}gb(?:\+[a-z.]+)?", "a MIG profile, like 3g.71gb")]
