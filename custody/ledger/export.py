"""A log as other people's tools read it: C2SP `tlog-tiles`, a folder of files.

`checkpoint`, `log.vkey`, `log.pem`, `tile/L/N` with the hashes, `tile/entries/N` with the entries. All of it was
compared with the checkpoint before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from custody.atomic import write_whole
from custody.errors import LedgerBroken
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.disk import read_all
from custody.ledger.origin import PEM, VKEY
from custody.ledger.segment import SEGMENT_ENTRIES, number_of
from custody.ledger.tree import HASH_BYTES, TILE_LEVELS, frontier_at
from custody.ledger.view import CHECKPOINT, View

_WIDTH = 1 << TILE_LEVELS


def tile_path(level: int | str, index: int, width: int) -> Path:
    """Where a tile lies: level (or `entries`), number in groups of three digits, width of one that is not full."""
    digits = f"{index:0{-(-len(str(index)) // 3) * 3}}"
    groups = ["".join(part) for part in zip(*[iter(digits)] * 3, strict=True)]
    name = Path("tile", str(level), *(f"x{group}" for group in groups[:-1]), groups[-1])
    return name if width == _WIDTH else name.with_name(f"{name.name}.p") / str(width)


def read_bundle(export: Path, number: int, width: int) -> Iterator[bytes]:
    """Entries of a bundle of an export; not compared with anything yet.

    Raises:
        LedgerBroken: the file is not there, or has not so many entries.
    """
    path, at = export / tile_path("entries", number, width), 0
    data = read_part(path)
    for _ in range(width):
        count = int.from_bytes(data[at : at + 2], "big")
        entry = data[at + 2 : at + 2 + count]
        if len(data) < at + 2 or len(entry) != count:
            raise LedgerBroken(f"{path}: expected {width} entries, found fewer", "copy the export again")
        at += 2 + count
        yield entry
    if at != len(data):
        raise LedgerBroken(f"{path}: expected {width} entries, found more", "copy the export again")


def read_part(file: Path) -> bytes:
    """A file of an export.

    Raises:
        LedgerBroken: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise LedgerBroken(f"{file}: {error.strerror}: the export is not whole", "copy the export again") from error


def tiles(view: View, head: Checkpoint) -> Iterator[tuple[Path, bytes]]:
    """Every tile and entry bundle of the tree of a checkpoint, by its path; no bundles of what has expired.

    Raises:
        LedgerBroken: the hashes do not make this head.
    """
    try:
        root = frontier_at(head.size, view.hashes.node).root()
    except LookupError as error:
        raise view.broken(f"{error} is missing") from error
    if root != head.root:
        raise view.broken("the hashes are not those of its checkpoint")
    level, count = 0, head.size
    while count:
        for start in range(0, count, _WIDTH):
            width = min(_WIDTH, count - start)
            row = view.hashes.row(level, start, width)
            if len(row) != width * HASH_BYTES:
                raise view.broken(f"hashes from {start} on of level {level} are missing")
            yield tile_path(level, start // _WIDTH, width), row
        level, count = level + 1, count >> TILE_LEVELS
    here = [name for name in view.segments() if view.has_text(name)]
    entries = (pair for name in here for pair in view.entries(*_span(name, head.size)))
    for number in (at // _WIDTH for name in here for at in range(*_span(name, head.size), _WIDTH)):
        bundle = [len(entry).to_bytes(2, "big") + entry for _index, entry in islice(entries, _WIDTH)]
        yield tile_path("entries", number, len(bundle)), b"".join(bundle)


def _span(name: str, size: int) -> tuple[int, int]:
    """Entries of a segment in the tree of `size` entries."""
    first = number_of(name)
    return first, max(first, min(first + SEGMENT_ENTRIES, size))


def export(view: View, folder: Path) -> Checkpoint:
    """Write the log up to its checkpoint into a folder; what lies there of an earlier export is written over.

    Raises:
        LedgerBroken: the log is not what it signed, or signed nothing.
    """
    head = view.checkpoint()
    if head is None:
        raise LedgerBroken(f"{view.key.name}: nothing was signed yet", "airgap ledger checkpoint")
    for path, data in tiles(view, head):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    write_whole(folder / VKEY, f"{view.key.vkey}\n".encode())
    write_whole(folder / PEM, view.key.pem)
    write_whole(folder / CHECKPOINT, read_all(view.disk, view.folder / CHECKPOINT))
    return head
