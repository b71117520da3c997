"""Identify data structures and log pages.

Follows the NVM Express Base Specification 1.4, section 5.15 (Identify) and 5.14 (Get Log Page), and NVM Express over
Fabrics 1.1, section 4.1 (what fabrics add to Identify Controller). Fields that are not set are 0.
"""

from __future__ import annotations

import hashlib
import struct

from .faults import Model

VERSION = 0x10400
MDTS_BYTES = 1 << 18  # 2**6 pages of 4 KiB
IN_CAPSULE_BYTES = 8192  # an admin command of 8 KiB brings its data along; so may an I/O command
MAX_COMMANDS = 128
_NAMESPACE = 1
_NVM_COMMAND_SET = 0


def controller(serial: str, name: str, controller_id: int) -> bytes:
    """Return Identify Controller (CNS 1).

    Args:
        name: The subsystem's NQN.
    """
    page = bytearray(4096)
    _put(page, 0, "HH", 0x1AF4, 0x1AF4)  # of QEMU's virtual devices; no vendor gives this drive a number
    page[4:24] = serial.encode().ljust(20)[:20]
    page[24:64] = b"Emulated Opal drive".ljust(40)
    page[64:72] = b"1".ljust(8)
    page[77] = 6  # MDTS
    _put(page, 78, "HI", controller_id, VERSION)
    page[111] = 1  # an I/O controller
    _put(page, 256, "HBB", 0x01, 3, 3)  # OACS: Security Send and Receive; abort and asynchronous event limits
    _put(page, 320, "H", 1)  # keep alive, in units of 100 ms
    page[512:514] = bytes([0x66, 0x44])  # sizes of queue entries
    _put(page, 514, "HIH", MAX_COMMANDS, 1, 0x0C)  # namespaces; ONCS: dataset management, write zeroes
    _put(page, 536, "I", 0x00100001)  # SGLs, with an offset for data in the capsule
    page[768 : 768 + len(name)] = name.encode()
    _put(page, 1792, "IIHBB", (64 + IN_CAPSULE_BYTES) // 16, 1, 0, 0, 1)  # IOCCSZ, IORCSZ, ICDOFF, dynamic, MSDBD
    return bytes(page)


def namespace(model: Model, serial: str) -> bytes:
    """Return Identify Namespace (CNS 0)."""
    page = bytearray(4096)
    _put(page, 0, "QQQ", model.blocks, model.blocks, model.blocks)
    page[33] = 0x09  # deallocated blocks read as zeros; write zeroes may deallocate
    page[104:120] = _unique(serial)
    page[130] = model.block_bytes.bit_length() - 1
    return bytes(page)


def descriptors(serial: str) -> bytes:
    """Return the namespace's identifiers (CNS 3): one NGUID."""
    return (bytes([2, 16, 0, 0]) + _unique(serial)).ljust(4096, b"\0")


def active_namespaces(after: int) -> bytes:
    """Return the numbers of namespaces greater than `after` (CNS 2)."""
    return struct.pack("<I4092x", _NAMESPACE if after < _NAMESPACE else 0)


def log_page(number: int, length: int) -> bytes | None:
    """Return a log page: errors (none), health, firmware slot; None: no such page."""
    page = bytearray(length)
    if number == 0x02 and length >= 512:
        _put(page, 1, "HBB", 300, 100, 10)  # kelvin, spare left and its threshold in percent
    return bytes(page) if number in (0x01, 0x02, 0x03) else None


def _unique(serial: str) -> bytes:
    return hashlib.sha256(serial.encode()).digest()[:16]


def _put(page: bytearray, at: int, layout: str, *values: int) -> None:
    struct.pack_into("<" + layout, page, at, *values)
