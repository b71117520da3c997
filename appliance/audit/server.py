"""The one way to the audit log: a Unix socket. A message is a length (4 bytes, big-endian) and a JSON object.

`{"id": n, "admitted": {...}}` is answered `{"id": n, "seq": s}`, `{"id": n, "completed": {"seq": s, ...}}` with
`{"id": n, "ok": true}`, each when it is durable; what cannot be, with `{"id": n, "error": "..."}`. Many may be under
way; answers come in any order. A message that cannot be read ends the connection. Only the users that are named may
connect: the kernel tells who does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.audit.book import Book
from appliance.audit.fields import Request
from custody.errors import AirgapError

#: An `admitted` with every field at its largest stays below.
MESSAGE_MAX_BYTES = 64 << 10
#: Requests of one connection that may be under way; more wait in the socket.
_IN_FLIGHT = 4096
_LENGTH = struct.Struct(">I")
_PEER = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class Server:
    """Serves a book."""

    def __init__(self, book: Book, path: Path, uids: frozenset[int]) -> None:
        """Args: uids: users that may connect."""
        self._book, self._path, self._uids = book, path, uids
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until told to stop; who may connect is decided by the folder's mode and by `uids`."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, self._path, limit=MESSAGE_MAX_BYTES)
        self._path.chmod(0o666)  # the kernel's word on the peer decides
        await stop.wait()
        server.close()
        self._path.unlink(missing_ok=True)
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks: set[asyncio.Task[None]] = set()
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            if _peer_uid(writer) not in self._uids:
                return
            while True:
                size = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
                if size > MESSAGE_MAX_BYTES:
                    return
                data = await reader.readexactly(size)
                if len(tasks) >= _IN_FLIGHT:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._answer(data, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other end is gone, or this one stops
        finally:
            if tasks:
                await asyncio.wait(tasks)  # what was asked before the end is answered
            self._connections.discard(connection)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        number: Any = None
        try:
            request = Request.model_validate_json(data)
            number = request.id
            answer = {"id": number, **await self._do(request)}
        except ValidationError as error:
            # Its own words would quote what was sent.
            fields = sorted({".".join(map(str, part["loc"])) for part in error.errors(include_input=False)})
            answer = {"id": _id(data), "error": f"not a request of this socket: {', '.join(fields)}"}
        except AirgapError as error:
            answer = {"id": number, "error": error.message}
        except Exception as error:  # whoever asked is not left waiting; its words may hold what was sent
            answer = {"id": number, "error": f"a defect of this project: {type(error).__name__}"}
        text = json.dumps(answer, separators=(",", ":")).encode()
        if not writer.is_closing():
            writer.write(_LENGTH.pack(len(text)) + text)
            with suppress(ConnectionError):
                await writer.drain()

    async def _do(self, request: Request) -> dict[str, Any]:
        if request.admitted is not None and request.completed is None:
            return {"seq": await _shielded(self._book.admitted(request.admitted))}
        if request.completed is not None and request.admitted is None:
            await _shielded(self._book.completed(request.completed))
            return {"ok": True}
        return {"error": "expected one of admitted and completed"}


async def _shielded(done: Future[int]) -> int:
    """Wait for what is being written; a connection that ends does not take it back."""
    return await asyncio.shield(asyncio.wrap_future(done))


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    peer: bytes = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    uid: int = _PEER.unpack(peer)[1]
    return uid


def _id(data: bytes) -> Any:
    """The number of a request that is otherwise malformed, if it has one."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        number = json.loads(data)["id"]
        return number if isinstance(number, int) else None
    return None
