"""What a client is given: headers of the gateway's own and nothing of the engine's, a body or a stream of events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from appliance.gateway.refusal import Refused

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_COMMON = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Reply:
    """The answer to one request.

    Attributes:
        has_begun: the status is on its way.
        has_ended: all of it is.
    """

    __slots__ = ("_id", "_send", "has_begun", "has_ended")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._id = send, request_id.encode()
        self.has_begun = self.has_ended = False

    async def whole(
        self,
        status: int,
        body: bytes,
        content_type: tuple[bytes, bytes] = _JSON,
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """All at once."""
        length = (b"content-length", str(len(body)).encode())
        headers = [content_type, length, (b"x-request-id", self._id), *_COMMON, *more]
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
        self.has_ended = True

    async def begin(self) -> None:
        """A stream of events; nginx shall not hold them back."""
        headers = [_EVENTS, (b"x-request-id", self._id), (b"x-accel-buffering", b"no"), *_COMMON]
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, data: bytes) -> None:
        """Of a stream; waits while the client takes none."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Of a stream."""
        await self._send({"type": "http.response.body", "body": data})
        self.has_ended = True

    async def refuse(self, refused: Refused) -> None:
        """An error, or an error event when a stream has begun; no `[DONE]` follows."""
        if self.has_ended:
            return
        if self.has_begun:
            await self.end(b"data: " + json.dumps(refused.content()).encode() + b"\n\n")
            return
        more: list[tuple[bytes, bytes]] = []
        if refused.retry_after_s:
            more.append((b"retry-after", str(refused.retry_after_s).encode()))
        if refused.status == 401:
            more.append((b"www-authenticate", b"Bearer"))
        if refused.status == 405:
            more.append((b"allow", (refused.param or "").encode()))
        if refused.status in (408, 413):
            more.append((b"connection", b"close"))
        await self.whole(refused.status, refused.body(), more=tuple(more))
