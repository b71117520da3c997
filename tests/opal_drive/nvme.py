"""NVMe commands: fabrics, admin and I/O, on one subsystem with one namespace.

Follows the NVM Express Base Specification 1.4, section 5 and 6, and NVM Express over Fabrics 1.1, section 3. A locked
range answers Access Denied (SIIS 1.07, table of NVMe status codes (from memory)), for which Linux returns ENODATA.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from . import identify
from .drive import AccessDenied, Drive, OutOfRange
from .tper import InvalidSecurityCommand

MAX_IO_QUEUES = 8
_CAPABILITIES = 127 | 1 << 16 | 10 << 24 | 1 << 37  # entries, contiguous, time to be ready, NVM command set
_CC, _CSTS, _VERSION = 0x14, 0x1C, 0x08
_NUMBER_OF_QUEUES, _KEEP_ALIVE_TIMER = 0x07, 0x0F
_FEATURES = {0x01, 0x02, 0x04, 0x05, 0x06, _NUMBER_OF_QUEUES, 0x08, 0x0A, 0x0B, _KEEP_ALIVE_TIMER, 0x81}
_DYNAMIC = 0xFFFF  # the controller number that an admin connect asks for
_DEALLOCATE = 0x04


class Code(enum.IntEnum):
    """Status type and code, with Do Not Retry where a retry cannot help."""

    SUCCESS = 0x0000
    INVALID_OPCODE = 0x4001
    INVALID_FIELD = 0x4002
    INVALID_NAMESPACE = 0x400B
    SEQUENCE_ERROR = 0x400C
    SGL_INVALID = 0x400F
    LBA_OUT_OF_RANGE = 0x4080
    INVALID_LOG_PAGE = 0x4109
    CONNECT_INCOMPATIBLE = 0x4180
    CONNECT_INVALID = 0x4182
    ACCESS_DENIED = 0x4286


class Op(enum.IntEnum):
    """Opcodes; admin and I/O commands share numbers."""

    FABRICS = 0x7F
    GET_LOG_PAGE = 0x02
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNC_EVENT = 0x0C
    KEEP_ALIVE = 0x18
    SECURITY_SEND = 0x81
    SECURITY_RECEIVE = 0x82
    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09


class Fabrics(enum.IntEnum):
    """Types of fabrics commands."""

    PROPERTY_SET = 0x00
    CONNECT = 0x01
    PROPERTY_GET = 0x04


@dataclass(frozen=True)
class Command:
    """A submission queue entry of 64 bytes."""

    entry: bytes

    @property
    def op(self) -> int:
        """Opcode."""
        return self.entry[0]

    @property
    def number(self) -> int:
        """Command identifier."""
        return int.from_bytes(self.entry[2:4], "little")

    @property
    def namespace(self) -> int:
        """Namespace identifier."""
        return int.from_bytes(self.entry[4:8], "little")

    @property
    def fabrics_type(self) -> int:
        """Type of a fabrics command."""
        return self.entry[4]

    @property
    def length(self) -> int:
        """Length of the data, from the SGL descriptor."""
        return int.from_bytes(self.entry[32:36], "little")

    @property
    def sgl_type(self) -> int:
        """Type of the SGL descriptor."""
        return self.entry[39]

    @property
    def writes(self) -> bool:
        """Whether the host sends data."""
        low = self.fabrics_type if self.op == Op.FABRICS else self.op
        return bool(low & 3 == 1)

    def dword(self, number: int) -> int:
        """Return a command dword, 10 to 15."""
        return int.from_bytes(self.entry[number * 4 : number * 4 + 4], "little")


@dataclass(frozen=True)
class Completion:
    """How a command ended."""

    status: Code = Code.SUCCESS
    result: int = 0
    data: bytes = b""


@dataclass
class Controller:
    """What one host has of the subsystem: registers and features."""

    number: int
    registers: dict[int, int] = field(default_factory=lambda: {_CC: 0, _CSTS: 0})
    features: dict[int, int] = field(default_factory=dict)


class Subsystem:
    """The drive as NVMe sees it."""

    def __init__(self, drive: Drive, serial: str) -> None:
        self.drive = drive
        self.serial = serial
        self.name = f"nqn.2026-01.org.example:opal-drive:{serial}"
        self._controllers: dict[int, Controller] = {}
        self._last_number = 0

    @property
    def hosts(self) -> int:
        """How many hosts are connected."""
        return len(self._controllers)

    def connect(self, command: Command, data: bytes) -> tuple[Completion, Controller | None, int]:
        """Run Connect; returns the controller and the queue's number as well."""
        invalid = Completion(Code.CONNECT_INVALID), None, 0
        if len(data) < 1024:
            return Completion(Code.SGL_INVALID), None, 0
        record, queue, _size = struct.unpack_from("<HHH", command.entry, 40)
        if record != 0:
            return Completion(Code.CONNECT_INCOMPATIBLE), None, 0
        wanted = int.from_bytes(data[16:18], "little")
        if data[256:512].split(b"\0")[0] != self.name.encode() or queue > MAX_IO_QUEUES:
            return invalid
        if queue:
            controller = self._controllers.get(wanted)
            return (Completion(result=wanted), controller, queue) if controller else invalid
        if wanted != _DYNAMIC:
            return invalid
        self._last_number = self._last_number % 0xFFEF + 1
        controller = Controller(self._last_number)
        controller.features[_KEEP_ALIVE_TIMER] = command.dword(12)
        self._controllers[controller.number] = controller
        return Completion(result=controller.number), controller, 0

    def disconnect(self, controller: Controller) -> None:
        """Forget a controller whose admin queue is gone."""
        self._controllers.pop(controller.number, None)

    def run_fabrics(self, controller: Controller, command: Command) -> Completion:
        """Run Property Get or Property Set."""
        offset = command.dword(11)
        if command.fabrics_type == Fabrics.PROPERTY_GET:
            fixed = {0x00: _CAPABILITIES, _VERSION: identify.VERSION}
            value = fixed.get(offset, controller.registers.get(offset, 0))
            return Completion(result=value if command.entry[40] & 7 else value & 0xFFFFFFFF)
        if command.fabrics_type != Fabrics.PROPERTY_SET or offset != _CC:
            return Completion(Code.INVALID_FIELD)
        value = command.dword(12)
        shut_down = bool(value >> 14 & 3)
        controller.registers = {_CC: value, _CSTS: (value & 1) | shut_down << 3}
        return Completion()

    def run_admin(self, controller: Controller, command: Command, data: bytes) -> Completion | None:
        """Run an admin command; None: it stays open, as an asynchronous event request does."""
        match command.op:
            case Op.IDENTIFY:
                return self._identify(controller, command)
            case Op.GET_LOG_PAGE:
                length = ((command.dword(10) >> 16 | (command.dword(11) & 0xFFFF) << 16) + 1) * 4
                page = identify.log_page(command.dword(10) & 0xFF, min(length, command.length))
                return Completion(Code.INVALID_LOG_PAGE) if page is None else Completion(data=page)
            case Op.SET_FEATURES | Op.GET_FEATURES:
                return _feature(controller, command)
            case Op.SECURITY_SEND | Op.SECURITY_RECEIVE:
                return self._security(command, data)
            case Op.ABORT:
                return Completion(result=1)  # not aborted
            case Op.KEEP_ALIVE:
                return Completion()
            case Op.ASYNC_EVENT:
                return None
        return Completion(Code.INVALID_OPCODE)

    def run_io(self, command: Command, data: bytes) -> Completion:
        """Run an I/O command."""
        if command.op == Op.FLUSH:
            self.drive.flush()
            return Completion()
        if command.namespace != 1:
            return Completion(Code.INVALID_NAMESPACE)
        block, count = command.dword(10) | command.dword(11) << 32, (command.dword(12) & 0xFFFF) + 1
        size = self.drive.model.block_bytes
        try:
            if command.op == Op.READ:
                if command.length != count * size or command.length > identify.MDTS_BYTES:
                    return Completion(Code.SGL_INVALID)
                return Completion(data=self.drive.read(block, count))
            if command.op == Op.WRITE:
                if len(data) != count * size:
                    return Completion(Code.SGL_INVALID)
                self.drive.write(block, data)
            elif command.op == Op.WRITE_ZEROES:
                self.drive.write_zeroes(block, count)
            elif command.op == Op.DATASET_MANAGEMENT:
                return self._deallocate(command, data)
            else:
                return Completion(Code.INVALID_OPCODE)
        except OutOfRange:
            return Completion(Code.LBA_OUT_OF_RANGE)
        except AccessDenied:
            return Completion(Code.ACCESS_DENIED)
        return Completion()

    def _identify(self, controller: Controller, command: Command) -> Completion:
        match command.dword(10) & 0xFF:
            case 0:
                if command.namespace != 1:
                    return Completion(Code.INVALID_NAMESPACE)
                return Completion(data=identify.namespace(self.drive.model, self.serial))
            case 1:
                return Completion(data=identify.controller(self.serial, self.name, controller.number))
            case 2:
                return Completion(data=identify.active_namespaces(command.namespace))
            case 3:
                return Completion(data=identify.descriptors(self.serial))
            case 6:  # limits of the NVM command set: none
                return Completion(data=bytes(4096))
        return Completion(Code.INVALID_FIELD)

    def _security(self, command: Command, data: bytes) -> Completion:
        protocol, com_id = command.dword(10) >> 24, command.dword(10) >> 8 & 0xFFFF
        try:
            if command.op == Op.SECURITY_SEND:
                self.drive.tper.send(protocol, com_id, data)
                return Completion()
            length = min(command.length, command.dword(11))
            if length > identify.MDTS_BYTES:
                return Completion(Code.INVALID_FIELD)
            return Completion(data=self.drive.tper.receive(protocol, com_id, length))
        except InvalidSecurityCommand:
            return Completion(Code.INVALID_FIELD)

    def _deallocate(self, command: Command, data: bytes) -> Completion:
        """Deallocate the ranges of Dataset Management; its other hints mean nothing to this drive."""
        count = (command.dword(10) & 0xFF) + 1
        if len(data) < count * 16:
            return Completion(Code.SGL_INVALID)
        if command.dword(11) & _DEALLOCATE:
            for _attributes, blocks, block in struct.iter_unpack("<IIQ", data[: count * 16]):
                self.drive.write_zeroes(block, blocks)
        return Completion()


def _feature(controller: Controller, command: Command) -> Completion:
    number, value = command.dword(10) & 0xFF, command.dword(11)
    if number not in _FEATURES:
        return Completion(Code.INVALID_FIELD)
    if command.op == Op.SET_FEATURES:
        if number == _NUMBER_OF_QUEUES:
            granted = [min(asked, MAX_IO_QUEUES - 1) for asked in (value & 0xFFFF, value >> 16)]
            value = granted[0] | granted[1] << 16
        controller.features[number] = value
        return Completion(result=value if number == _NUMBER_OF_QUEUES else 0)
    most = MAX_IO_QUEUES - 1
    return Completion(result=controller.features.get(number, most | most << 16 if number == _NUMBER_OF_QUEUES else 0))
