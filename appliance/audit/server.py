"""The one way to the audit log: a Unix socket. A message is a length (4 bytes, big-endian) and a JSON object.

`{"id": n, "admitted": {...}}` is answered `{"id": n, "seq": s}`, `{"id": n, "completed": {"seq": s, ...}}` with
`{"id": n, "ok": true}`, each when it is durable; what cannot be, with `{"id": n, "error": "..."}`. Many may be under
way; answers come in any order. A message that cannot be read ends the connection. Only the users that are named may
connect: the kernel tells who does.

One thread reads, writes to the disk and answers, in turn: what comes while the disk works is the next group.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.audit.book import Book
from appliance.audit.fields import Admitted, Completed, Request
from appliance.audit.wire import Wire, peer_uid
from custody.errors import AirgapError

#: Seconds after which what is there is signed, whether more comes or not.
_SIGN_S = 1.0
#: Seconds in which answers have to be taken when the process stops.
_CLOSE_S = 1.0


class Client(Wire):
    """Who takes no answers is not read, so that what waits for him is bounded."""

    def pause_writing(self) -> None:
        """He takes nothing."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """He does again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()


class Server:
    """Serves a book."""

    def __init__(self, book: Book, path: Path, uids: frozenset[int]) -> None:
        """Args: uids: users that may connect."""
        self._book, self._path, self._uids = book, path, uids
        self._wires: set[Wire] = set()
        #: Who asked, under which number, for what: the next group.
        self._asked: list[tuple[Wire, int, Admitted | Completed]] = []
        self._will_sign = False

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until told to stop; who may connect is decided by the folder's mode and by `uids`."""
        self._path.unlink(missing_ok=True)
        make = lambda: Client(self._take, self._open, self._wires.discard)  # noqa: E731
        server = await asyncio.get_running_loop().create_unix_server(make, str(self._path))
        self._path.chmod(0o666)  # the kernel's word on the peer decides
        await stop.wait()
        server.close()
        self._path.unlink(missing_ok=True)
        self._write()  # what was asked before the end is answered
        for wire in self._wires:
            wire.transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                while self._wires:
                    await asyncio.sleep(0.01)

    def _open(self, wire: Wire) -> None:
        self._wires.add(wire)
        if peer_uid(wire.transport.get_extra_info("socket")) not in self._uids:
            wire.transport.close()

    def _take(self, wire: Wire, data: bytes) -> None:
        try:
            request = Request.model_validate_json(data)
        except ValidationError as error:
            # Its own words would quote what was sent.
            fields = sorted({".".join(map(str, part["loc"])) for part in error.errors(include_input=False)})
            wire.send([_error(_id(data), f"not a request of this socket: {', '.join(fields)}")])
            return
        record = request.admitted or request.completed
        if record is None or (request.admitted is not None and request.completed is not None):
            wire.send([_error(request.id, "expected one of admitted and completed")])
            return
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._write)  # when every socket that has something was read
        self._asked.append((wire, request.id, record))

    def _write(self) -> None:
        """Write what was asked as one group, and answer."""
        asked, self._asked = self._asked, []
        if not asked:
            return
        try:
            found = self._book.write([record for _wire, _number, record in asked])
        except Exception as error:  # whoever asked is not left waiting; its words may hold what was sent
            found = [AirgapError(f"a defect of this project: {type(error).__name__}")] * len(asked)
        answers: dict[Wire, list[bytes]] = {}
        for (wire, number, record), seq in zip(asked, found, strict=True):
            if isinstance(seq, AirgapError):
                answer = _error(number, seq.message)
            elif isinstance(record, Admitted):
                answer = b'{"id":%d,"seq":%d}' % (number, seq)
            else:
                answer = b'{"id":%d,"ok":true}' % number
            answers.setdefault(wire, []).append(answer)
        for wire, messages in answers.items():
            wire.send(messages)
        self._sign_soon()

    async def tell(self, kind: str, content: Mapping[str, Any]) -> int:
        """`Book.tell`, in the turn of this thread."""
        self._sign_soon()
        return self._book.tell(kind, content)

    def _sign_soon(self) -> None:
        if not self._will_sign:
            self._will_sign = True
            asyncio.get_running_loop().call_later(_SIGN_S, self._sign)

    def _sign(self) -> None:
        self._will_sign = False
        self._book.sign()


def _error(number: int | None, message: str) -> bytes:
    return json.dumps({"id": number, "error": message}).encode()


def _id(data: bytes) -> int | None:
    """The number of a request that is otherwise malformed, if it has one."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        number: Any = json.loads(data)["id"]
        return number if isinstance(number, int) else None
    return None
