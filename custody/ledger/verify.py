"""Whether a log is intact: all of it read, and compared with what was signed.

*Intact* says that the entries up to a checkpoint are those that it was signed over. It does not say that all that
happened was written down; that is *complete*, and the writers know how to judge it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from custody.errors import LedgerBroken
from custody.ledger import residue, segment
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.gone import MARK, Tombstone, of_segment
from custody.ledger.hashes import Hashes
from custody.ledger.residue import Residue
from custody.ledger.segment import Group, Reading
from custody.ledger.tree import HASH_BYTES, TILE_LEVELS, Frontier
from custody.ledger.view import View

_EXPORT = "compare with the last export: from there on somebody else wrote"


@dataclass(frozen=True)
class Verdict:
    """What a log that is intact is.

    Attributes:
        size: entries.
        root: tree head over them.
        signed: entries that the log's own newest checkpoint covers; what follows is vouched for by nobody yet.
        compared: checkpoints from elsewhere that the log goes on from.
        torn_bytes: at the end, of a group that was never acknowledged, or is being written now.
        expired: segments whose text is gone, each by a tombstone that is signed; in order.
    """

    size: int
    root: bytes
    signed: int
    compared: int
    torn_bytes: int
    expired: tuple[Expired, ...] = ()


@dataclass(frozen=True)
class Expired:
    """A segment whose text is gone.

    Attributes:
        seq: number of the tombstone's entry.
        content: of that entry.
    """

    stone: Tombstone
    seq: int
    content: dict[str, Any]


def verify(view: View, against: Sequence[Checkpoint] = ()) -> Verdict:
    """Read all of a log and compare it with its checkpoint and with others that left the host.

    Args:
        against: checkpoints of this log, their signatures verified, in any order.

    Raises:
        LedgerBroken: what was changed, as near as the hashes tell.
    """
    own = view.checkpoint()  # first: entries that are written meanwhile are after it
    heads = sorted([*against, *([own] if own is not None else [])], key=lambda head: head.size)
    frontier, torn, gone = Frontier(), 0, _Gone(view)
    _compare(view, frontier, (), heads)
    names = view.segments()
    for name in names:
        reading, index = view.read(name, frontier), _Stored(view.hashes)
        before = frontier
        for group in reading.groups():
            _require_stored(view, group, index)
            _compare(view, before, group.leaves, heads)
            before = reading.frontier
            if isinstance(reading, Residue):
                root = dict(group.ended)[segment.LEVEL // TILE_LEVELS]
                gone.found[name] = (root.hex(), hashlib.sha256(reading.data).hexdigest())
        frontier, torn = reading.frontier, len(reading.rest)
        signed = own.size if own is not None else 0
        gone.look(name, reading)
        if torn and (name != names[-1] or not reading.is_torn or frontier.size < signed):
            raise _changed(view, reading, index)
    if heads and heads[-1].size > frontier.size:
        raise LedgerBroken(
            f"{view.key.name}: the tail is cut off: {frontier.size} entries, and a checkpoint over {heads[-1].size}",
            _EXPORT,
        )
    late = view.checkpoint()  # a segment may have expired meanwhile
    if frontier.size and late is None:  # an empty log is signed before its first entry
        raise LedgerBroken(
            f"{view.key.name}: {frontier.size} entries, and no checkpoint: it was taken away, or this is a copy whose"
            " first one has not come",
            "compare with the last export; a copy behind a diode: airgap diode fill again, or wait for its receiver",
        )
    expired = gone.expired(late.size if late is not None else 0)
    return Verdict(frontier.size, frontier.root(), own.size if own is not None else 0, len(against), torn, expired)


class _Gone:
    """Segments that are gone, by name with tree head and SHA-256 of what is left, and the tombstones that say so."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.found: dict[str, tuple[str, str]] = {}
        self._stones: list[tuple[int, dict[str, Any]]] = []

    def look(self, name: str, reading: Reading) -> None:
        """Take the tombstones out of a segment."""
        kind = residue if isinstance(reading, Residue) else segment
        if MARK in reading.data:
            found = kind.numbered(reading.data, segment.number_of(name))
            marked = ((index, json.loads(entry)) for index, entry in found if MARK in entry)
            self._stones += [(index, content) for index, content in marked if content.get("kind") == "expired"]

    def expired(self, signed: int) -> tuple[Expired, ...]:
        """One signed tombstone for each, that speaks of this segment; others of it are not looked at."""
        return tuple(self._expired(name, *sums, signed) for name, sums in self.found.items())

    def _expired(self, name: str, root: str, left_sha256: str, signed: int) -> Expired:
        first, why = segment.number_of(name), "no entry says that it expired"
        for seq, content in of_segment(self._stones, first):
            try:
                stone = Tombstone.parse(content)
                if stone.root != root:
                    raise ValueError("is of another tree")
                if not stone.fits(left_sha256):
                    raise ValueError("says that something else is left")
            except (ValueError, TypeError) as error:
                why = f"its tombstone, entry {seq}, {error}"
                continue
            if seq < signed:
                return Expired(stone, seq, content)
            why = f"its tombstone, entry {seq}, is not signed"
        raise LedgerBroken(f"{self._view.key.name}: the text of segment {name} is gone, and {why}", _EXPORT)


@dataclass
class _Stored:
    """The hashes that lie beside the segments."""

    hashes: Hashes

    def first_other(self, first: int, leaves: Sequence[bytes]) -> int | None:
        """Number of the first entry whose stored hash is another one."""
        row = self.hashes.row(0, first, len(leaves))
        for i, leaf in enumerate(leaves):
            stored = row[i * HASH_BYTES : (i + 1) * HASH_BYTES]
            if len(stored) == HASH_BYTES and stored != leaf:
                return first + i
        return None


def _require_stored(view: View, group: Group, stored: _Stored) -> None:
    other = stored.first_other(group.first, group.leaves)
    if other is not None:
        raise LedgerBroken(f"{view.key.name}: entry {other} is not the one that its stored hash is of", _EXPORT)
    end = group.first + len(group.leaves)
    for level in {level for level, _node in group.ended}:
        made = [node for of, node in group.ended if of == level]
        at = (end >> TILE_LEVELS * level) - len(made)
        kept = view.hashes.row(level, at, len(made))
        if kept != b"".join(made)[: len(kept)]:
            raise LedgerBroken(
                f"{view.key.name}: a hash from {at} on of level {level} was changed, the entries were not",
                f"remove {view.folder}/hashes: the next writer makes them anew",
            )


def _compare(view: View, before: Frontier, leaves: Sequence[bytes], heads: list[Checkpoint]) -> None:
    """Compare with the heads that lie within these leaves."""
    for head in heads:
        if before.size < head.size <= before.size + len(leaves) or head.size == 0 == len(leaves):
            grown = before.copy()
            grown.extend(leaves[: head.size - before.size])
            if grown.root() != head.root:
                raise LedgerBroken(
                    f"{view.key.name}: the first {head.size} entries are not those that a checkpoint was signed over",
                    _EXPORT,
                )


def _changed(view: View, reading: Reading, stored: _Stored) -> LedgerBroken:
    first = reading.frontier.size
    other = stored.first_other(first, reading.unfit)
    what = f"entry {other} was changed" if other is not None else f"after entry {first - 1} {reading.why}"
    return LedgerBroken(f"{view.key.name}: {what}", _EXPORT)
