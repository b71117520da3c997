"""The far side: takes what comes out of the diode, keeps what can be of the log, and tells what is missing.

Nothing that comes is trusted. A datagram is read in one spelling or refused; an entry is kept if its number is below
the newest signed tree head, or little above; the first of a number stays, and another content of it is told. So a
flood of anything takes no more room than the log may. Entries count when a signed tree head over all of them fits:
then they are in the mirror.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from appliance.diode import arrivals, heads
from appliance.diode.arrivals import Arrivals
from appliance.diode.heads import Heads
from appliance.diode.message import LIMIT_BYTES, Entry, Form, Head, Long
from appliance.diode.mirror import Mirror
from appliance.diode.send import BLOCK
from appliance.diode.standing import Heard
from custody.errors import AlreadyRunning, IntegrityFailure, LedgerBroken
from custody.ledger.checkpoint import open_checkpoint
from custody.ledger.note import LogKey
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.ledger.view import CHECKPOINT
from custody.lock import alone
from custody.report import Reporter

#: Locks: the receiver's own, and that of the mirror, which `fill` takes too.
RECEIVING, MIRROR = "receiving.lock", "lock"
#: Entries beyond the newest tree head that are kept: the head over them may have been lost.
_SLACK = 4 * BLOCK
#: Entries kept in memory until a tree head vouches for them; more are read from the disk.
_FRESH_BYTES = 64 << 20
#: Records that a copy is compared with; older ones are believed to be the same.
_RECENT = 1 << 16
#: Some seconds of 20,000 datagrams. More than net.core.rmem_max is only for root.
BUFFER_BYTES = 64 << 20
_BATCH = 512
#: Taken after the end: what a full buffer may hold, and not a flood that never stops.
_LAST_BATCHES = 400
_TICK_S = 0.25
_SAVE_S = 1.0
#: Linux, include/uapi/asm-generic/socket.h and sock_diag.h.
_SO_RCVBUFFORCE, _SO_MEMINFO, _MEMINFO_DROPS, _MEMINFO_FIELDS = 33, 55, 8, 9


class Receiver:
    """What came from one log, kept in a folder."""

    def __init__(self, folder: Path, key: LogKey, reporter: Reporter) -> None:
        """Go on from what is there.

        Args:
            folder: it exists, and its `log.vkey` is the key's.

        Raises:
            LedgerBroken: the mirror is not what its checkpoint says.
        """
        self._folder, self._key, self._reporter = folder, key, reporter
        self._seen = (0, 0)
        self._received = folder / arrivals.FOLDER
        self._form = Form(key.name)
        self._arrivals = Arrivals(self._received, write=True)
        self._heads = Heads(self._received, key)
        self.heard = Heard.load(self._received)
        with alone(folder / MIRROR, "airgap diode fill", waiting=reporter.note):
            self._reopen()
        self._fresh: dict[int, bytes] = {}
        self._fresh_bytes = 0
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._last_note, self._last_size = b"", 0
        self._told = 0
        self._forget()
        self._look_back()

    def take(self, datagram: bytes) -> None:
        """Judge one datagram."""
        self.heard.datagrams += 1
        found = self._form.parse(datagram)
        if isinstance(found, Entry):
            self._take_entry(found.seq, found.data)
        elif isinstance(found, Head):
            self._take_head(found)
        elif isinstance(found, Long) and found.seq < self._limit:
            if found.seq >= self._mirror.size and not self._arrivals.knows(found.seq):
                self._arrivals.add_long(found.seq, found.size_bytes)
            else:
                self.heard.copies += 1
        else:
            self.heard.refused += 1

    def flush(self) -> None:
        """Give what came to the kernel: a kill does not take it any more."""
        self._arrivals.flush()

    def advance(self) -> None:
        """Move to the mirror what a tree head vouches for; not while `fill` is at work on it."""
        self.flush()
        with suppress(AlreadyRunning), alone(self._folder / MIRROR, "airgap diode fill"):
            if self._stamp() != self._seen:
                self._mirror.close()
                self._reopen()
                self._forget()
            self._move()
        self._look_back()

    def save(self) -> None:
        """Make durable what came; tell what is newly missing."""
        self._arrivals.sync()
        self.heard.save(self._received)
        runs = list(self._arrivals.absent(self._mirror.size, self.heard.sent))
        missing = sum(map(len, runs))
        if missing > self._told:
            last = runs[-1]
            self._reporter.note(
                f"missing: {missing} entries in {len(runs)} runs, the last {last.start} to {last.stop - 1}"
            )
        self._told = missing

    def close(self) -> None:
        """Save, and let go of the files."""
        self.advance()
        self.save()
        self._arrivals.close()
        self._mirror.close()

    def _take_entry(self, seq: int, data: bytes) -> None:
        if seq >= self._limit:
            self.heard.refused += 1
        elif seq < self._mirror.size or self._arrivals.has(seq):
            self.heard.copies += 1
            if self._recent.get(seq, self._older.get(seq, hash(data))) != hash(data):
                self.heard.conflict(seq)
        else:
            self._arrivals.add(seq, data)
            self._fresh[seq] = data
            self._fresh_bytes += len(data)
            if self._fresh_bytes > _FRESH_BYTES:
                self._fresh, self._fresh_bytes = {}, 0
            self._recent[seq] = hash(data)
            if len(self._recent) >= _RECENT:
                self._recent, self._older = {}, self._recent

    def _take_head(self, found: Head) -> None:
        if found.note != self._last_note:
            try:
                head = open_checkpoint(found.note, self._key, "datagram")[0]
            except IntegrityFailure:
                self.heard.refused += 1
                return
            if head.size <= self._mirror.size:
                known = self._mirror.root_at(head.size)
            else:
                if head.size not in self._heads.by_size:
                    self._heads.add(heads.Heard(head, found.note))
                known = self._heads.by_size[head.size].head.root
            if known != head.root and self.heard.forked is None:
                self.heard.forked = head.size
                (self._received / "forked").write_bytes(found.note)
                self._reporter.note(f"{head.origin}: signed two pasts of {head.size} entries")
            self._last_note, self._last_size = found.note, head.size
            self._look_back()
        self.heard.sent = max(self.heard.sent, min(found.sent, self._signed))
        if self._last_size >= self._signed:
            self.heard.at = datetime.now(UTC).isoformat(timespec="seconds")

    def _look_back(self) -> None:
        """Note what follows from the mirror and the heads."""
        self._signed = max(self._heads.newest_size, self._mirror.size)
        self._limit = self._signed + _SLACK

    def _move(self) -> None:
        size, end = self._mirror.size, self._arrivals.run_end(self._mirror.size, self._signed)
        wrong = self.heard.contradicted or end + 1
        within = sorted(head for head in self._heads.by_size if size < head <= end and head < wrong)
        # Not too many at once: more are coming.
        within = [head for head in within if head <= size + SEGMENT_ENTRIES] or within[:1]
        if within:
            source = self._entries(size, within[-1])
            try:
                for stop in within:
                    self._mirror.append(islice(source, stop - size))
                    self._mirror.require(self._heads.by_size[stop].head.root)
                    size = stop
                self.heard.save(self._received)  # whoever sees these entries verified sees when a tree head came
                self._mirror.commit(self._heads.by_size[stop].head.root, self._heads.by_size[stop].note)
                self._seen = self._stamp()
                self._forget()
            except LedgerBroken as error:
                self.heard.contradicted = stop
                self._reporter.note(error.message)

    def _entries(self, start: int, stop: int) -> Iterator[bytes]:
        here: dict[int, bytes] = {}
        for seq in range(start, stop):
            if seq not in self._fresh and seq not in here:
                here = self._arrivals.read(seq, min(stop, seq - seq % SEGMENT_ENTRIES + SEGMENT_ENTRIES))
            yield self._fresh[seq] if seq in self._fresh else here[seq]

    def _forget(self) -> None:
        size = self._mirror.size
        self._heads.forget(size)
        self._arrivals.forget(size)
        self._fresh = {seq: data for seq, data in self._fresh.items() if seq >= size}
        self._fresh_bytes = sum(map(len, self._fresh.values()))

    def _reopen(self) -> None:
        self._mirror, self._seen = Mirror(self._folder, self._key), self._stamp()
        if self.heard.contradicted is not None and self.heard.contradicted <= self._mirror.size:
            self.heard.contradicted = None

    def _stamp(self) -> tuple[int, int]:
        """Differs when the mirror's checkpoint is another."""
        with suppress(FileNotFoundError):
            found = (self._folder / CHECKPOINT).stat()
            return found.st_ino, found.st_mtime_ns
        return 0, 0


def listen(address: str, port: int, reporter: Reporter) -> socket.socket:
    """A socket that hears, with as large a buffer as this user may have.

    Raises:
        OSError: the address is not this machine's, or the port is taken.
    """
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    has_bytes = found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it: socket(7)
    if has_bytes < BUFFER_BYTES:
        reporter.note(f"buffer of {has_bytes} bytes; for more: sysctl -w net.core.rmem_max={BUFFER_BYTES}")
    found.bind((address, port))
    found.setblocking(False)
    return found


def receive(source: socket.socket, receiver: Receiver, is_over: Callable[[], bool]) -> None:
    """Take what comes until told to stop; what had come by then is taken, too."""
    before, ticked_s, saved_s = receiver.heard.dropped, time.monotonic(), time.monotonic()
    while not is_over():
        if select.select([source], [], [], _TICK_S)[0]:
            drain(source, receiver)
        now_s = time.monotonic()
        if now_s - ticked_s >= _TICK_S:
            receiver.advance()
            ticked_s = now_s
        if now_s - saved_s >= _SAVE_S:
            receiver.heard.dropped = before + _dropped(source)
            receiver.save()
            saved_s = now_s
    for _batch in range(_LAST_BATCHES):
        if not drain(source, receiver):
            break
    receiver.heard.dropped = before + _dropped(source)


def drain(source: socket.socket, receiver: Receiver) -> int:
    """Take a batch of what waits in the socket; how many it was."""
    count = 0
    with suppress(BlockingIOError):
        while count < _BATCH:
            receiver.take(source.recv(LIMIT_BYTES + 1))
            count += 1
    receiver.flush()
    return count


def _dropped(source: socket.socket) -> int:
    """Datagrams that found no room in the socket's buffer."""
    fields = source.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _MEMINFO_FIELDS)
    found: int = struct.unpack(f"{len(fields) // 4}I", fields)[_MEMINFO_DROPS]
    return found
