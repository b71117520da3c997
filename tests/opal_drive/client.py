"""A host's side of Opal, without a kernel: sessions and methods over anything that has Security Send and Receive.

It knows what the tests ask of a drive and no more: one session at a time, one method a packet.
"""

from __future__ import annotations

import struct
from types import TracebackType
from typing import Protocol

from . import uids
from .codec import CodecError, Control, Name, Value, decode, encode, named
from .discovery import COM_ID
from .drive import Drive
from .packets import MethodCall, Packet, Status, method_call, outstanding_bytes, read_result, unpack
from .tables import Ace, Auth, Lock, Pin, any_of
from .tper import BLOCK_SID_COM_ID, DISCOVERY_COM_ID, STACK_RESET

_RESPONSE_BYTES = 2048  # as the Linux kernel's buffer
_HOST_SESSION = 0x41
_HEADER_BYTES = 48


class MethodError(RuntimeError):
    """The drive answered a method with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(Status(status).name)
        self.status = Status(status)


class Transport(Protocol):
    """What carries Opal to a drive."""

    def security_send(self, protocol: int, com_id: int, payload: bytes) -> None:
        """Send; raises when the drive aborts the command."""

    def security_receive(self, protocol: int, com_id: int, length: int) -> bytes:
        """Receive; raises when the drive aborts the command."""


class InProcess:
    """Straight into a drive of this process."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    def security_send(self, protocol: int, com_id: int, payload: bytes) -> None:
        """Send, padded to whole blocks as hosts do."""
        self._drive.tper.send(protocol, com_id, payload.ljust(-(-len(payload) // 512) * 512, b"\0"))

    def security_receive(self, protocol: int, com_id: int, length: int) -> bytes:
        """Receive."""
        return self._drive.tper.receive(protocol, com_id, length)


class OpalHost:
    """Talks to one TPer."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def discovery(self) -> dict[int, bytes]:
        """Return the features of Level 0 Discovery by their code: what follows the length byte."""
        data = self.transport.security_receive(1, DISCOVERY_COM_ID, 512)
        end = 4 + int.from_bytes(data[:4], "big")
        features, at = {}, _HEADER_BYTES
        while at < end:
            code, _version, length = struct.unpack_from(">HBB", data, at)
            features[code] = data[at + 4 : at + 4 + length]
            at += 4 + length
        return features

    def properties(self) -> dict[Value, Value]:
        """Return the drive's communication properties."""
        answer = self._manage(uids.PROPERTIES, [Name(0, [Name(b"MaxComPacketSize", 2048)])])
        own = answer.parameters[0]
        assert isinstance(own, list)
        return named(own)

    def start(self, sp: bytes, authority: bytes = uids.ANYBODY, pin: bytes = b"", *, write: bool = True) -> OpalSession:
        """Open a session.

        Raises:
            MethodError: The drive refuses it.
        """
        parameters: list[Value] = [_HOST_SESSION, sp, int(write)]
        if authority != uids.ANYBODY:
            parameters += [Name(0, pin), Name(3, authority)]
        answer = self._manage(uids.START_SESSION, parameters)
        number = answer.parameters[1]
        assert isinstance(number, int)
        return OpalSession(self, number)

    def stack_reset(self) -> None:
        """Abort whatever session there is."""
        self.transport.security_send(2, COM_ID, struct.pack(">HHI", COM_ID, 0, STACK_RESET))

    def block_sid(self) -> None:
        """Refuse SID until the next power cycle, as a BIOS does."""
        self.transport.security_send(2, BLOCK_SID_COM_ID, b"\1")

    def exchange(self, packet: Packet) -> bytes:
        """Send a packet and return the payload of the answer; nothing when there is none."""
        self.transport.security_send(1, COM_ID, packet.pack())
        answer = self.transport.security_receive(1, COM_ID, _RESPONSE_BYTES)
        if needed := outstanding_bytes(answer):
            answer = self.transport.security_receive(1, COM_ID, needed)
        found = unpack(answer)
        return found.payload if found else b""

    def _manage(self, method: bytes, parameters: list[Value]) -> MethodCall:
        call = MethodCall(uids.SESSION_MANAGER, method, parameters)
        payload = self.exchange(Packet(COM_ID, 0, 0, call.pack()))
        items = decode(payload)
        if items[:1] != [Control.CALL]:
            raise MethodError(read_result(payload)[1])
        answer = method_call(items)
        if answer.status:
            raise MethodError(answer.status)
        return answer

    # What owners do

    def msid(self) -> bytes:
        """Return the PIN that anybody can read."""
        with self.start(uids.ADMIN_SP) as session:
            pin = session.get(uids.C_PIN_MSID, Pin.PIN, Pin.PIN)[Pin.PIN]
        assert isinstance(pin, bytes)
        return pin

    def set_sid_pin(self, old: bytes, new: bytes) -> None:
        """Take ownership, or rotate SID's PIN."""
        with self.start(uids.ADMIN_SP, uids.SID, old) as session:
            session.set(uids.C_PIN_SID, {Pin.PIN: new})

    def activate(self, sid_pin: bytes) -> None:
        """Activate the Locking SP."""
        with self.start(uids.ADMIN_SP, uids.SID, sid_pin) as session:
            session.call(uids.LOCKING_SP, uids.ACTIVATE)

    def set_pin(self, who: bytes, pin: bytes, target: bytes, new: bytes) -> None:
        """Set the PIN of an authority of the Locking SP."""
        with self.start(uids.LOCKING_SP, who, pin) as session:
            session.set(uids.c_pin(target), {Pin.PIN: new})

    def add_user(self, admin_pin: bytes, number: int, pin: bytes, range_number: int) -> None:
        """Enable a user, set its PIN, and let it lock and unlock a range."""
        expression = any_of(uids.ADMINS, uids.user(number))
        with self.start(uids.LOCKING_SP, uids.admin(1), admin_pin) as session:
            session.set(uids.user(number), {Auth.ENABLED: 1})
            session.set(uids.c_pin(uids.user(number)), {Pin.PIN: pin})
            for ace in (0x3D000, 0x3E000, 0x3E800):
                session.set(uids.ace(ace + range_number), {Ace.EXPRESSION: expression})

    def set_range(self, admin_pin: bytes, number: int, start: int, length: int) -> None:
        """Place a range, and let it be locked."""
        cells: dict[int, Value] = {Lock.READ_ENABLED: 1, Lock.WRITE_ENABLED: 1}
        if number:
            cells |= {Lock.START: start, Lock.LENGTH: length}
        with self.start(uids.LOCKING_SP, uids.admin(1), admin_pin) as session:
            session.set(uids.locking_range(number), cells)

    def lock(self, who: bytes, pin: bytes, number: int, *, locked: bool) -> None:
        """Lock or unlock a range for reads and writes."""
        with self.start(uids.LOCKING_SP, who, pin) as session:
            session.set(uids.locking_range(number), {Lock.READ_LOCKED: int(locked), Lock.WRITE_LOCKED: int(locked)})

    def generate_key(self, admin_pin: bytes, number: int) -> None:
        """Make a range's data noise."""
        with self.start(uids.LOCKING_SP, uids.admin(1), admin_pin) as session:
            session.call(uids.media_key(number), uids.GEN_KEY)

    def revert(self, authority: bytes, pin: bytes) -> None:
        """Revert the whole drive as SID or PSID."""
        self.start(uids.ADMIN_SP, authority, pin).call(uids.ADMIN_SP, uids.REVERT)

    def revert_locking_sp(self, admin_pin: bytes, *, keep_global: bool = False) -> None:
        """Revert the Locking SP as Admin1."""
        parameters: list[Value] = [Name(0x060000, 1)] if keep_global else []
        self.start(uids.LOCKING_SP, uids.admin(1), admin_pin).call(uids.THIS_SP, uids.REVERT_SP, parameters)

    def accepts(self, sp: bytes, authority: bytes, pin: bytes) -> bool:
        """Tell whether a PIN opens a session."""
        try:
            self.start(sp, authority, pin).close()
        except MethodError:
            return False
        return True


class OpalSession:
    """An open session; close it, or use it in a `with`."""

    def __init__(self, host: OpalHost, number: int) -> None:
        self._host = host
        self.number = number

    def __enter__(self) -> OpalSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, MethodError):
            self.close()

    def call(self, uid: bytes, method: bytes, parameters: list[Value] | None = None) -> list[Value]:
        """Call a method and return its result.

        Raises:
            MethodError: Its status is not success.
            CodecError: The session is gone, so that there is no answer.
        """
        result, status = read_result(self.exchange(MethodCall(uid, method, parameters or []).pack()))
        if status:
            raise MethodError(status)
        return result

    def get(self, uid: bytes, first: int, last: int) -> dict[Value, Value]:
        """Return columns of a row."""
        row = self.call(uid, uids.GET, [[Name(3, first), Name(4, last)]])[0]
        assert isinstance(row, list)
        return named(row)

    def set(self, uid: bytes, columns: dict[int, Value]) -> None:
        """Set columns of a row."""
        self.call(uid, uids.SET, [Name(1, [Name(int(at), value) for at, value in columns.items()])])

    def get_bytes(self, table: bytes, start: int, length: int) -> bytes:
        """Read from a byte table."""
        data = self.call(table, uids.GET, [[Name(1, start), Name(2, start + length - 1)]])[0]
        assert isinstance(data, bytes)
        return data

    def set_bytes(self, table: bytes, start: int, data: bytes) -> None:
        """Write to a byte table."""
        self.call(table, uids.SET, [Name(0, start), Name(1, data)])

    def authenticate(self, authority: bytes, pin: bytes) -> bool:
        """Prove one more authority."""
        return self.call(uids.THIS_SP, uids.AUTHENTICATE, [authority, Name(0, pin)]) == [1]

    def close(self) -> None:
        """End the session."""
        if self.exchange(encode(Control.END_OF_SESSION)) != encode(Control.END_OF_SESSION):
            raise CodecError("the drive did not end the session")

    def exchange(self, payload: bytes) -> bytes:
        """Send a payload in this session and return that of the answer."""
        return self._host.exchange(Packet(COM_ID, self.number, _HOST_SESSION, payload))
