"""The audit log as its process keeps it: `admitted`, later `completed`, each durable before it is acknowledged.

An admitted request ends once; the same end said again, by a gateway that missed the answer, is answered and not
written. Beside requests the log tells of its own life: started, stopped, recovered, and of every new epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from appliance.audit import fields
from appliance.audit.epoch import Epoch, Epochs
from appliance.audit.reserve import Reserve
from custody.errors import AirgapError, LedgerUnwritable, OperatorMistake
from custody.ledger.log import Log
from custody.ledger.moment import Moment, now
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.report import Reporter

#: Ends that are remembered, for a gateway that says one again: more than answers that may have been lost with a
#: connection, which are those that a socket's buffer holds (212,992 bytes by default, 18 and more an answer).
_REMEMBERED = 1 << 14


class Book:
    """An open audit log; of one thread."""

    def __init__(
        self,
        log: Log,
        epochs: Epochs,
        reserve: Reserve,
        reporter: Reporter,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin to write; tells what a crash left.

        Args:
            settings: told with the start.
        """
        self._settings = dict(settings or {})
        self._log, self._epochs, self._reserve, self._reporter = log, epochs, reserve, reporter
        self._epoch = epochs.current()
        self._has_told_torn = False
        self._open, self._ended = _remembered(log)
        try:
            self._begin()
        except LedgerUnwritable:
            reserve.give_back()  # a full disk: nothing will be admitted, and what was may end
            self._begin()
        reserve.hold()

    def write(self, records: Sequence[fields.Admitted | fields.Completed]) -> list[int | AirgapError]:
        """Write records as one group: one write and one sync; they are durable when this returns.

        Returns:
            Of each record its number, or why it was not written. LedgerUnwritable: it may be tried again.
            OperatorMistake: no such request is open.
        """
        answers: list[int | AirgapError] = []
        made: list[tuple[int, fields.Admitted | fields.Completed]] = []  # of each entry: whose answer, what
        entries: list[bytes] = []
        ending: set[int] = set()
        first, moment = self._log.size, now()
        for record in records:
            seq = first + len(entries)
            try:
                entry = self._entry(seq, moment, record, ending)
            except AirgapError as error:
                answers.append(error)
                continue
            if entry is not None:
                made.append((len(answers), record))
                entries.append(entry)
            answers.append(seq)
        failed: AirgapError | None = None
        try:
            self._log.append(entries)
        except LedgerUnwritable as error:
            failed = error
            if ending:
                self._reserve.give_back()
        for seq, (place, record) in enumerate(made, first):
            if failed is not None and seq >= self._log.size:
                answers[place] = failed
            else:
                self._note(seq, record)
        return answers

    def sign(self) -> None:
        """Sign what is there; change the key when its time is over."""
        self._rotate()
        with suppress(LedgerUnwritable):  # the next write says so to somebody
            self._log.checkpoint()

    def tell(self, kind: str, content: Mapping[str, Any]) -> int:
        """Write an entry of the log's own life.

        Returns:
            Its number, once it is durable.

        Raises:
            LedgerUnwritable: it is not.
        """
        seq = self._log.size
        self._log.append([fields.entry(kind, seq, now(), content)])
        return seq

    def close(self) -> None:
        """Write that the process stops; sign."""
        self._reserve.give_back()
        try:
            self.tell("stopped", {"open": len(self._open)})
            self._log.checkpoint()
        except AirgapError as error:
            self._reporter.note(f"the end is not recorded: {error.message}")

    def _entry(
        self, seq: int, moment: Moment, record: fields.Admitted | fields.Completed, ending: set[int]
    ) -> bytes | None:
        """A record's entry; None for an end that was said before."""
        if isinstance(record, fields.Admitted):
            if not self._reserve.hold():
                raise LedgerUnwritable("audit log: the disk is full", "df -h; make room on the data volume")
            return fields.admitted_entry(seq, moment, record, self._epoch.number, self._epoch.key)
        if self._ended.get(record.seq) == _end(vars(record)):
            return None
        if record.seq in ending:
            raise LedgerUnwritable(f"seq {record.seq}: its end is being written", "say it again")
        if record.seq not in self._open:
            raise OperatorMistake(f"seq {record.seq}: no admitted request that has not ended", "")
        ending.add(record.seq)
        return fields.completed_entry(seq, moment, record, self._epoch.number, self._epoch.key)

    def _note(self, seq: int, record: fields.Admitted | fields.Completed) -> None:
        """A record is durable."""
        if isinstance(record, fields.Completed):
            self._open.discard(record.seq)
            _remember(self._ended, record.seq, _end(vars(record)))
        elif record.decision == "allow":
            self._open.add(seq)

    def _begin(self) -> None:
        torn = self._log.torn
        if torn is not None and not self._has_told_torn:
            digest = hashlib.sha256(torn.data).hexdigest()
            self.tell("recovered", {"size_bytes": len(torn.data), "sha256": digest})
            self._has_told_torn = True
        self.tell("started", {**self._about(self._epoch), **self._settings})
        self._epochs.erase_old(self._epoch)
        self._log.checkpoint()

    def _rotate(self) -> None:
        if not self._epochs.is_due(self._epoch):
            return
        try:
            newer = self._epochs.make()
            self.tell("epoch", self._about(newer))
            self._epoch = newer
            self._epochs.erase_old(newer)
        except (AirgapError, OSError) as error:
            self._reporter.note(f"the epoch goes on, its successor could not be made: {error}")

    @staticmethod
    def _about(epoch: Epoch) -> dict[str, Any]:
        return {"epoch": epoch.number, "escrow_sha256": epoch.escrow_sha256}


def _end(content: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one end of a request from another; the output's HMAC is another one in every epoch."""
    return tuple(content[name] for name in ("tokens_in", "tokens_out", "latency_ms", "status"))


def _remembered(log: Log) -> tuple[set[int], dict[int, tuple[Any, ...]]]:
    """Allowed requests of the last two segments that have not ended, and how others did; older ones are over."""
    start = max(0, log.size // SEGMENT_ENTRIES - 1) * SEGMENT_ENTRIES
    unfinished: set[int] = set()
    ended: dict[int, tuple[Any, ...]] = {}
    for seq, data in log.view.entries(start):
        content = json.loads(data)
        if content["kind"] == "admitted" and content["decision"] == "allow":
            unfinished.add(seq)
        elif content["kind"] == "completed":
            unfinished.discard(content["of"])
            _remember(ended, content["of"], _end(content))
    return unfinished, ended


def _remember(ended: dict[int, tuple[Any, ...]], seq: int, end: tuple[Any, ...]) -> None:
    ended[seq] = end
    if len(ended) > _REMEMBERED:
        del ended[next(iter(ended))]
