"""The TPer: Security Send and Security Receive, ComID management, the session manager.

Follows Core 2.01, sections 3.3 (interface communications) and 5.2 (session manager), SIIS 1.07, section 3 (protocols
over NVMe; from memory) and the Block SID Authentication feature set 1.01, section 4.2. One ComID, one session at a
time, no transactions, no timeouts: a session ends by its host, by a reset, or when the last connection goes
(`Drive.host_left`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from . import ranges, uids
from .authentication import authenticate
from .codec import CodecError, Control, Name, Value, decode, encode, named
from .discovery import COM_ID, discovery
from .media import Media
from .methods import Methods, Session
from .packets import MethodCall, Packet, Status, empty_com_packet, method_call, result_payload, unpack
from .power import Power
from .state import State
from .tables import PROGRAMMATIC, PROGRAMMATIC_RESET_ENABLE, Mbr

PROTOCOLS = (0x00, 0x01, 0x02)
DISCOVERY_COM_ID, TPER_RESET_COM_ID, BLOCK_SID_COM_ID = 0x0001, 0x0004, 0x0005
STACK_RESET = 2  # Core 3.3.4.7.2
MAX_COM_PACKET_BYTES = 0x10000
_FIRST_SESSION = 0x1000
_PROPERTIES: dict[bytes, int] = {
    b"MaxMethods": 1,
    b"MaxSubpackets": 1,
    b"MaxPacketSize": MAX_COM_PACKET_BYTES - 20,
    b"MaxPackets": 1,
    b"MaxComPacketSize": MAX_COM_PACKET_BYTES,
    b"MaxResponseComPacketSize": MAX_COM_PACKET_BYTES,
    b"MaxSessions": 1,
    b"MaxReadSessions": 0,
    b"MaxIndTokenSize": MAX_COM_PACKET_BYTES - 56,
    b"MaxAggTokenSize": MAX_COM_PACKET_BYTES - 56,
    b"MaxAuthentications": 14,
    b"MaxTransactionLimit": 0,
    b"DefSessionTimeout": 0,
}
_HOST_CHALLENGE, _HOST_SIGNING_AUTHORITY = 0, 3  # optional parameters of StartSession (Core 5.2.3.1)


class InvalidSecurityCommand(ValueError):
    """Security Send or Receive of a protocol, ComID or payload that the drive does not know."""


class Tper:
    """One powered-on TPer; everything in here but `state` is gone with power."""

    def __init__(
        self, state: State, media: Media, power: Power, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self._state = state
        self._power = power
        self._log = log
        self._methods = Methods(state, media, power)
        self._session: Session | None = None
        self._response = b""
        self._com_id_answer = b""
        self._sessions_started = 0
        self._sid_blocked = False
        self._cleared_by_reset = False

    @property
    def sid_blocked(self) -> bool:
        """Whether SID may not authenticate."""
        return self._sid_blocked

    def send(self, protocol: int, com_id: int, payload: bytes) -> None:
        """Take a Security Send (IF-SEND).

        Raises:
            InvalidSecurityCommand: The command is aborted; nothing changed.
            PowerCut: Power is lost here.
        """
        if protocol == 0x01 and com_id == COM_ID:
            self._take_com_packet(payload)
        elif protocol == 0x02 and com_id == COM_ID:
            self._manage_com_id(payload)
        elif protocol == 0x02 and com_id == TPER_RESET_COM_ID:
            self._programmatic_reset()
        elif protocol == 0x02 and com_id == BLOCK_SID_COM_ID:
            self._take_block_sid(payload)
        else:
            raise InvalidSecurityCommand(f"protocol {protocol}, ComID 0x{com_id:04x}")

    def receive(self, protocol: int, com_id: int, length: int) -> bytes:
        """Answer a Security Receive (IF-RECV).

        Returns:
            `length` bytes, padded with zeros.

        Raises:
            InvalidSecurityCommand: The command is aborted.
        """
        if protocol == 0x00 and com_id == 0:
            answer = struct.pack(">6xH", len(PROTOCOLS)) + bytes(PROTOCOLS)
        elif protocol == 0x01 and com_id == DISCOVERY_COM_ID:
            blocked, by_reset = self.sid_blocked, self._cleared_by_reset
            answer = discovery(self._state, sid_blocked=blocked, cleared_by_reset=by_reset)
        elif protocol == 0x01 and com_id == COM_ID:
            answer = self._take_response(length)
        elif protocol == 0x02 and com_id == COM_ID:
            answer, self._com_id_answer = self._com_id_answer or struct.pack(">HHI", COM_ID, 0, 0), b""
        else:
            raise InvalidSecurityCommand(f"protocol {protocol}, ComID 0x{com_id:04x}")
        return answer[:length].ljust(length, b"\0")

    def block_sid(self, *, cleared_by_reset: bool = False) -> None:
        """Refuse SID until the next power cycle or revert, where SID still has the PIN that anybody can read.

        Args:
            cleared_by_reset: Or until the next hardware reset (Clear Events, bit 0).
        """
        if not self._state.owned:
            self._sid_blocked = True
            self._cleared_by_reset = cleared_by_reset

    def hardware_reset(self) -> None:
        """Abort the session, and end Block SID where its sender wanted a reset to; nothing locks on it here."""
        self.abort_session()
        if self._cleared_by_reset:
            self._sid_blocked = self._cleared_by_reset = False

    def abort_session(self) -> None:
        """Forget the session and what it would have been answered."""
        self._session = None
        self._response = b""

    # ComID management (Core 3.3.4)

    def _manage_com_id(self, payload: bytes) -> None:
        request = int.from_bytes(payload[4:8], "big")
        if request != STACK_RESET:
            self._com_id_answer = struct.pack(">HHI4x", COM_ID, 0, request)
            return
        self.abort_session()
        self._com_id_answer = struct.pack(">HHIHHI", COM_ID, 0, STACK_RESET, 0, 4, 0)

    def _take_block_sid(self, payload: bytes) -> None:
        """Take Block SID; refused while one is in force, and when it asks for a freeze, which this drive cannot do."""
        if not payload or self._sid_blocked or payload[1:2] > b"\0":
            raise InvalidSecurityCommand("Block SID: already blocked, empty, or to freeze the Locking SP")
        self.block_sid(cleared_by_reset=bool(payload[0] & 1))

    def _programmatic_reset(self) -> None:
        """TPER_RESET (Opal SSC, 3.2.3): locks what it is to lock, where the owner enabled it."""
        if not self._state.admin.get(uids.TPER_INFO, PROGRAMMATIC_RESET_ENABLE):
            raise InvalidSecurityCommand("TPER_RESET is not enabled")
        self.abort_session()
        reset_locks(self._state, PROGRAMMATIC)
        self._state.commit()
        self._power.step("TPER_RESET")

    # ComPackets

    def _take_com_packet(self, com_packet: bytes) -> None:
        if len(com_packet) > MAX_COM_PACKET_BYTES:
            raise InvalidSecurityCommand(
                f"ComPacket of {len(com_packet)} bytes, expected {MAX_COM_PACKET_BYTES} at most"
            )
        try:
            packet = unpack(com_packet)
        except CodecError as error:
            raise InvalidSecurityCommand(str(error)) from error
        if packet is None:
            return
        if packet.com_id != COM_ID:
            raise InvalidSecurityCommand(f"ComPacket for ComID 0x{packet.com_id:04x}")
        self._response = b""
        if packet.tper_session == 0:
            answer = self._run_session_manager(packet)
        elif self._session and (packet.tper_session, packet.host_session) == self._numbers():
            answer = self._run_session(self._session, packet)
        else:
            self._log("packet for no open session")  # discarded without an answer (Core 3.3.7.1.5, from memory)
            return
        self._response = Packet(COM_ID, packet.tper_session, packet.host_session, answer).pack()

    def _take_response(self, length: int) -> bytes:
        """Return the response, once; a transfer that is too short for it is told its size (Core 3.3.10.2.1)."""
        if len(self._response) > length:
            return empty_com_packet(COM_ID, len(self._response))
        response, self._response = self._response, b""
        return response or empty_com_packet(COM_ID)

    def _numbers(self) -> tuple[int, int]:
        assert self._session is not None
        return self._session.number, self._session.host_number

    def _run_session(self, session: Session, packet: Packet) -> bytes:
        # Alone by the specification; Linux closes it like a method call, with an end of list and a status.
        if packet.payload[0] == Control.END_OF_SESSION.value:
            self._session = None
            return encode(Control.END_OF_SESSION)
        try:
            call = method_call(decode(packet.payload))
        except CodecError as error:
            self._log(f"no method: {error}")
            return result_payload([], Status.INVALID_PARAMETER)
        result, status = self._methods.run(session, call, sid_blocked=self.sid_blocked)
        self._note(call, status)
        if session.ended:
            self._session = None
            if session.provider is self._state.admin:  # a revert of the Admin SP is always a Clear Event
                self._sid_blocked = self._cleared_by_reset = False
        return result_payload(result, status)

    # Session manager (Core 5.2)

    def _run_session_manager(self, packet: Packet) -> bytes:
        try:
            call = method_call(decode(packet.payload))
            if call.invoking != uids.SESSION_MANAGER:
                raise CodecError("a call outside of a session")
            if call.method == uids.PROPERTIES:
                return self._properties(call).pack()
            if call.method == uids.START_SESSION:
                return self._start_session(call).pack()
            raise CodecError("the session manager has no such method")
        except CodecError as error:
            self._log(f"session manager: {error}")
            return result_payload([], Status.INVALID_PARAMETER)

    def _properties(self, call: MethodCall) -> MethodCall:
        host = named(call.parameters).get(0)
        own: list[Value] = [Name(key, value) for key, value in _PROPERTIES.items()]
        answer: list[Value] = [own] if host is None else [own, Name(0, host)]
        self._note(call, Status.SUCCESS)
        return MethodCall(uids.SESSION_MANAGER, uids.PROPERTIES, answer)

    def _start_session(self, call: MethodCall) -> MethodCall:
        match call.parameters:
            case [int() as host_number, bytes() as sp, int() as write, *rest] if 0 <= host_number < 2**32:
                options = named(rest)
            case _:
                raise CodecError("StartSession wants a session number, an SP and whether to write")
        authority, proof = options.get(_HOST_SIGNING_AUTHORITY, uids.ANYBODY), options.get(_HOST_CHALLENGE, b"")
        if not isinstance(authority, bytes) or not isinstance(proof, bytes):
            raise CodecError("authority and challenge are byte strings")
        status = self._open(host_number, sp, authority, proof, writes=bool(write))
        self._note(call, status)
        number = self._session.number if self._session and status is Status.SUCCESS else 0
        return MethodCall(uids.SESSION_MANAGER, uids.SYNC_SESSION, [host_number, number], status)

    def _open(self, host_number: int, sp: bytes, authority: bytes, proof: bytes, *, writes: bool) -> Status:
        state = self._state
        if self._session is not None:
            return Status.NO_SESSIONS_AVAILABLE
        if sp == uids.LOCKING_SP and state.active:
            provider = state.locking
        elif sp == uids.ADMIN_SP:
            provider = state.admin
        else:
            return Status.INVALID_PARAMETER
        status = authenticate(state, provider, authority, proof, sid_blocked=self.sid_blocked)
        if status is Status.SUCCESS:
            self._sessions_started += 1
            number = _FIRST_SESSION + self._sessions_started
            self._session = Session(number, host_number, provider, writes, {authority})
        return status

    def _note(self, call: MethodCall, status: Status) -> None:
        """Log a call, and let power be lost now that its effect is kept."""
        name = uids.METHOD_NAMES.get(call.method, call.method.hex())
        self._log(f"{name} {call.invoking.hex()}: {status.name}")
        self._power.step(name)


def reset_locks(state: State, reset: int) -> None:
    """Do what a reset of some type does to ranges and to shadowing (LockOnReset, DoneOnReset)."""
    ranges.lock_for_reset(state, reset)
    if state.active and state.model.has_shadow_mbr:
        on_reset = state.locking.get(uids.MBR_CONTROL, Mbr.ON_RESET)
        if isinstance(on_reset, list) and reset in on_reset:
            state.locking.set(uids.MBR_CONTROL, {Mbr.DONE: 0})
