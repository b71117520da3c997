"""A disk that remembers what is durable and what is not, and what a power cut may leave of it.

It stands below `custody.ledger.disk.Disk`, where the kernel stands; the log's own code runs unchanged. Durable is what
was there at the last `sync`. Of writes since then a cut leaves any sectors; a file that was made longer is as long as
any of its writes says, with zeros between. `replace` is old or new.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512


@dataclass
class Sim:
    """Files of a simulated disk; `ops` is all that was asked of it, in order."""

    files: dict[Path, bytearray] = field(default_factory=dict)
    ops: list[tuple[str, Path, int, bytes]] = field(default_factory=list)
    #: Raises what the kernel would; called before anything is done.
    fault: object = None

    def open(self, path: Path, *, write: bool = False) -> SimFile:
        if write and path not in self.files:
            self._do("make", path)
            self.files[path] = bytearray()
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return SimFile(self, path)

    def exists(self, path: Path) -> bool:
        return path in self.files or any(path in other.parents for other in self.files)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.files if path.parent == folder)

    def replace(self, path: Path, data: bytes) -> None:
        self._do("replace", path, 0, data)
        self.files[path] = bytearray(data)

    def remove(self, path: Path) -> None:
        self._do("remove", path)
        self.files.pop(path, None)

    def _do(self, what: str, path: Path, number: int = 0, data: bytes = b"") -> None:
        if callable(self.fault):
            self.fault(what, path)
        self.ops.append((what, path, number, data))


@dataclass
class SimFile:
    disk: Sim
    path: Path

    def size_bytes(self) -> int:
        return len(self.disk.files[self.path])

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self.disk.files[self.path][offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        self.disk._do("write", self.path, offset, data)
        put(self.disk.files[self.path], offset, data)

    def truncate(self, size_bytes: int) -> None:
        self.disk._do("truncate", self.path, size_bytes)
        del self.disk.files[self.path][size_bytes:]

    def sync(self) -> None:
        self.disk._do("sync", self.path)

    def close(self) -> None:
        return None


def put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


@dataclass
class Cut:
    """A power cut during an operation: what was durable, and what was on its way."""

    durable: dict[Path, bytes]
    pending: dict[Path, list[tuple[int, bytes | None]]]

    def survivors(self, how: str, chance: random.Random) -> Sim:
        """The disk after the cut: nothing, all, or any sectors of what was on its way."""
        files = {path: bytearray(data) for path, data in self.durable.items()}
        for path, writes in self.pending.items():
            content = files.setdefault(path, bytearray())
            for offset, data in writes:
                if data is None:
                    if how == "all" or (how == "any" and chance.random() < 0.5):
                        del content[offset:]
                    continue
                at = offset
                while at < offset + len(data):
                    stop = min((at // SECTOR_BYTES + 1) * SECTOR_BYTES, offset + len(data))
                    if how == "all" or (how == "any" and chance.random() < 0.5):
                        put(content, at, data[at - offset : stop - offset])
                    at = stop
                if how == "long" and len(content) < offset + len(data):
                    content.extend(bytes(offset + len(data) - len(content)))
        return Sim(files)


def cuts(start: dict[Path, bytes], ops: list[tuple[str, Path, int, bytes]], step: int = 1) -> Iterator[tuple[int, Cut]]:
    """Every cut of a run: before each operation, and within each write after any number of bytes.

    Args:
        step: bytes from one cut within a write to the next.

    Yields:
        The operation's number, and the cut.
    """
    durable = dict(start)
    cached = {path: bytearray(data) for path, data in start.items()}
    pending: dict[Path, list[tuple[int, bytes | None]]] = {}
    for number, (what, path, offset, data) in enumerate(ops):
        yield number, Cut(dict(durable), {p: list(w) for p, w in pending.items()})
        if what == "write":
            before = {p: list(w) for p, w in pending.items()}
            for done in range(1, len(data), step):
                yield number, Cut(dict(durable), {**before, path: [*before.get(path, []), (offset, data[:done])]})
            pending.setdefault(path, []).append((offset, data))
            put(cached[path], offset, data)
        elif what == "truncate":
            pending.setdefault(path, []).append((offset, None))
            del cached[path][offset:]
        elif what == "remove":
            for kept in (cached, durable, pending):
                kept.pop(path, None)  # type: ignore[attr-defined]
        elif what in {"make", "replace"}:
            cached[path] = bytearray(data)
            durable[path] = data
        else:
            durable[path] = bytes(cached[path])
            pending.pop(path, None)
    yield len(ops), Cut(dict(durable), pending)
