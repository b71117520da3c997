"""Group commit: many threads append, one write and one sync serve all that wait."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from custody.errors import LedgerUnwritable
from custody.ledger.log import Log
from custody.ledger.segment import require_entry

#: Entries of one group at most; more wait for the next.
GROUP_ENTRIES = 1024
#: Seconds after which what is there is signed, whether entries come or not.
IDLE_S = 1.0


@dataclass(frozen=True)
class _Waiting:
    make: Callable[[int], bytes]
    done: Future[int]


class GroupWriter:
    """Appends for many threads; the log is its own from here on."""

    def __init__(self, log: Log, *, idle_s: float = IDLE_S, on_sign: Callable[[], None] = lambda: None) -> None:
        """Args: on_sign: called in the writing thread after the log was signed."""
        self._log, self._idle_s, self._on_sign = log, idle_s, on_sign
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer")
        self._thread.start()

    def submit(self, make: Callable[[int], bytes]) -> Future[int]:
        """Append an entry that is made once its number is known.

        Returns:
            Its number, as soon as it is durable; or LedgerUnwritable, or whatever `make` raised.

        Raises:
            LedgerUnwritable: the writing thread has ended.
        """
        if not self._thread.is_alive():
            raise LedgerUnwritable("log: its writing thread has ended", "restart the process; its log says why")
        waiting = _Waiting(make, Future())
        self._queue.put(waiting)
        return waiting.done

    def close(self) -> None:
        """Write what waits, sign, end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        signed, signed_at_s, is_open = self._log.size, time.monotonic(), True
        while is_open:
            batch: list[_Waiting | None] = []
            with suppress(queue.Empty):
                batch.append(self._queue.get(timeout=self._idle_s if signed != self._log.size else None))
            while batch and batch[-1] is not None and len(batch) < GROUP_ENTRIES and not self._queue.empty():
                batch.append(self._queue.get())
            is_open = None not in batch
            self._write([waiting for waiting in batch if waiting is not None])
            if not batch or not is_open or time.monotonic() - signed_at_s > self._idle_s:
                signed, signed_at_s = self._sign(), time.monotonic()

    def _sign(self) -> int:
        with suppress(LedgerUnwritable):  # the next append says so to somebody
            self._log.checkpoint()
            self._on_sign()
        return self._log.size

    def _write(self, batch: list[_Waiting]) -> None:
        entries: list[bytes] = []
        taken: list[_Waiting] = []
        for waiting in batch:
            if not waiting.done.set_running_or_notify_cancel():
                continue
            try:
                entry = waiting.make(self._log.size + len(entries))
                require_entry(entry)
                entries.append(entry)
                taken.append(waiting)
            except Exception as error:  # the asker's own; the others go on
                waiting.done.set_exception(error)
        try:
            numbers = self._log.append(entries)
        except Exception as error:  # whatever it is, somebody waits for it
            for waiting in taken:
                waiting.done.set_exception(error)
            return
        for waiting, number in zip(taken, numbers, strict=True):
            waiting.done.set_result(number)
