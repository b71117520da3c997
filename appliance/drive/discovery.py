"""What a drive says of itself before anybody has proven anything: Level 0 Discovery.

TCG Storage Core 2.01, section 3.3.6; Opal SSC 2.02, section 3.1.1; Block SID Authentication 1.01, section 4.1. Parses
bytes, reaches no device. A feature that is cut off, or named twice, is an error; one that nobody here knows is passed
over.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from custody.errors import DriveFailed

#: Codes of features, as the SSCs give them.
TPER, LOCKING, GEOMETRY, DATA_REMOVAL, BLOCK_SID = 0x0001, 0x0002, 0x0003, 0x0404, 0x0402
OPAL_2 = 0x0203
#: Security subsystem classes by feature code; none but Opal 2 is taken.
CLASSES = {
    0x0100: "Enterprise",
    0x0200: "Opal 1",
    OPAL_2: "Opal 2",
    0x0301: "Opalite",
    0x0302: "Pyrite 1",
    0x0303: "Pyrite 2",
    0x0304: "Ruby",
    0x0305: "Key per I/O",
}
#: Features of which bytes are read below, and how many at least.
_READ, _READ_BYTES = (LOCKING, OPAL_2, BLOCK_SID, DATA_REMOVAL), 2
_HEADER_BYTES = 48
#: More features than any drive has.
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Discovery:
    """A drive's state as everybody may read it.

    Attributes:
        com_id: where Opal 2 listens; 0 without it.
        classes: names of its security subsystem classes, in the drive's order.
        supported: it has a Locking SP.
        activated: the Locking SP is active: somebody owns the drive.
        locked: at least one range is locked.
        encrypts: what is written is encrypted on the medium.
        shadowed: reads return a shadow MBR until it is done.
        sid_is_set: SID has another PIN than the one that everybody can read; None: the drive does not say.
        sid_blocked: SID is refused until power goes; None: the drive does not say.
        sid_is_msid: a new drive's SID has the PIN that everybody can read.
        removal_interrupted: a revert was cut off; data are undefined until the next one.
    """

    com_id: int
    classes: tuple[str, ...]
    supported: bool
    activated: bool
    locked: bool
    encrypts: bool
    shadowed: bool
    sid_is_set: bool | None
    sid_blocked: bool | None
    sid_is_msid: bool
    removal_interrupted: bool


def parse(data: bytes) -> Discovery:
    """Read the answer to Security Receive of protocol 1, ComID 1.

    Raises:
        DriveFailed: it is not what the specification says.
    """
    features = _features(data)
    locking = features.get(LOCKING, b"\0")[0]
    opal = features.get(OPAL_2, b"")
    block_sid = features.get(BLOCK_SID)
    return Discovery(
        com_id=int.from_bytes(opal[:2], "big"),
        classes=tuple(CLASSES[code] for code in features if code in CLASSES),
        supported=bool(locking & 0x01),
        activated=bool(locking & 0x02),
        locked=bool(locking & 0x04),
        encrypts=bool(locking & 0x08),
        shadowed=bool(locking & 0x10) and not locking & 0x20,
        sid_is_set=bool(block_sid[0] & 0x01) if block_sid else None,
        sid_blocked=bool(block_sid[0] & 0x02) if block_sid else None,
        sid_is_msid=len(opal) > 9 and opal[9] == 0,
        removal_interrupted=bool(features.get(DATA_REMOVAL, b"\0\0")[1] & 0x02),
    )


def _features(data: bytes) -> Mapping[int, bytes]:
    if len(data) < _HEADER_BYTES:
        raise _malformed(f"{len(data)} bytes, fewer than the header's {_HEADER_BYTES}")
    end = 4 + int.from_bytes(data[:4], "big")
    if not _HEADER_BYTES <= end <= min(len(data), _MAX_BYTES):
        raise _malformed(f"a length of {end} in {len(data)} bytes")
    found: dict[int, bytes] = {}
    at = _HEADER_BYTES
    while at < end:
        if at + 4 > end:
            raise _malformed("a feature cut off")
        code, _version, length = struct.unpack_from(">HBB", data, at)
        body = data[at + 4 : min(at + 4 + length, end)]
        if len(body) < max(length, _READ_BYTES if code in _READ else 0):
            raise _malformed(f"feature {code:#06x} cut off")
        if code in found:
            raise _malformed(f"feature {code:#06x} twice")
        found[code] = body
        at += 4 + length
    return found


def _malformed(found: str) -> DriveFailed:
    return DriveFailed(
        f"Level 0 Discovery: expected what TCG Storage Core 3.3.6 says, found {found}",
        "the drive's firmware is at fault",
    )
