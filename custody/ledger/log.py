"""A log as its one writer sees it: appending, recovering, signing.

What `append` returned is on the disk. A group is one write and one sync, and no group is written before the one
before it is durable; so a crash leaves whole groups and at most one torn one at the end. On opening that one is put
aside, and whoever opened is told. What a checkpoint covers, and what other groups follow, was acknowledged: if it
makes no sense, the log is refused and nothing is cut. A last group that no checkpoint covers and that was changed
looks like a torn one; so owners sign when they are idle. An empty log is signed before its first entry, so entries
without a checkpoint are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from custody.errors import LedgerBroken, LedgerUnwritable
from custody.ledger import segment
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.disk import Disk, File
from custody.ledger.hashes import Hashes
from custody.ledger.note import LogSigner
from custody.ledger.origin import load
from custody.ledger.tree import TILE_LEVELS, Frontier, frontier_at, leaf_hash
from custody.ledger.view import CHECKPOINT, View
from custody.lock import alone

TORN = "torn"


@dataclass(frozen=True)
class Torn:
    """What a crash left at the end and recovery put aside.

    Attributes:
        size: entries of the log that it was behind.
        data: its bytes, kept in `torn/SIZE`.
    """

    size: int
    data: bytes


class Log:
    """A log that takes entries. One at a time; `open_log` sees to that."""

    def __init__(self, folder: Path, signer: LogSigner, disk: Disk | None = None) -> None:
        """Open a log and recover it.

        Raises:
            LedgerBroken: something was changed that had been acknowledged.
            LedgerUnwritable: the disk does not take what recovery writes.
        """
        self.view = View(folder, disk, signer.public)
        self._signer, self._disk = signer, self.view.disk
        self._hashes: Hashes | None = None
        self._file: File | None = None
        self._tail = 0
        self._failed: OSError | None = None  # why an end that may be half there could not be taken back
        self._frontier = Frontier()
        self.torn: Torn | None = None
        try:
            self._recover()
        except OSError as error:
            self.close()
            raise LedgerUnwritable(f"{folder}: {error.strerror or error}", "df -h; mount; dmesg | tail") from error

    @property
    def size(self) -> int:
        """Entries."""
        return self._frontier.size

    def append(self, entries: Sequence[bytes]) -> range:
        """Add entries in order; they are durable when this returns.

        Returns:
            Their numbers.

        Raises:
            InputInvalid: one of them cannot be an entry; none was written.
            LedgerUnwritable: the disk did not take them. Those of a whole segment before may be there.
        """
        for entry in entries:
            segment.require_entry(entry)
        first, at = self.size, 0
        while at < len(entries):
            room = segment.SEGMENT_ENTRIES - self.size % segment.SEGMENT_ENTRIES
            self._append_group(entries[at : at + room])
            at += room
        return range(first, self.size)

    def checkpoint(self) -> Checkpoint:
        """Sign what is there; the checkpoint is durable when this returns.

        Raises:
            LedgerUnwritable: the disk did not take it.
        """
        head = Checkpoint(self.view.key.name, self.size, self._frontier.root())
        try:
            self._tree.save(durably=True)
            self._disk.replace(self.view.folder / CHECKPOINT, head.signed_by(self._signer).dump())
        except OSError as error:
            raise self._unwritable(error) from error
        return head

    def close(self) -> None:
        """Let go of the files."""
        if self._file is not None:
            self._file.close()
        if self._hashes is not None:
            self._hashes.close()

    @property
    def _tree(self) -> Hashes:
        assert self._hashes is not None
        return self._hashes

    def _append_group(self, entries: Sequence[bytes]) -> None:
        if self._failed is not None:
            self._undo(self._failed)
        if self._failed is not None:
            raise self._unwritable(self._failed)
        leaves, grown = [leaf_hash(entry) for entry in entries], self._frontier.copy()
        ended = grown.extend(leaves, TILE_LEVELS)
        data = segment.group(entries, grown)
        try:
            if self._file is None:
                self._open_segment()
            assert self._file is not None
            self._file.write(self._tail, data)
            self._file.sync()
        except OSError as error:
            self._undo(error)
            raise self._unwritable(error) from error
        self._frontier, self._tail = grown, self._tail + len(data)
        self._tree.add(leaves, ended)
        with suppress(OSError):  # they stay in memory, and follow from the segments
            self._tree.save()
        if self.size % segment.SEGMENT_ENTRIES == 0:
            self._file.close()
            self._file, self._tail = None, 0
            with suppress(LedgerUnwritable):
                self.checkpoint()  # so that opening never reads more than two segments

    def _undo(self, error: OSError) -> None:
        """Take back what may be half there; nothing more is written to this log before that has succeeded."""
        if self._file is None:
            return
        try:
            # After a failed sync the kernel may hold pages for clean that never reached the disk: drop them.
            self._file.truncate(self._tail)
            self._file.sync()
            self._failed = None
        except OSError:
            self._failed = error

    def _unwritable(self, error: OSError) -> LedgerUnwritable:
        return LedgerUnwritable(f"{self.view.folder}: {error.strerror or error}", "df -h; mount; dmesg | tail")

    def _open_segment(self) -> None:
        path = self.view.folder / segment.FOLDER / segment.name_of(self.size)
        self._file = self._disk.open(path, write=True)

    def _recover(self) -> None:
        head, names = self.view.checkpoint(), self.view.segments()
        signed = head.size if head is not None else 0
        try:
            start = self._before_last(signed)
            found = self._read(start, head, names)
        except (LookupError, LedgerBroken):
            start = Frontier()  # perhaps the hashes are wrong, and the entries are not
            found = self._read(start, head, names)
        self._frontier = found[-1][0].frontier if found else start
        self._hashes = Hashes(self._disk, self.view.folder, write=True)
        self._hashes.rewind(start.size)
        for _reading, groups in found:
            for group in groups:
                self._hashes.add(group.leaves, group.ended)
        with suppress(OSError):  # they stay in memory, and follow from the segments
            self._hashes.save(durably=True)
            self._hashes.trim()
        if head is None:
            self.checkpoint()
        if found and self.size // segment.SEGMENT_ENTRIES == len(names) - 1:
            self._mend(*found[-1])

    def _before_last(self, signed: int) -> Frontier:
        """The tree before the segment in which the checkpoint ends: nothing before can be torn."""
        whole = signed // segment.SEGMENT_ENTRIES * segment.SEGMENT_ENTRIES
        if not self.view.hashes.reaches(whole):
            raise LookupError
        return frontier_at(whole, self.view.hashes.node)

    def _read(
        self, start: Frontier, head: Checkpoint | None, names: Sequence[str]
    ) -> list[tuple[segment.Reading, list[segment.Group]]]:
        """The segments from the tree `start` on, which go on to what was signed and make sense up to a torn end."""
        frontier, found = start, []
        signed = head.size if head is not None else 0
        self._require_head(head, start, [])
        for name in names[start.size // segment.SEGMENT_ENTRIES :]:
            reading = self.view.read(name, frontier)
            groups = list(reading.groups())
            self._require_head(head, frontier, groups)
            frontier = reading.frontier
            if reading.rest and (name != names[-1] or not reading.is_torn or frontier.size < signed):
                raise self.view.broken(f"entry {frontier.size} or one soon after was changed: {reading.why}")
            found.append((reading, groups))
        if frontier.size < signed:
            raise self.view.broken(f"the tail is cut off: {frontier.size} entries, and a checkpoint over {signed}")
        if frontier.size and head is None:
            raise self.view.broken(f"{frontier.size} entries, and no checkpoint: it was taken away")
        return found

    def _mend(self, reading: segment.Reading, groups: list[segment.Group]) -> None:
        """Make the last segment end with its last whole group, durably."""
        if reading.rest:
            self.torn = Torn(self.size, reading.rest)
            self._disk.replace(self.view.folder / TORN / f"{self.size:020}", reading.rest)
        self._open_segment()
        assert self._file is not None
        self._tail = reading.end
        if groups:
            # Perhaps it was read from memory, and the sync that should have brought it to the disk failed: once more.
            self._file.write(groups[-1].offset, reading.data[groups[-1].offset : groups[-1].end])
        self._file.truncate(self._tail)
        self._file.sync()

    def _require_head(self, head: Checkpoint | None, before: Frontier, groups: Sequence[segment.Group]) -> None:
        """Compare with the checkpoint if it ends within these groups."""
        grown = before.copy()
        for group in groups:
            if head is not None and grown.size < head.size < group.first + len(group.leaves):
                part = grown.copy()
                part.extend(group.leaves[: head.size - grown.size])
                self._require_root(head, part)
            self._require_root(head, grown)
            grown.extend(group.leaves)
        self._require_root(head, grown)

    def _require_root(self, head: Checkpoint | None, frontier: Frontier) -> None:
        if head is not None and head.size == frontier.size and head.root != frontier.root():
            raise self.view.broken(f"the first {head.size} entries are not those that its checkpoint was signed over")


@contextmanager
def open_log(folder: Path) -> Iterator[Log]:
    """A log of this machine, for one writer.

    Raises:
        AlreadyRunning: somebody else writes to it.
        LedgerUnwritable: the disk only reads.
    """
    signer = load(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(folder / "lock", "another writer of this log"))
        except OSError as error:
            raise LedgerUnwritable(f"{folder}: {error.strerror or error}", "df -h; mount; dmesg | tail") from error
        log = Log(folder, signer)
        stack.callback(log.close)
        yield log
