"""The audit log as its process keeps it: `admitted`, later `completed`, each durable before it is acknowledged.

An admitted request ends once; the same end said again, by a gateway that missed the answer, is answered and not
written. Beside requests the log tells of its own life: started, stopped, recovered, and of every new epoch.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from appliance.audit import fields
from appliance.audit.epoch import Epoch, Epochs
from appliance.audit.reserve import Reserve
from custody.errors import AirgapError, LedgerUnwritable, OperatorMistake
from custody.ledger.group import IDLE_S, GroupWriter
from custody.ledger.log import Log
from custody.ledger.moment import now
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.report import Reporter

#: Ends that are remembered, for a gateway that says one again.
_REMEMBERED = 2 * SEGMENT_ENTRIES


class Book:
    """An open audit log; safe to use from several threads."""

    def __init__(
        self,
        log: Log,
        epochs: Epochs,
        reserve: Reserve,
        reporter: Reporter,
        *,
        sign_s: float = IDLE_S,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin to write; tells what a crash left.

        Args:
            sign_s: seconds after which what is there is signed.
            settings: told with the start.
        """
        self._settings = dict(settings or {})
        self._log, self._epochs, self._reserve, self._reporter = log, epochs, reserve, reporter
        self._epoch = epochs.current()
        self._lock = threading.Lock()
        self._has_told_torn = False
        self._open, self._ended = _remembered(log)
        try:
            self._begin()
        except LedgerUnwritable:
            reserve.give_back()  # a full disk: nothing will be admitted, and what was may end
            self._begin()
        reserve.hold()
        self._writer = GroupWriter(log, idle_s=sign_s, on_sign=self._rotate)

    def admitted(self, record: fields.Admitted) -> Future[int]:
        """Write that a request was decided on.

        Returns:
            Its number, once it is durable; or LedgerUnwritable.

        Raises:
            LedgerUnwritable: there is no room for its end.
        """
        if not self._reserve.hold():
            raise LedgerUnwritable("audit log: the disk is full", "df -h; make room on the data volume")
        done = self._writer.submit(
            lambda seq: fields.admitted_entry(seq, now(), record, self._epoch.number, self._epoch.key)
        )
        if record.decision == "allow":
            done.add_done_callback(self._opened)
        return done

    def completed(self, record: fields.Completed) -> Future[int]:
        """Write how an admitted request ended.

        Returns:
            A number, once it is durable; or LedgerUnwritable, and it may be tried again.

        Raises:
            OperatorMistake: no such request is open.
        """
        with self._lock:
            if self._ended.get(record.seq) == _end(record.model_dump()):
                done = Future[int]()
                done.set_result(record.seq)
                return done
            if record.seq not in self._open:
                raise OperatorMistake(f"seq {record.seq}: no admitted request that has not ended", "")
            self._open.discard(record.seq)
        done = self._writer.submit(
            lambda seq: fields.completed_entry(seq, now(), record, self._epoch.number, self._epoch.key)
        )

        def note(ended: Future[int]) -> None:
            with self._lock:
                if ended.exception() is not None:
                    self._open.add(record.seq)
                    self._reserve.give_back()
                    return
                self._ended[record.seq] = _end(record.model_dump())
                if len(self._ended) > _REMEMBERED:
                    del self._ended[next(iter(self._ended))]

        done.add_done_callback(note)
        return done

    def tell(self, kind: str, content: Mapping[str, Any]) -> int:
        """Write an entry of the log's own life.

        Returns:
            Its number, once it is durable.

        Raises:
            LedgerUnwritable: it is not.
        """
        return self._writer.submit(lambda seq: fields.entry(kind, seq, now(), content)).result()

    def close(self) -> None:
        """Write what waits and that the process stops; sign."""
        self._writer.close()
        self._reserve.give_back()
        try:
            self._tell("stopped", {"open": len(self._open)})
            self._log.checkpoint()
        except AirgapError as error:
            self._reporter.note(f"the end is not recorded: {error.message}")

    def _opened(self, done: Future[int]) -> None:
        if done.exception() is None:
            with self._lock:
                self._open.add(done.result())

    def _begin(self) -> None:
        torn = self._log.torn
        if torn is not None and not self._has_told_torn:
            digest = hashlib.sha256(torn.data).hexdigest()
            self._tell("recovered", {"size_bytes": len(torn.data), "sha256": digest})
            self._has_told_torn = True
        self._tell("started", {**self._about(self._epoch), **self._settings})
        self._epochs.erase_old(self._epoch)
        self._log.checkpoint()

    def _rotate(self) -> None:
        """In the writing thread, after each signature."""
        if not self._epochs.is_due(self._epoch):
            return
        try:
            newer = self._epochs.make()
            self._tell("epoch", self._about(newer))
            self._epoch = newer
            self._epochs.erase_old(newer)
        except (AirgapError, OSError) as error:
            self._reporter.note(f"the epoch goes on, its successor could not be made: {error}")

    def _tell(self, kind: str, content: Mapping[str, Any]) -> None:
        self._log.append([fields.entry(kind, self._log.size, now(), content)])

    @staticmethod
    def _about(epoch: Epoch) -> dict[str, Any]:
        return {"epoch": epoch.number, "escrow_sha256": epoch.escrow_sha256}


def _end(content: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one end of a request from another; the output's HMAC is another one in every epoch."""
    return tuple(content[name] for name in ("tokens_in", "tokens_out", "latency_ms", "status"))


def _remembered(log: Log) -> tuple[set[int], dict[int, tuple[Any, ...]]]:
    """Allowed requests of the last two segments that have not ended, and the ends of others; older ones are over."""
    start = max(0, log.size // SEGMENT_ENTRIES - 1) * SEGMENT_ENTRIES
    unfinished: set[int] = set()
    ended: dict[int, tuple[Any, ...]] = {}
    for seq, data in log.view.entries(start):
        content = json.loads(data)
        if content["kind"] == "admitted" and content["decision"] == "allow":
            unfinished.add(seq)
        elif content["kind"] == "completed":
            unfinished.discard(content["of"])
            ended[content["of"]] = _end(content)
    return unfinished, ended
