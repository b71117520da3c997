"""A host's side of NVMe/TCP, for tests without a kernel: an admin queue, an I/O queue, a handful of commands."""

from __future__ import annotations

import socket
import struct

from . import pdu
from .nvme import Fabrics, Op
from .pdu import Kind, Pdu

_TIMEOUT_S = 10.0
_DYNAMIC = 0xFFFF
_ENABLE = 0x00460001  # CC: entry sizes of 64 and 16 bytes, enabled
_IN_CAPSULE, _IN_TRANSPORT = 0x01, 0x5A


class NvmeError(RuntimeError):
    """A command ended with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"NVMe status 0x{status:04x}")
        self.status = status


class HostQueue:
    """One connection: commands one after the other."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Connect and set PDUs up."""
        self.socket = socket.create_connection(address, _TIMEOUT_S)
        self._last_command = 0
        self.socket.sendall(Pdu(Kind.IC_REQ, struct.pack("<HBBI112x", 0, 0, 0, 0)).pack())
        self.receive(Kind.IC_RESP)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def receive(self, kind: Kind) -> Pdu:
        """Return the next PDU.

        Raises:
            ConnectionError: The connection is gone.
            AssertionError: It is of another type.
        """
        unit = pdu.read_pdu(self.socket)
        if unit is None:
            raise ConnectionResetError("the target closed the connection")
        assert unit.kind is kind, f"{unit.kind.name}, expected {kind.name}"
        return unit

    def command(
        self,
        op: int,
        namespace: int = 0,
        dwords: tuple[int, ...] = (),
        data: bytes = b"",
        read_bytes: int = 0,
        *,
        in_capsule: bool = True,
    ) -> tuple[int, bytes]:
        """Run a command.

        Args:
            namespace: Or the type of a fabrics command.
            dwords: From dword 10 on.
            data: To send, in the capsule or when the target asks for it.
            read_bytes: How much is to be read at most.

        Returns:
            The first 8 bytes of the completion, and what was read.

        Raises:
            NvmeError: The command failed.
        """
        self._last_command += 1
        number = self._last_command & 0xFFFF
        sgl_type = _IN_CAPSULE if data and in_capsule else _IN_TRANSPORT
        entry = struct.pack("<BBHI16xQI3xB", op, 0x40, number, namespace, 0, len(data) or read_bytes, sgl_type)
        entry += struct.pack("<6I", *dwords, *[0] * (6 - len(dwords)))
        self.socket.sendall(Pdu(Kind.CAPSULE_CMD, entry, data if in_capsule else b"").pack())
        if data and not in_capsule:
            self._send_data(number, data)
        return self._finish(number)

    def _send_data(self, number: int, data: bytes) -> None:
        """Answer the target's request with the data, in two parts."""
        unit = pdu.read_pdu(self.socket)
        if unit is None:
            raise ConnectionResetError("the target closed the connection")
        if unit.kind is Kind.CAPSULE_RESP:
            raise NvmeError(int.from_bytes(unit.header[14:16], "little") >> 1)
        _number, tag, offset, length = struct.unpack_from("<HHII", unit.header)
        assert (unit.kind, offset, length) == (Kind.R2T, 0, len(data))
        half = len(data) // 2
        for at, part in ((0, data[:half]), (half, data[half:])):
            header = struct.pack("<HHII4x", number, tag, at, len(part))
            self.socket.sendall(Pdu(Kind.H2C_DATA, header, part, pdu.LAST_PDU if at else 0).pack())

    def _finish(self, number: int) -> tuple[int, bytes]:
        read = b""
        while True:
            unit = pdu.read_pdu(self.socket)
            if unit is None:
                raise ConnectionResetError("the target closed the connection")
            if unit.kind is Kind.C2H_DATA:
                read += unit.data
                continue
            assert unit.kind is Kind.CAPSULE_RESP, unit.kind.name
            result, _head, _queue, answered, status = struct.unpack("<QHHHH", unit.header)
            assert answered == number
            if status >> 1:
                raise NvmeError(status >> 1)
            return result, read


class NvmeHost:
    """Connected to a target: controller enabled, one I/O queue. Carries Opal as well (`client.Transport`)."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        """Connect as a kernel does.

        Raises:
            NvmeError: The target refuses it.
        """
        self.admin = HostQueue(address)
        self.controller_number = self._connect(self.admin, 0, _DYNAMIC, name)
        self.admin.command(Op.FABRICS, Fabrics.PROPERTY_SET, (0, 0x14, _ENABLE))
        self.io = HostQueue(address)
        self._connect(self.io, 1, self.controller_number, name)
        self.block_bytes = 1 << self.identify(0, namespace=1)[130]

    def close(self) -> None:
        """Close both connections."""
        self.io.close()
        self.admin.close()

    def identify(self, structure: int, namespace: int = 0) -> bytes:
        """Return an Identify data structure (CNS)."""
        return self.admin.command(Op.IDENTIFY, namespace, (structure,), read_bytes=4096)[1]

    def read(self, block: int, count: int) -> bytes:
        """Read blocks."""
        size = count * self.block_bytes
        return self.io.command(Op.READ, 1, (block & 0xFFFFFFFF, block >> 32, count - 1), read_bytes=size)[1]

    def write(self, block: int, data: bytes, *, in_capsule: bool = False) -> None:
        """Write whole blocks."""
        last = len(data) // self.block_bytes - 1
        self.io.command(Op.WRITE, 1, (block & 0xFFFFFFFF, block >> 32, last), data, in_capsule=in_capsule)

    def write_zeroes(self, block: int, count: int) -> None:
        """Zero blocks."""
        self.io.command(Op.WRITE_ZEROES, 1, (block & 0xFFFFFFFF, block >> 32, count - 1))

    def deallocate(self, block: int, count: int) -> None:
        """Deallocate blocks."""
        self.io.command(Op.DATASET_MANAGEMENT, 1, (0, 4), struct.pack("<IIQ", 0, count, block))

    def security_send(self, protocol: int, com_id: int, payload: bytes) -> None:
        """Send to the TPer."""
        dwords = (protocol << 24 | com_id << 8, len(payload))
        self.admin.command(Op.SECURITY_SEND, 0, dwords, payload, in_capsule=len(payload) <= 8192)

    def security_receive(self, protocol: int, com_id: int, length: int) -> bytes:
        """Receive from the TPer."""
        dwords = (protocol << 24 | com_id << 8, length)
        return self.admin.command(Op.SECURITY_RECEIVE, 0, dwords, read_bytes=length)[1]

    def _connect(self, queue: HostQueue, number: int, controller: int, name: str) -> int:
        """Run Connect and return the controller's number."""
        data = bytes(16) + controller.to_bytes(2, "little") + bytes(238) + name.encode().ljust(256, b"\0")
        data = (data + b"nqn.2014-08.org.nvmexpress:uuid:test").ljust(1024, b"\0")
        dwords = (number << 16, 31, 0)
        return queue.command(Op.FABRICS, Fabrics.CONNECT, dwords, data)[0] & 0xFFFF
