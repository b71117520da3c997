"""Messages over a Unix socket, both ways: a length (4 bytes, big-endian) and as many bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from typing import cast

#: An `admitted` with every field at its largest stays below.
MESSAGE_MAX_BYTES = 64 << 10
_LENGTH = struct.Struct(">I")
_PEER = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket, by the kernel's word."""
    uid: int = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1]
    return uid


class Wire(asyncio.Protocol):
    """One connection.

    Args:
        on_message: called with each message; what it raises ends the connection.
        on_open: called once the connection stands.
        on_lost: called when it is gone.
    """

    def __init__(
        self,
        on_message: Callable[[Wire, bytes], None],
        on_open: Callable[[Wire], None],
        on_lost: Callable[[Wire], None],
    ) -> None:
        self._on_message, self._on_open, self._on_lost, self._rest = on_message, on_open, on_lost, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self.transport = cast(asyncio.Transport, transport)
        self._on_open(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """It is gone."""
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came: any number of messages, and a part of one."""
        data, at = self._rest + data, 0
        while len(data) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(data, at)
            if size > MESSAGE_MAX_BYTES:
                self.transport.abort()
                return
            end = at + _LENGTH.size + size
            if len(data) < end:
                break
            self._on_message(self, data[at + _LENGTH.size : end])
            at = end
        self._rest = data[at:]

    def send(self, messages: Iterable[bytes]) -> None:
        """Send; several at once, since each write wakes the other process."""
        if not self.transport.is_closing():
            self.transport.write(b"".join(part for data in messages for part in (_LENGTH.pack(len(data)), data)))
