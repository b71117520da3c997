"""Messages between the gateway and the audit process."""

from __future__ import annotations

import asyncio
import socket
import struct

from appliance.audit.server import Client
from appliance.audit.wire import MESSAGE_MAX_BYTES, Wire


async def _echo() -> tuple[Wire, socket.socket]:
    """A wire that says again what it is told, and the socket at its other end."""
    here, there = socket.socketpair()
    there.setblocking(False)
    gone: list[Wire] = []
    loop = asyncio.get_running_loop()
    _transport, wire = await loop.create_connection(
        lambda: Client(lambda wire, data: wire.send([data]), lambda _wire: None, gone.append), sock=here
    )
    return wire, there


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_messages_are_told_apart_however_their_bytes_come() -> None:
    async def check() -> None:
        _wire, there = await _echo()
        sent = b"".join(framed(b"x" * size) for size in (0, 1, 300, MESSAGE_MAX_BYTES)) + framed(b"last")
        loop, got, at = asyncio.get_running_loop(), b"", 0
        for size in (1, 2, 1, 5, 7, 299, len(sent)):
            await loop.sock_sendall(there, sent[at : at + size])
            await asyncio.sleep(0)
            at += size
        while len(got) < len(sent):
            got += await loop.sock_recv(there, 1 << 20)
        assert got == sent

    asyncio.run(check())


def test_what_is_too_long_ends_the_connection() -> None:
    async def check() -> None:
        _wire, there = await _echo()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(there, struct.pack(">I", MESSAGE_MAX_BYTES + 1))
        assert await loop.sock_recv(there, 1) == b""

    asyncio.run(check())


def test_who_takes_no_answers_is_not_read() -> None:
    async def check() -> None:
        wire, there = await _echo()
        loop, message, sent = asyncio.get_running_loop(), framed(b"x" * 4092), 0
        turns_without = 0
        while turns_without < 50:
            try:
                sent += there.send(message)
                turns_without = 0
            except BlockingIOError:
                turns_without += 1
            await asyncio.sleep(0)
        assert wire.transport.get_write_buffer_size() < 1 << 20
        got = 0
        while got < sent - len(message):
            got += len(await loop.sock_recv(there, 1 << 20))

    asyncio.run(check())
