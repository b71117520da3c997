"""A transport for `client.OpalHost` through a Linux kernel: Security Send and Receive by NVMe admin passthrough.

What the kernel's own Opal ioctls have no command for goes this way: SID's PIN before Linux 6.13, a stack reset, a
session that is left open. Layout and number: `struct nvme_passthru_cmd` and NVME_IOCTL_ADMIN_CMD of
linux/nvme_ioctl.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from types import TracebackType

from .nvme import Op

_ADMIN_CMD = 0xC0484E41
# opcode, flags; namespace, dwords 2 and 3; metadata, data; their lengths; dwords 10 to 15; timeout in ms, result
_COMMAND = struct.Struct("<BB2xIIIQQIIIIIIIIII")
_BLOCK_BYTES = 512
_TIMEOUT_MS = 60_000


class Passthrough:
    """An open NVMe device, such as `/dev/nvme0n1` or its controller `/dev/nvme0`."""

    def __init__(self, device: str) -> None:
        self._file = os.open(device, os.O_RDONLY)

    def __enter__(self) -> Passthrough:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the device; a session of the drive stays as it is."""
        os.close(self._file)

    def security_send(self, protocol: int, com_id: int, payload: bytes) -> None:
        """Send, padded to whole blocks.

        Raises:
            OSError: The drive aborted the command, or the kernel has no connection.
        """
        self._run(Op.SECURITY_SEND, protocol, com_id, payload + bytes(-len(payload) % _BLOCK_BYTES))

    def security_receive(self, protocol: int, com_id: int, length: int) -> bytes:
        """Receive; errors as `security_send`."""
        return self._run(Op.SECURITY_RECEIVE, protocol, com_id, bytes(length))

    def _run(self, op: Op, protocol: int, com_id: int, data: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(data, len(data))
        dwords = (protocol << 24 | com_id << 8, len(data), 0, 0, 0, 0)
        address = ctypes.addressof(buffer)
        command = _COMMAND.pack(op, 0, 0, 0, 0, 0, address, 0, len(data), *dwords, _TIMEOUT_MS, 0)
        status = fcntl.ioctl(self._file, _ADMIN_CMD, bytearray(command))
        if status:
            raise OSError(f"{op.name}: NVMe status 0x{status:x}")
        return buffer.raw
