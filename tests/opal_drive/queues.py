"""One NVMe/TCP connection, which is one queue: what may come when, and data that follows its command.

Follows the NVM Express TCP Transport Specification 1.0, section 3.2 to 3.4. A host that breaks the protocol gets a
C2HTermReq and loses this connection, nothing else.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from . import identify, pdu
from .nvme import Code, Command, Completion, Controller, Fabrics, Op, Subsystem
from .pdu import Fatal, Kind, Pdu, PduError

_FIRST_PDU_TIMEOUT_S = 20.0
_IN_CAPSULE, _IN_TRANSPORT = 0x01, 0x5A  # SGL descriptors: offset into the capsule; the transport brings it


@dataclass
class _Transfer:
    """A command whose data is on its way."""

    command: Command
    data: bytearray = field(default_factory=bytearray)


class Queue:
    """Serves one connection until it ends."""

    def __init__(
        self,
        connection: socket.socket,
        subsystem: Subsystem,
        run: Callable[[Callable[[], Completion | None]], Completion | None],
    ) -> None:
        """Prepare.

        Args:
            run: Runs a command on the drive, alone, and raises `ConnectionError` when power went meanwhile.
        """
        self._connection = connection
        self._subsystem = subsystem
        self._run = run
        self._controller: Controller | None = None
        self._number = 0
        self._transfers: dict[int, _Transfer] = {}

    def serve(self) -> None:
        """Answer until the host goes, breaks the protocol, or power is lost.

        Raises:
            OSError: The connection broke.
            PowerCut: Power is lost here.
        """
        try:
            self._handshake()
            while (unit := pdu.read_pdu(self._connection)) and unit.kind is not Kind.H2C_TERM_REQ:
                self._take(unit)
        except PduError as error:
            self._connection.sendall(pdu.terminate(error.status).pack())
        finally:
            if self._controller and self._number == 0:
                self._subsystem.disconnect(self._controller)

    def _handshake(self) -> None:
        self._connection.settimeout(_FIRST_PDU_TIMEOUT_S)
        unit = pdu.read_pdu(self._connection)
        if unit is None:
            return
        if unit.kind is not Kind.IC_REQ:
            raise PduError(Fatal.SEQUENCE, f"{unit.kind.name} before the connection is set up")
        if int.from_bytes(unit.header[:2], "little") != 0:
            raise PduError(Fatal.UNSUPPORTED, "an unknown version of PDUs")
        self._connection.settimeout(None)
        self._connection.sendall(pdu.ic_response().pack())

    def _take(self, unit: Pdu) -> None:
        if unit.kind is Kind.CAPSULE_CMD:
            self._take_command(Command(unit.header), unit.data)
        elif unit.kind is Kind.H2C_DATA:
            self._take_data(unit)
        else:
            raise PduError(Fatal.SEQUENCE, f"{unit.kind.name} from a host")

    def _take_command(self, command: Command, data: bytes) -> None:
        if command.writes and command.length and command.sgl_type == _IN_TRANSPORT:
            self._ask_for_data(command)
            return
        if data and (command.sgl_type != _IN_CAPSULE or command.length != len(data)):
            self._answer(command, Completion(Code.SGL_INVALID))
            return
        self._execute(command, data)

    def _ask_for_data(self, command: Command) -> None:
        if command.number in self._transfers or len(self._transfers) >= identify.MAX_COMMANDS:
            raise PduError(Fatal.SEQUENCE, f"command {command.number} twice, or too many of them")
        if command.length > identify.MDTS_BYTES:
            self._answer(command, Completion(Code.INVALID_FIELD))
            return
        self._transfers[command.number] = _Transfer(command)
        self._send(pdu.ready_to_transfer(command.number, command.number, command.length))

    def _take_data(self, unit: Pdu) -> None:
        number, tag, offset, length = struct.unpack_from("<HHII", unit.header)
        transfer = self._transfers.get(number)
        if transfer is None or tag != number:
            raise PduError(Fatal.SEQUENCE, f"data for command {number}, which asked for none")
        if offset != len(transfer.data) or length != len(unit.data) or not length:
            raise PduError(Fatal.OUT_OF_RANGE, f"{length} bytes of data at {offset}")
        if offset + length > transfer.command.length:
            raise PduError(Fatal.OUT_OF_RANGE, f"more data than the {transfer.command.length} bytes asked for")
        transfer.data += unit.data
        if len(transfer.data) == transfer.command.length:
            del self._transfers[number]
            self._execute(transfer.command, bytes(transfer.data))

    def _execute(self, command: Command, data: bytes) -> None:
        completion = self._run(lambda: self._dispatch(command, data))
        if completion is not None:
            self._answer(command, completion)

    def _dispatch(self, command: Command, data: bytes) -> Completion | None:
        if command.op == Op.FABRICS and command.fabrics_type == Fabrics.CONNECT:
            if self._controller:
                return Completion(Code.SEQUENCE_ERROR)
            completion, self._controller, self._number = self._subsystem.connect(command, data)
            return completion
        if not self._controller:
            return Completion(Code.SEQUENCE_ERROR)
        if command.op == Op.FABRICS:
            return self._subsystem.run_fabrics(self._controller, command)
        if self._number == 0:
            return self._subsystem.run_admin(self._controller, command, data)
        return self._subsystem.run_io(command, data)

    def _answer(self, command: Command, completion: Completion) -> None:
        if completion.data:
            self._send(pdu.controller_data(command.number, completion.data))
        self._send(pdu.response(command.number, self._number, completion.status, completion.result))

    def _send(self, unit: Pdu) -> None:
        self._connection.sendall(unit.pack())
