"""TCG sessions over NVMe Security Send and Receive, for the two things that the kernel's ioctls do not offer.

Linux 6.12 can give SID its first PIN and cannot change it: IOC_OPAL_SET_SID_PW is defined there and not dispatched.
This opens a session as SID, which is how to ask whether a PIN is right, and sets C_PIN_SID in it; no more. TCG Storage
Core 2.01, sections 3.2 (tokens and packets), 5.2.3.1 (StartSession), 5.3.3.7 (Set).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from enum import Enum
from itertools import islice
from typing import Protocol

from custody.errors import DriveFailed

_SESSION_MANAGER, _ADMIN_SP = bytes.fromhex("00000000000000ff"), bytes.fromhex("0000020500000001")
_SID, _C_PIN_SID = bytes.fromhex("0000000900000006"), bytes.fromhex("0000000b00000001")
_START_SESSION, _SET = bytes.fromhex("000000000000ff02"), bytes.fromhex("0000000600000017")
_PIN_COLUMN = 3

_HOST_SESSION = 1
_BUFFER_BYTES = 2048
_PROTOCOL = 1
_TRIES, _PAUSE_S = 200, 0.02
_EMPTY = 0xFF  # padding between tokens (Core 2.01, section 3.2.2.3)


class Mark(Enum):
    """Control tokens (Core 2.01, section 3.2.2.4)."""

    LIST = 0xF0
    END_LIST = 0xF1
    NAME = 0xF2
    END_NAME = 0xF3
    CALL = 0xF8
    END_OF_DATA = 0xF9
    END_OF_SESSION = 0xFA


Token = int | bytes | Mark


class Channel(Protocol):
    """Security Send and Receive of one drive."""

    def send(self, protocol: int, com_id: int, data: bytes) -> None:
        """Send whole blocks."""

    def receive(self, protocol: int, com_id: int, length_bytes: int) -> bytes:
        """Receive."""


class Refused(Exception):
    """The drive answered a method with a status other than success (Core 2.01, table 166)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:#04x}")
        self.status = status


def check_sid(channel: Channel, com_id: int, pin: bytes) -> None:
    """Open a session as SID and close it; changes nothing.

    Raises:
        Refused: the PIN is wrong.
    """
    _close(channel, com_id, _open(channel, com_id, pin))


def set_sid(channel: Channel, com_id: int, old: bytes, new: bytes) -> None:
    """Change SID's PIN.

    Raises:
        Refused: the old one is wrong; nothing was changed.
    """
    session = _open(channel, com_id, old)
    values = _name(1, _list(_name(_PIN_COLUMN, _encode(new))))
    try:
        _result(_exchange(channel, com_id, session, _call(_C_PIN_SID, _SET, values)))
    finally:  # a session that stays open keeps everybody else out until power goes
        _close(channel, com_id, session)


def _open(channel: Channel, com_id: int, pin: bytes) -> int:
    """Start a session of the Admin SP as SID; returns the drive's number of it."""
    parameters = _encode(_HOST_SESSION, _ADMIN_SP, 1) + _name(0, _encode(pin)) + _name(3, _encode(_SID))
    tokens = _result(_exchange(channel, com_id, 0, _call(_SESSION_MANAGER, _START_SESSION, parameters)))
    # Call, session manager, SyncSession, list, our number, the drive's
    number = tokens[5] if len(tokens) > 5 else None
    if not isinstance(number, int) or number >= 1 << 32:
        raise _malformed("no session number")
    return number


def _close(channel: Channel, com_id: int, session: int) -> None:
    _exchange(channel, com_id, session, _encode(Mark.END_OF_SESSION))


def _exchange(channel: Channel, com_id: int, session: int, payload: bytes) -> bytes:
    """Send a payload and return that of the answer."""
    padded = payload.ljust(-(-len(payload) // 4) * 4, b"\0")
    sub = struct.pack(">6xHI", 0, len(payload)) + padded
    packet = struct.pack(">III2xHII", session, _HOST_SESSION if session else 0, 0, 0, 0, len(sub)) + sub
    whole = struct.pack(">4xHHIII", com_id, 0, 0, 0, len(packet)) + packet
    channel.send(_PROTOCOL, com_id, whole.ljust(-(-len(whole) // 512) * 512, b"\0"))
    for _ in range(_TRIES):
        answer = channel.receive(_PROTOCOL, com_id, _BUFFER_BYTES)
        outstanding, _minimum, length = struct.unpack_from(">III", answer, 8)
        if length:
            (size,) = struct.unpack_from(">I", answer, 52)
            if 56 + size > min(20 + length, len(answer)):
                raise _malformed("a packet cut off")
            return answer[56 : 56 + size]
        if not outstanding:
            raise _malformed("no answer")
        time.sleep(_PAUSE_S)
    raise _malformed("no answer in time")


def _result(payload: bytes) -> list[Token]:
    """Everything up to a method's status.

    Raises:
        Refused: the status is not success.
    """
    tokens = list(_decode(payload))
    match tokens[-6:]:  # the second and third number are reserved
        case [Mark.END_OF_DATA, Mark.LIST, int() as status, int(), int(), Mark.END_LIST]:
            if status:
                raise Refused(status)
            return tokens[:-6]
    raise _malformed("a method without a status")


def _decode(payload: bytes) -> Iterator[Token]:
    data = iter(payload)
    for token in data:
        if token < 0x40:
            yield token
        elif 0x80 <= token < 0xC0:
            yield _atom(data, token & 0x0F, is_bytes=bool(token & 0x20))
        elif 0xC0 <= token < 0xE0:
            (low,) = _take(data, 1)
            yield _atom(data, (token & 0x07) << 8 | low, is_bytes=bool(token & 0x10))
        elif token == _EMPTY:
            continue
        elif token in {mark.value for mark in Mark}:
            yield Mark(token)
        else:
            raise _malformed(f"token {token:#04x}")


def _atom(data: Iterator[int], length: int, *, is_bytes: bool) -> int | bytes:
    raw = _take(data, length)
    if not raw and not is_bytes:
        raise _malformed("a number of no bytes")
    return raw if is_bytes else int.from_bytes(raw, "big")


def _take(data: Iterator[int], length: int) -> bytes:
    raw = bytes(islice(data, length))
    if len(raw) < length:
        raise _malformed("an atom cut off")
    return raw


def _encode(*tokens: Token) -> bytes:
    """Marks, integers below 64, and bytes: a short atom up to 15 of them, else a medium one."""
    out = bytearray()
    for token in tokens:
        if isinstance(token, Mark):
            out.append(token.value)
        elif isinstance(token, int):
            out.append(token)
        else:
            size = len(token)
            out += bytes([0xA0 | size]) if size < 16 else bytes([0xD0 | size >> 8, size & 0xFF])
            out += token
    return bytes(out)


def _call(uid: bytes, method: bytes, parameters: bytes) -> bytes:
    end = _encode(Mark.END_OF_DATA, Mark.LIST, 0, 0, 0, Mark.END_LIST)
    return _encode(Mark.CALL, uid, method) + _list(parameters) + end


def _list(content: bytes) -> bytes:
    return _encode(Mark.LIST) + content + _encode(Mark.END_LIST)


def _name(name: int, value: bytes) -> bytes:
    return _encode(Mark.NAME, name) + value + _encode(Mark.END_NAME)


def _malformed(found: str) -> DriveFailed:
    return DriveFailed(f"TCG session: expected an answer as Core 2.01 says, found {found}", "dmesg | tail; power cycle")
