"""Hashes of the tree on disk, so that a proof reads O(log n) of them and no entries.

File L holds the hashes of all complete subtrees of 256**L entries, 32 bytes each, in order: C2SP `tlog-tiles` tiles
of level L, one after the other. They follow from the segments and are made anew from them when they are missing; they
count for nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from custody.ledger.disk import Disk, File
from custody.ledger.tree import HASH_BYTES, TILE_LEVELS, reduce

FOLDER = "hashes"
#: Hashes kept in memory before they are written.
_PENDING_BYTES = 1 << 16


class _Level:
    """The hashes of one level: a file, and what is not in it yet."""

    def __init__(self, disk: Disk, path: Path, *, write: bool) -> None:
        self._disk, self._path, self._write = disk, path, write
        self._file: File | None = None
        self.pending = bytearray()
        self.saved = 0
        self.look()

    @property
    def count(self) -> int:
        return self.saved + len(self.pending) // HASH_BYTES

    def look(self) -> None:
        """See how far the file reaches: its writer may be another."""
        if self._file is None and self._disk.exists(self._path):
            self._file = self._disk.open(self._path, write=self._write)
        self.saved = self._file.size_bytes() // HASH_BYTES if self._file is not None else 0

    def read(self, start: int, count: int) -> bytes:
        if start + count > self.count and not self._write:
            self.look()
        saved = max(0, min(count, self.saved - start))
        found = self._file.read(start * HASH_BYTES, saved * HASH_BYTES) if saved and self._file is not None else b""
        at = (start + saved - self.saved) * HASH_BYTES
        return found + self.pending[at : at + (count - saved) * HASH_BYTES] if count > saved else found

    def flush(self) -> None:
        if self.pending:
            if self._file is None:
                self._file = self._disk.open(self._path, write=True)
            self._file.write(self.saved * HASH_BYTES, bytes(self.pending))
            self.saved += len(self.pending) // HASH_BYTES
            self.pending.clear()

    def trim(self) -> None:
        if self._file is not None and self._file.size_bytes() != self.saved * HASH_BYTES:
            self._file.truncate(self.saved * HASH_BYTES)

    def sync(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Hashes:
    """The levels of one log's tree."""

    def __init__(self, disk: Disk, folder: Path, *, write: bool = False) -> None:
        self._disk, self._folder, self._write = disk, folder / FOLDER, write
        self._levels: list[_Level] = []

    def add(self, leaves: Iterable[bytes], ended: Iterable[tuple[int, bytes]]) -> None:
        """Note leaves, and the subtrees that they end: level of the file, and hash."""
        self._level(0).pending += b"".join(leaves)
        for level, node in ended:
            self._level(level).pending += node

    def node(self, level: int, index: int) -> bytes:
        """Hash of the complete subtree of 2**level entries that is the index-th of its level.

        Raises:
            LookupError: it is not there.
        """
        tile, rest = divmod(level, TILE_LEVELS)
        width = 1 << rest
        found = self._level(tile).read(index * width, width)
        if len(found) != width * HASH_BYTES:
            raise LookupError(f"hash {index} of level {level}")
        return reduce([found[i : i + HASH_BYTES] for i in range(0, len(found), HASH_BYTES)])

    def row(self, tile_level: int, start: int, count: int) -> bytes:
        """Neighbouring hashes of one level, 32 bytes each; fewer where there are no more."""
        return self._level(tile_level).read(start, count)

    def rewind(self, size: int) -> None:
        """Go on from a tree of `size` entries; what lies beyond is written over."""
        for number in range(len(self._disk.names(self._folder))):
            level = self._level(number)
            level.saved = min(level.saved, size >> TILE_LEVELS * number)

    def trim(self) -> None:
        """Cut off what is left of another tree."""
        for level in self._levels:
            level.trim()

    def save(self, *, durably: bool = False) -> None:
        """Write what is in memory, when it is much or shall be durable.

        Raises:
            OSError: it stays in memory.
        """
        for level in self._levels:
            if durably:
                level.sync()
            elif len(level.pending) >= _PENDING_BYTES:
                level.flush()

    def close(self) -> None:
        """Let go of the files."""
        for level in self._levels:
            level.close()

    def reaches(self, size: int) -> bool:
        """Whether every hash of a tree of `size` entries is there."""
        levels = range(-(-size.bit_length() // TILE_LEVELS))
        return all(self._level(number).count >= size >> TILE_LEVELS * number for number in levels)

    def _level(self, number: int) -> _Level:
        while len(self._levels) <= number:
            path = self._folder / str(len(self._levels))
            self._levels.append(_Level(self._disk, path, write=self._write))
        return self._levels[number]
