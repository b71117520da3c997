"""ComPackets, packets, subpackets, and the method calls inside them.

Follows the TCG Storage Architecture Core Specification 2.01, sections 3.2.3 (packets) and 3.2.4 (methods). One packet a
ComPacket and one subpacket a packet, as the drive's Properties announce; more are refused.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from .codec import CodecError, Control, Item, Value, decode, encode

COM_PACKET_HEADER_BYTES = 20
_COM_PACKET = struct.Struct(">4xHHIII")  # ComID, its extension, outstanding data, minimum transfer, length
_PACKET = struct.Struct(">IIIHHII")  # TSN, HSN, sequence, reserved, ack type, acknowledgement, length
_SUBPACKET = struct.Struct(">6xHI")  # kind 0: data; length


class Status(enum.IntEnum):
    """Status codes of methods (Core 5.1.5)."""

    SUCCESS = 0x00
    NOT_AUTHORIZED = 0x01
    SP_BUSY = 0x03
    NO_SESSIONS_AVAILABLE = 0x07
    INVALID_PARAMETER = 0x0C
    RESPONSE_OVERFLOW = 0x11
    AUTHORITY_LOCKED_OUT = 0x12
    FAIL = 0x3F


@dataclass(frozen=True)
class Packet:
    """The payload of one subpacket and the session that it belongs to."""

    com_id: int
    tper_session: int  # TSN; both numbers are 0 for the session manager
    host_session: int  # HSN
    payload: bytes

    def pack(self) -> bytes:
        """Return the ComPacket; its payload is padded to 4 bytes, and the subpacket's length does not count them."""
        subpacket = _SUBPACKET.pack(0, len(self.payload)) + self.payload + bytes(-len(self.payload) % 4)
        packet = _PACKET.pack(self.tper_session, self.host_session, 0, 0, 0, 0, len(subpacket)) + subpacket
        return _COM_PACKET.pack(self.com_id, 0, 0, 0, len(packet)) + packet


@dataclass(frozen=True)
class MethodCall:
    """One call: of the host, or of the drive's session manager in answer."""

    invoking: bytes  # UID of the object
    method: bytes  # UID
    parameters: list[Value]
    status: int = Status.SUCCESS

    def pack(self) -> bytes:
        """Return the tokens of the call."""
        call = encode(Control.CALL, self.invoking, self.method, self.parameters)
        return call + status_tokens(self.status)


def unpack(com_packet: bytes) -> Packet | None:
    """Return the packet in a ComPacket, or None when it holds none.

    Args:
        com_packet: May be longer than its header says: hosts pad to whole blocks.

    Raises:
        CodecError: A length reaches past the one around it, or there is more than one packet or subpacket.
    """
    com_id, _extension, _outstanding, _minimum, length = _header(_COM_PACKET, com_packet, "ComPacket")
    body = _body(com_packet, _COM_PACKET.size, length, "ComPacket")
    if not body:
        return None
    tsn, hsn, _sequence, _reserved, _ack_type, _ack, length = _header(_PACKET, body, "packet")
    inner = _body(body, _PACKET.size, length, "packet")
    if any(body[_PACKET.size + length :]):
        raise CodecError("more than one packet in a ComPacket")
    if not inner:
        return None
    kind, length = _header(_SUBPACKET, inner, "subpacket")
    payload = _body(inner, _SUBPACKET.size, length, "subpacket")
    if kind != 0 or any(inner[_SUBPACKET.size + length :]):
        raise CodecError("expected one data subpacket")
    return Packet(com_id, tsn, hsn, payload)


def empty_com_packet(com_id: int, outstanding_bytes: int = 0) -> bytes:
    """Return a ComPacket without data: nothing to fetch, or more than the transfer would hold (Core 3.3.10.2.1)."""
    return _COM_PACKET.pack(com_id, 0, outstanding_bytes, outstanding_bytes, 0)


def outstanding_bytes(com_packet: bytes) -> int:
    """Return how much data a ComPacket says is still to be fetched."""
    outstanding: int = _header(_COM_PACKET, com_packet, "ComPacket")[2]
    return outstanding


def method_call(items: list[Item]) -> MethodCall:
    """Return the one method call that a payload holds.

    Raises:
        CodecError: It is none, or more than one, or the host aborted it (Core 3.2.4.2: a status other than 0).
    """
    match items:
        case [Control.CALL, bytes() as invoking, bytes() as method, list() as parameters, Control.END_OF_DATA, status]:
            if len(invoking) != 8 or len(method) != 8 or not _is_status(status):
                raise CodecError("not a method call: UIDs have 8 bytes, the status list 3 numbers")
            assert isinstance(status, list)
            assert isinstance(status[0], int)
            return MethodCall(invoking, method, parameters, status[0])
    raise CodecError("expected a call, two UIDs, parameters, the end of data and a status")


def result_payload(result: list[Value], status: Status) -> bytes:
    """Return the tokens of a method's response (Core 3.2.4.2)."""
    return encode(result) + status_tokens(status)


def read_result(payload: bytes) -> tuple[list[Value], int]:
    """Return the result and the status of a response.

    Raises:
        CodecError: It is not a response.
    """
    match decode(payload):
        case [list() as result, Control.END_OF_DATA, status] if _is_status(status):
            assert isinstance(status, list)
            assert isinstance(status[0], int)
            return result, status[0]
    raise CodecError("expected a result, the end of data and a status")


def status_tokens(status: int) -> bytes:
    """Return what ends a call and a response."""
    return encode(Control.END_OF_DATA, [int(status), 0, 0])


def _is_status(item: Item) -> bool:
    return isinstance(item, list) and len(item) == 3 and all(isinstance(number, int) for number in item)


def _header(layout: struct.Struct, data: bytes, what: str) -> tuple[int, ...]:
    if len(data) < layout.size:
        raise CodecError(f"{what} header of {layout.size} bytes, {len(data)} there")
    return layout.unpack_from(data)


def _body(data: bytes, start: int, length: int, what: str) -> bytes:
    if start + length > len(data):
        raise CodecError(f"{what} of {length} bytes, {len(data) - start} there")
    return data[start : start + length]
