"""Level 0 Discovery: what the drive says of itself before any session.

Follows Core 2.01, section 3.3.6; Opal SSC, section 3.1.1; Pyrite SSC 2.00, section 3.1.1 (from memory); Block SID
Authentication feature set 1.00, section 3 (from memory).
"""

from __future__ import annotations

import struct

from . import ranges, uids
from .faults import DATA_STORE_BYTES
from .state import State
from .tables import Mbr

COM_ID = 0x1000
TPER, LOCKING, GEOMETRY, DATA_STORE, OPAL_2 = 0x0001, 0x0002, 0x0003, 0x0202, 0x0203
PYRITE_1, PYRITE_2, BLOCK_SID, DATA_REMOVAL = 0x0302, 0x0303, 0x0402, 0x0404
_SYNC, _STREAMING = 0x01, 0x10
_OPAL_MINOR = 2  # Opal SSC 2.02
_CRYPTO_ERASE, _OVERWRITE = 0x04, 0x01  # data removal mechanisms


def discovery(state: State, *, sid_blocked: bool, cleared_by_reset: bool) -> bytes:
    """Return the answer to Security Receive of protocol 1, ComID 1.

    Args:
        sid_blocked: Whether Block SID is in force.
        cleared_by_reset: Whether a hardware reset would end it.
    """
    model = state.model
    features = [
        _feature(TPER, bytes([_SYNC | _STREAMING])),
        _feature(LOCKING, bytes([_locking_flags(state)]), version=3),
    ]
    if model.encrypts:
        features.append(_geometry(state))
        features.append(_feature(DATA_STORE, struct.pack(">2xHII", 1, DATA_STORE_BYTES, 1)))
        counts = struct.pack(">HHBHHBB", COM_ID, 1, 0, model.admins, model.users, 0, 0)
        features.append(_feature(OPAL_2, counts, 16, 2, _OPAL_MINOR))
    else:
        code, version = (PYRITE_2, 2) if model.ssc == "pyrite" else (PYRITE_1, 1)
        features.append(_feature(code, struct.pack(">HH5xBB", COM_ID, 1, 0, 0), 16, version))
    if model.ssc != "pyrite1":
        mechanisms = _CRYPTO_ERASE if model.encrypts else _OVERWRITE
        features.append(_feature(DATA_REMOVAL, bytes([0, state.removing << 1, mechanisms]), 32, 2))
    blocked = bytes([state.owned | sid_blocked << 1, cleared_by_reset])
    features.append(_feature(BLOCK_SID, blocked, version=2))
    body = b"".join(features)
    return struct.pack(">II40x", 44 + len(body), 1) + body


def _feature(code: int, body: bytes, length: int = 12, version: int = 1, minor: int = 0) -> bytes:
    return struct.pack(">HBB", code, version << 4 | minor, length) + body.ljust(length, b"\0")


def _locking_flags(state: State) -> int:
    """Return byte 4 of the Locking feature (Opal SSC, 3.1.1.3); bit 6: no MBR shadowing."""
    model = state.model
    flags = 0x01 | state.active << 1 | ranges.any_locked(state) << 2 | model.encrypts << 3
    if not model.has_shadow_mbr:
        return flags | 0x40
    if state.active:
        enabled = bool(state.locking.get(uids.MBR_CONTROL, Mbr.ENABLE))
        flags |= enabled << 4 | bool(state.locking.get(uids.MBR_CONTROL, Mbr.DONE)) << 5
    return flags


def _geometry(state: State) -> bytes:
    """Return the Geometry Reporting feature (Opal SSC, 3.1.1.4)."""
    model = state.model
    size, granularity, lowest = model.block_bytes, model.alignment_blocks, 0
    if model.bogus_geometry:
        size, granularity, lowest = 1, 0, 2**64 - 1
    return _feature(GEOMETRY, struct.pack(">B7xIQQ", 1, size, granularity, lowest), 28)
