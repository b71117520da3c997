"""The far side's copy of the log, as far as a checkpoint vouches for it: a log's folder that the ledger's tools read.

Entries are written behind the last group, compared with a signed tree head, and then the checkpoint is put in place:
that is what makes them count. What lies behind the checkpoint when a mirror is opened, a stopped run left; it is cut
off. Nothing here signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from custody.errors import LedgerBroken
from custody.ledger import segment
from custody.ledger.disk import File, read_all
from custody.ledger.hashes import Hashes
from custody.ledger.note import LogKey
from custody.ledger.tree import EMPTY_ROOT, TILE_LEVELS, Frontier, frontier_at, leaf_hash
from custody.ledger.view import CHECKPOINT, View

_GROUP_ENTRIES = 1024


class Mirror:
    """A copy that is being written; one at a time."""

    def __init__(self, folder: Path, key: LogKey) -> None:
        """Open it and cut off what no checkpoint covers.

        Raises:
            LedgerBroken: the folder is not what its checkpoint says.
        """
        self.view = View(folder, key=key)
        self._disk = self.view.disk
        self._open()

    def _open(self) -> None:
        head = self.view.checkpoint()
        self.size = head.size if head is not None else 0
        self._frontier = self._frontier_of(self.size)
        if self._frontier.root() != (head.root if head is not None else EMPTY_ROOT):
            raise self.view.broken("the copy is not what its checkpoint says")
        self._hashes = Hashes(self._disk, self.view.folder, write=True)
        self._hashes.rewind(self.size)
        self._hashes.trim()
        self._file: File | None = None
        self._tail = 0
        self._cut()

    def root_at(self, size: int) -> bytes:
        """Tree head over the first `size` entries, which are here."""
        return frontier_at(size, self._hashes.node).root()

    def append(self, entries: Iterable[bytes]) -> None:
        """Add entries; they do not count yet."""
        source = iter(entries)
        while group := list(islice(source, min(_GROUP_ENTRIES, self._room()))):
            self._append_group(group)

    def require(self, root: bytes) -> None:
        """Refuse what was appended if a tree head over it says otherwise.

        Raises:
            LedgerBroken: it does; what was appended is gone.
        """
        if self._frontier.root() != root:
            size = self._frontier.size
            self.undo()
            raise LedgerBroken(
                f"{self.view.key.name}: the first {size} entries that came are not those that a checkpoint was signed "
                "over",
                "airgap diode fill DIR EXPORT, with an export of the log",
            )

    def commit(self, root: bytes, note: bytes) -> None:
        """Make what was appended count.

        Args:
            root: of the tree head over all of it.
            note: the same, as the log signed it; verified.

        Raises:
            LedgerBroken: it is not what the tree head says; what was appended is gone.
        """
        self.require(root)
        if self._file is not None:
            self._file.sync()
        self._hashes.save(durably=True)
        self._disk.replace(self.view.folder / CHECKPOINT, note)
        self.size = self._frontier.size

    def undo(self) -> None:
        """Take back what does not count."""
        self.close()
        self._open()

    def close(self) -> None:
        """Let go of the files."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._hashes.close()

    def _room(self) -> int:
        return segment.SEGMENT_ENTRIES - self._frontier.size % segment.SEGMENT_ENTRIES

    def _append_group(self, entries: Sequence[bytes]) -> None:
        leaves = [leaf_hash(entry) for entry in entries]
        if self._file is None:
            name = segment.name_of(self._frontier.size)
            self._file, self._tail = self._disk.open(self.view.folder / segment.FOLDER / name, write=True), 0
        self._hashes.add(leaves, self._frontier.extend(leaves, TILE_LEVELS))
        data = segment.group(entries, self._frontier)
        self._file.write(self._tail, data)
        self._tail += len(data)
        self._hashes.save()
        if self._room() == segment.SEGMENT_ENTRIES:
            self._file.sync()
            self._file.close()
            self._file = None

    def _frontier_of(self, size: int) -> Frontier:
        try:
            return frontier_at(size, self.view.hashes.node)
        except LookupError as error:
            raise self.view.broken(f"{error} is missing") from error

    def _cut(self) -> None:
        """Make the segments end with the checkpoint."""
        folder = self.view.folder / segment.FOLDER
        for name in self._disk.names(folder):
            first = int(name.removesuffix(".log"))
            if first >= self.size:
                (folder / name).unlink()
            elif self.size < first + segment.SEGMENT_ENTRIES:
                self._file = self._disk.open(folder / name, write=True)
                self._tail = self._end(read_all(self._disk, folder / name), first)
                self._file.truncate(self._tail)
                self._file.sync()
        if self._file is None and self.size % segment.SEGMENT_ENTRIES:
            raise self.view.broken(f"segment {segment.name_of(self.size)} is missing")

    def _end(self, data: bytes, index: int) -> int:
        """Where the group ends whose last entry is the checkpoint's."""
        for begin, end in segment.spans(data):
            index += data.count(b"\n", begin, end)
            if index == self.size:
                return data.index(b"\n", end) + 1
        raise self.view.broken(f"no group ends with entry {self.size - 1}, its checkpoint's last")
