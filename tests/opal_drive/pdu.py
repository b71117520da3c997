"""Protocol data units of NVMe/TCP: reading them from a socket, and making those that a controller sends.

Follows the NVM Express TCP Transport Specification 1.0, section 3.6 (PDUs) and 3.5 (errors). No digests, no padding
beyond what a host asks for by its data offset.
"""

from __future__ import annotations

import enum
import socket
import struct
from dataclasses import dataclass

MAX_H2C_BYTES = 0x40000  # MAXH2CDATA: the most data in one PDU of the host
_COMMON = struct.Struct("<BBBBI")  # type, flags, header length, data offset, PDU length
_MAX_DATA_OFFSET = 128  # of 8 bits in units of 4, hosts use less
_REST_TIMEOUT_S = 20.0  # a PDU that has begun is sent within this time, or its connection ends


class Kind(enum.IntEnum):
    """PDU types (TCP Transport 1.0, figure 13 (from memory))."""

    IC_REQ = 0x00
    IC_RESP = 0x01
    H2C_TERM_REQ = 0x02
    C2H_TERM_REQ = 0x03
    CAPSULE_CMD = 0x04
    CAPSULE_RESP = 0x05
    H2C_DATA = 0x06
    C2H_DATA = 0x07
    R2T = 0x09


class Fatal(enum.IntEnum):
    """Fatal error status of a C2HTermReq."""

    INVALID_HEADER = 1
    SEQUENCE = 2
    OUT_OF_RANGE = 4
    LIMIT_EXCEEDED = 5
    UNSUPPORTED = 6


HEADER_BYTES = {
    Kind.IC_REQ: 128,
    Kind.IC_RESP: 128,
    Kind.H2C_TERM_REQ: 24,
    Kind.C2H_TERM_REQ: 24,
    Kind.CAPSULE_CMD: 72,
    Kind.CAPSULE_RESP: 24,
    Kind.H2C_DATA: 24,
    Kind.C2H_DATA: 24,
    Kind.R2T: 24,
}
LAST_PDU = 0x04
_WITH_DATA = {Kind.H2C_TERM_REQ, Kind.C2H_TERM_REQ, Kind.CAPSULE_CMD, Kind.H2C_DATA, Kind.C2H_DATA}


class PduError(ValueError):
    """The peer broke the protocol; the connection ends."""

    def __init__(self, status: Fatal, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Pdu:
    """One PDU."""

    kind: Kind
    header: bytes  # what follows the 8 bytes that all PDUs have
    data: bytes = b""
    flags: int = 0

    def pack(self) -> bytes:
        """Return the bytes on the wire; data follows its header at once."""
        header_bytes = 8 + len(self.header)
        offset = header_bytes if self.data else 0
        common = _COMMON.pack(self.kind, self.flags, header_bytes, offset, header_bytes + len(self.data))
        return common + self.header + self.data


def read_pdu(connection: socket.socket) -> Pdu | None:
    """Read one PDU; None: the peer closed the connection between two of them.

    Waits for its first byte as long as the socket's timeout says, and not long for the rest.

    Raises:
        PduError: The header contradicts itself, or the connection ended inside the PDU.
        OSError: The connection broke, or the peer went silent.
    """
    first = connection.recv(1)
    if not first:
        return None
    before = connection.gettimeout()
    connection.settimeout(_REST_TIMEOUT_S)
    try:
        return _read_rest(connection, first)
    finally:
        connection.settimeout(before)


def _read_rest(connection: socket.socket, first: bytes) -> Pdu:
    kind_number, flags, header_bytes, offset, length = _COMMON.unpack(first + _receive(connection, _COMMON.size - 1))
    if kind_number not in HEADER_BYTES:
        raise PduError(Fatal.INVALID_HEADER, f"PDU type 0x{kind_number:02x}")
    kind = Kind(kind_number)
    if header_bytes != HEADER_BYTES[kind]:
        raise PduError(Fatal.INVALID_HEADER, f"{kind.name} header of {header_bytes} bytes, not {HEADER_BYTES[kind]}")
    offset = offset or header_bytes
    has_data = length > header_bytes
    if length < header_bytes or (has_data and not header_bytes <= offset <= min(length, _MAX_DATA_OFFSET)):
        raise PduError(Fatal.INVALID_HEADER, f"{kind.name} of {length} bytes with data at {offset}")
    if has_data and kind not in _WITH_DATA:
        raise PduError(Fatal.INVALID_HEADER, f"{kind.name} with data")
    if length > offset + MAX_H2C_BYTES:
        raise PduError(Fatal.LIMIT_EXCEEDED, f"{kind.name} of {length} bytes")
    header = _receive(connection, header_bytes - _COMMON.size)
    rest = _receive(connection, length - header_bytes)
    return Pdu(kind, header, rest[offset - header_bytes :], flags)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), 1 << 16))
        if not piece:
            raise PduError(Fatal.INVALID_HEADER, f"the connection ended {length - len(data)} bytes early")
        data += piece
    return bytes(data)


def ic_response() -> Pdu:
    """Accept a connection: version 0, no digests, no padding."""
    return Pdu(Kind.IC_RESP, struct.pack("<HBBI112x", 0, 0, 0, MAX_H2C_BYTES))


def response(command_id: int, queue: int, status: int, result: int) -> Pdu:
    """End a command.

    Args:
        status: Status code and type with the Do Not Retry bit, without the phase bit.
        result: The first 8 bytes of the completion.
    """
    return Pdu(Kind.CAPSULE_RESP, struct.pack("<QHHHH", result, 0, queue, command_id, status << 1))


def controller_data(command_id: int, data: bytes) -> Pdu:
    """Send what a command reads, in one PDU."""
    return Pdu(Kind.C2H_DATA, struct.pack("<HHII4x", command_id, 0, 0, len(data)), data, LAST_PDU)


def ready_to_transfer(command_id: int, tag: int, length: int) -> Pdu:
    """Ask for what a command writes, all of it."""
    return Pdu(Kind.R2T, struct.pack("<HHII4x", command_id, tag, 0, length))


def terminate(status: Fatal) -> Pdu:
    """End a connection whose host broke the protocol."""
    return Pdu(Kind.C2H_TERM_REQ, struct.pack("<HI10x", status, 0))
