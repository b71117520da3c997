"""A collector: keeps every checkpoint that ever left a log, and holds each new export against all of them.

It stands outside the host. What root there rewrote since the last export it cannot see; everything earlier it can,
though the log signed both. The entries of the export are read, all of them; its hash tiles are not believed. They are
needed for entries alone that were read at an earlier collection and have expired since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from custody.atomic import write_whole
from custody.errors import InputInvalid, LedgerBroken
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.export import read_bundle, read_part, tile_path
from custody.ledger.note import LogKey, Note
from custody.ledger.origin import VKEY, load_public, read_public
from custody.ledger.tree import HASH_BYTES, TILE_LEVELS, Frontier, leaf_hash
from custody.ledger.view import CHECKPOINT

_WIDTH = 1 << TILE_LEVELS
_SUFFIX = ".checkpoint"


@dataclass(frozen=True)
class Collected:
    """An export that was held against all earlier ones.

    Attributes:
        head: its checkpoint.
        note: the same, as the log signed it.
        compared: how many earlier checkpoints it goes on from.
    """

    head: Checkpoint
    note: Note
    compared: int


def begin(keep: Path, key: LogKey) -> None:
    """Begin to collect a log whose key came by another way than its exports; the same key again changes nothing.

    Raises:
        InputInvalid: another log is collected there.
    """
    file = keep / VKEY
    if file.exists() and read_public(file) != key:
        raise InputInvalid(
            f"{keep}: collects the log {file.read_text().strip()}, not {key.vkey}", "name another folder"
        )
    keep.mkdir(parents=True, exist_ok=True)
    write_whole(file, f"{key.vkey}\n".encode())


def collect(export: Path, keep: Path) -> Collected:
    """Judge an export (C2SP tlog-tiles) and keep its checkpoint.

    Args:
        keep: what `begin` made.

    Raises:
        LedgerBroken: its entries are not those of its checkpoint, or it does not go on from an earlier one.
        BundleMalformed, SignatureRejected: its checkpoint is none, or another log's.
    """
    key = load_public(keep)
    data = read_part(export / CHECKPOINT)
    head, note = open_checkpoint(data, key, str(export / CHECKPOINT))
    kept = [open_checkpoint(read_part(file), key, str(file))[0] for file in sorted(keep.glob(f"*{_SUFFIX}"))]
    later = [old.size for old in kept if old.size > head.size]
    if later:
        raise LedgerBroken(
            f"{head.origin}: {head.size} entries, and {max(later)} at an earlier collection: an old copy was put back",
            "keep both; the host is not to be trusted any more",
        )
    _require_all(export, [*kept, head])
    target = keep / f"{head.size:020}{_SUFFIX}"
    if not target.exists():
        write_whole(target, data)
    return Collected(head, note, len(kept))


def _require_all(export: Path, heads: list[Checkpoint]) -> None:
    """Hash all entries; the tree must have passed through every head."""
    wanted = {head.size: [h.root for h in heads if h.size == head.size] for head in heads}
    frontier, size = Frontier(), max(wanted)
    read = max((head.size for head in heads[:-1]), default=0)
    _require(frontier, wanted, heads[-1])
    for leaf in _leaves(export, size, read):
        frontier.extend([leaf])
        _require(frontier, wanted, heads[-1])


def _require(frontier: Frontier, wanted: dict[int, list[bytes]], head: Checkpoint) -> None:
    if any(root != frontier.root() for root in wanted.get(frontier.size, ())):
        raise LedgerBroken(
            f"{head.origin}: the first {frontier.size} entries are not those that a checkpoint was signed over",
            "keep the export and all checkpoints: the log signed two pasts, or the export was changed",
        )


def _leaves(export: Path, size: int, read: int) -> Iterator[bytes]:
    """Hashes of all entries, out of the bundles of a tree of this size.

    Args:
        read: entries that an earlier collection read: of these the text may have expired since. Their hashes are taken
            instead, and have to lead to the earlier checkpoint.
    """
    for number in range(-(-size // _WIDTH)):
        width = min(_WIDTH, size - number * _WIDTH)
        path = export / tile_path("entries", number, width)
        if number * _WIDTH + width <= read and not path.exists():
            row = read_part(export / tile_path(0, number, width))
            yield from (row[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES))
            continue
        yield from map(leaf_hash, read_bundle(export, number, width))
