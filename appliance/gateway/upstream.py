"""HTTP/1.1 to an engine on a Unix socket: connections that are kept, answers that are read as they come.

An answer is whole when its own framing says so (RFC 9112, section 6); one that ends with the connection is broken. What
is not read is not taken from the socket, so that an engine waits for a slow client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import cast

import httptools

#: Bytes that wait for the client before the engine has to.
_HIGH_BYTES = 256 << 10
#: Engines close an idle connection after 5 s (cpp-httplib).
_IDLE_S = 3.0


class Broken(Exception):
    """The engine is gone, or does not speak HTTP."""


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, limit_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_bytes = limit_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._is_lost = self._is_paused = False
        self.used_s = 0.0
        self._is_asked = False
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._has_head = self._is_whole = self._has_begun = self._is_kept = False

    # What the loop calls.
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._is_whole or not self._is_asked:
            self.abort()  # nobody asked
            return
        self._has_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
        self._wake()

    # What the parser calls.
    def on_message_begin(self) -> None:
        if self._is_whole:
            self.abort()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._is_kept = self._parser.should_keep_alive()
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HIGH_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._is_whole = True

    # What the gateway calls.
    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._is_lost and self._is_whole and self._is_kept

    @property
    def is_alive(self) -> bool:
        """Whether the other end is still there, as far as is known."""
        return not self._is_lost

    @property
    def has_begun(self) -> bool:
        """Whether the engine has sent a byte of the answer."""
        return self._has_begun

    def send(self, path: str, body: bytes) -> None:
        """Send a request."""
        if self._is_asked:
            self._parser = httptools.HttpResponseParser(self)
        self._reset()
        self._is_asked = True
        head = (
            f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        if self._transport is not None:
            self._transport.write(head.encode() + body)

    async def head(self) -> int:
        """Wait for the status.

        Raises:
            Broken: there is none.
        """
        while not self._has_head:
            await self._more()
        return self.status

    async def read(self) -> bytes:
        """What has come, as soon as something has; empty at the end.

        Raises:
            Broken: the answer is not whole and nothing comes any more.
        """
        while not self._chunks:
            if self._is_whole:
                return b""
            await self._more()
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held_bytes = 0
        if self._is_paused and self._transport is not None and not self._is_lost:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def whole(self) -> bytes:
        """All of it.

        Raises:
            Broken: it is not whole, or too large.
        """
        parts, size_bytes = [], 0
        while data := await self.read():
            parts.append(data)
            size_bytes += len(data)
            if size_bytes > self._limit_bytes:
                raise Broken("the answer is too large")
        return b"".join(parts)

    async def rest(self, timeout_s: float) -> None:
        """Read to the end what nobody needs, if it is there soon."""
        with suppress(Broken, TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._is_whole:
                    await self.read()

    def abort(self) -> None:
        """End it at once: the engine stops working on the request."""
        self._is_lost = True
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        if self._is_lost:
            raise Broken("the connection ended")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Engine:
    """All connections to one engine; safe within one event loop."""

    def __init__(self, socket: Path, connect_s: float, answer_bytes: int) -> None:
        self._socket, self._connect_s, self._answer_bytes = str(socket), connect_s, answer_bytes
        self._idle: list[Connection] = []

    async def ask(self, path: str, body: bytes) -> Connection:
        """Send a request and wait for the status; the connection is to be given back.

        Raises:
            Broken: it does not answer.
        """
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_alive or asyncio.get_running_loop().time() - connection.used_s > _IDLE_S:
                connection.abort()
                continue
            try:
                return await self._sent(connection, path, body)
            except Broken:
                if connection.has_begun:
                    raise
                # It closed the connection just then, and has not seen the request.
        return await self._sent(await self._connected(), path, body)

    def give_back(self, connection: Connection) -> None:
        """Keep it for another request if its answer is whole; else end it."""
        if connection.is_usable:
            connection.used_s = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """End what is idle."""
        while self._idle:
            self._idle.pop().abort()

    async def _sent(self, connection: Connection, path: str, body: bytes) -> Connection:
        try:
            connection.send(path, body)
            await connection.head()
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _transport, connection = await loop.create_unix_connection(
                    lambda: Connection(self._answer_bytes), self._socket
                )
        except (OSError, TimeoutError) as error:
            raise Broken("the engine does not listen") from error
        return connection
