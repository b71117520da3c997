"""uvicorn's HTTP/1.1 (on llhttp), with bounds that it has not: time and bytes for headers, number of connections."""

from __future__ import annotations

import asyncio

from uvicorn.config import Config as Uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from appliance.gateway import refusal
from appliance.gateway.call import new_id
from appliance.gateway.config import Bounds, Timeouts

_HEADERS = 100


class Bounded(HttpToolsProtocol):
    """One connection of a client; on an appliance nginx is at the other end."""

    def __init__(self, config: Uvicorn, state: ServerState, bounds: Bounds, timeouts: Timeouts) -> None:
        super().__init__(config, state, {})
        self._bounds, self._timeouts = bounds, timeouts
        self._is_in_head, self._head_bytes, self._heads = True, 0, 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections:
            transport.abort()
            return
        self._timer = self.loop.call_later(self._timeouts.header_s, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; headers that do not end are cut off."""
        if self.parser is None or self.transport.is_closing():
            return
        was_in_head, heads = self._is_in_head, self._heads
        super().data_received(data)
        if was_in_head and self._is_in_head and self._heads == heads:
            self._head_bytes += len(data)
            if self._head_bytes > self._bounds.header_bytes and not self.transport.is_closing():
                self.send_400_response("")
        is_answered = self.cycle is not None and self.cycle.response_complete
        if is_answered and self._timer is self.timeout_keep_alive_task is None:
            # uvicorn's timer ended with these bytes: the rest of a body that nobody reads, or empty lines. Closing at
            # once would take the answer from a client that still sends.
            self._timer = self.loop.call_later(self._timeouts.idle_s, self.transport.abort)

    def on_message_begin(self) -> None:
        """Its first byte."""
        super().on_message_begin()
        self._stop()
        self._is_in_head = True
        self._timer = self.loop.call_later(self._timeouts.header_s, self.transport.abort)

    def on_headers_complete(self) -> None:
        """The headers ended.

        Raises:
            ValueError: too large, or a target that is no plain path (RFC 9112, 3.2.1); the parser makes it 400.
        """
        self._stop()
        self._is_in_head, self._head_bytes = False, 0
        self._heads += 1
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size_bytes > self._bounds.header_bytes or len(self.headers) > _HEADERS:
            raise ValueError("headers too large")
        if not self.url.startswith(b"/") or b"#" in self.url:
            raise ValueError("not a path")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body ended; what comes next is a head."""
        super().on_message_complete()
        self._is_in_head = True

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is told so in the shape of all errors, and the connection ends."""
        body = refusal.invalid("the request is not HTTP/1.1 as expected").body()
        head = b"x-request-id: %b\r\ncontent-type: application/json\r\n" % new_id().encode()
        head += b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[400] + head + body)
        self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
