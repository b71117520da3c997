"""The gateway's end of the audit log's socket (`docs/reference/audit.md`).

One connection, many records under way. `admitted` waits until the record is durable, and fails when that takes too
long: whoever asked is refused. `completed` waits for nothing; what was not acknowledged is said again, with the same
figures, after a reconnect or a while, until the audit process takes it or says that it never will.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from appliance.audit.wire import Wire
from appliance.gateway import refusal

#: Seconds until a connection, or a `completed` that could not be written, is tried again.
_AGAIN_S = 1.0
#: Seconds that a `completed` waits for an `admitted` to go with it: one group of the log less, and one waking.
_TOGETHER_S = 0.005
#: Records without an answer, of which an audit process that hangs gives none; late ones count, since it may still come.
_WAITING = 4096
#: What the audit process says of an end that it will not take, however often it is said.
_FINAL = ("no admitted request", "not a request of this socket")
_JSON = json.JSONEncoder(separators=(",", ":"))
_LOG = logging.getLogger("airgap.gateway")

#: What is said of a request whose client went away before its number came.
_GONE_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Record:
    """Speaks to the audit process; safe within one event loop.

    Args:
        timeout_s: for `admitted`.
    """

    def __init__(self, socket: Path, timeout_s: float) -> None:
        self._socket, self._timeout_s = str(socket), timeout_s
        self._wire: Wire | None = None
        self._unsent: list[bytes] = []
        self._is_hurrying = False
        self._number = 0
        #: By number of the message: who waits, and whether it will have an end.
        self._admitted: dict[int, tuple[asyncio.Future[int], bool]] = {}
        #: By number of the message; what was not acknowledged, as it was said.
        self._completed: dict[int, bytes] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the audit process is there."""
        return self._wire is not None

    @property
    def open(self) -> int:
        """Ends that were not acknowledged."""
        return len(self._completed)

    def start(self) -> None:
        """Connect, and connect again whenever it is lost."""
        self._task = asyncio.create_task(self._stay_connected())

    async def close(self, timeout_s: float) -> None:
        """Wait until every end is acknowledged, but no longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._completed or self._admitted:
                    await asyncio.sleep(0.01)
        if self._completed:
            _LOG.error("%d ends of requests are not recorded", len(self._completed))
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._wire is not None:
            self._wire.transport.abort()

    async def admitted(self, record: dict[str, Any]) -> int:
        """Record that a request was decided on; returns its number once that is durable.

        Raises:
            Refused: it is not, or not in time.
        """
        if self._wire is None or len(self._admitted) >= _WAITING:
            raise refusal.unavailable("no_record", "the request cannot be recorded")
        self._number += 1
        loop, is_allowed = asyncio.get_running_loop(), record["decision"] == "allow"
        answer: asyncio.Future[int] = loop.create_future()
        self._admitted[self._number] = answer, is_allowed
        timer = loop.call_later(self._timeout_s, self._late, answer)
        self._unsent.append(_JSON.encode({"id": self._number, "admitted": record}).encode())
        if not self._is_hurrying:
            self._is_hurrying = True
            loop.call_soon(self._flush)  # what is said in one turn of the loop goes out at once
        try:
            return await answer
        except asyncio.CancelledError:
            if is_allowed and not answer.cancelled() and answer.exception() is None:
                self._given_up(answer.result())
            raise
        finally:
            timer.cancel()

    def completed(
        self, seq: int, *, output_sha256: str, tokens_in: int, tokens_out: int, latency_ms: int, status: str
    ) -> None:
        """Record how an admitted request ended; it is told until it is acknowledged."""
        self._number += 1
        content = {
            "seq": seq, "output_sha256": output_sha256, "tokens_in": tokens_in, "tokens_out": tokens_out,
            "latency_ms": latency_ms, "status": status,
        }  # fmt: skip
        self._completed[self._number] = _JSON.encode({"id": self._number, "completed": content}).encode()
        self._say(self._number)

    def _say(self, number: int) -> None:
        if self._wire is not None and number in self._completed:
            if not self._unsent:
                asyncio.get_running_loop().call_later(_TOGETHER_S, self._flush)
            self._unsent.append(self._completed[number])

    def _flush(self) -> None:
        self._is_hurrying = False
        if self._wire is not None and self._unsent:
            self._wire.send(self._unsent)
            self._unsent.clear()

    def _answered(self, _wire: Wire, data: bytes) -> None:
        answer = json.loads(data)
        number = answer["id"]
        if number in self._admitted:
            waiting, is_allowed = self._admitted.pop(number)
            if "seq" in answer and not waiting.done():
                waiting.set_result(int(answer["seq"]))
            elif "seq" in answer and is_allowed:
                self._given_up(int(answer["seq"]))
            elif not waiting.done():
                _LOG.error("audit: a request is not recorded: %s", answer.get("error"))
                waiting.set_exception(refusal.unavailable("no_record", "the request cannot be recorded"))
            return
        if number not in self._completed:
            return
        error = answer.get("error")
        if error is None:
            del self._completed[number]
        elif any(word in error for word in _FINAL):
            _LOG.error("audit: an end is not taken: %s", error)
            del self._completed[number]
        else:
            asyncio.get_running_loop().call_later(_AGAIN_S, self._say, number)

    @staticmethod
    def _late(answer: asyncio.Future[int]) -> None:
        """Nobody waits any longer; should its number come, it is ended."""
        if not answer.done():
            answer.set_exception(refusal.unavailable("no_record", "the request was not recorded in time"))

    def _given_up(self, seq: int) -> None:
        self.completed(
            seq, output_sha256=_GONE_SHA256, tokens_in=0, tokens_out=0, latency_ms=0, status="cancelled"
        )  # fmt: skip

    def _opened(self, wire: Wire) -> None:
        self._wire = wire
        wire.send(self._completed.values())

    def _lost(self, wire: Wire) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        self._unsent.clear()
        waiting, self._admitted = self._admitted, {}
        for answer, _is_allowed in waiting.values():
            if not answer.done():
                answer.set_exception(refusal.unavailable("no_record", "the request cannot be recorded"))

    async def _stay_connected(self) -> None:
        loop, has_told = asyncio.get_running_loop(), False
        while True:
            if self._wire is None:
                try:
                    await loop.create_unix_connection(
                        lambda: Wire(self._answered, self._opened, self._lost), self._socket
                    )
                except OSError as error:
                    if not has_told:
                        _LOG.error("audit: %s: %s; no request is served", self._socket, error.strerror or error)
                    has_told = True
                else:
                    has_told = False
            await asyncio.sleep(_AGAIN_S / 10)
