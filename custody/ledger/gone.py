"""Segments that have expired: their text is gone, the tree is not.

What is left of one, `N.gone` (`residue`), has every leaf's hash. So the tree is computed as before and every proof of
another entry holds. What took the text away is in the log: a *tombstone*, an entry that names the segment, the digest
of its text, its tree head and the digest of what is left. `verify` wants one, signed, for each segment that is gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from custody.errors import InputInvalid, LedgerBroken
from custody.ledger import segment
from custody.ledger.disk import read_all
from custody.ledger.residue import leaves_of, line_of
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.ledger.tree import leaf_hash, reduce
from custody.ledger.view import View

#: How every tombstone says what it is; canonical JSON has it nowhere else, since a text's quotes are escaped.
MARK = b'"kind":"expired"'


@dataclass(frozen=True)
class Tombstone:
    """What the log says of a segment whose text it no longer has.

    Attributes:
        first, last: numbers of its entries.
        text_sha256: of the segment's text, lower-case hex: `sha256sum N.log`, or `gzip -dc N.log.gz | sha256sum`.
        root: tree head over its entries alone, lower-case hex.
        left_sha256: of what is left, lower-case hex: `sha256sum N.gone`. Empty: an older process did not say.
    """

    first: int
    last: int
    text_sha256: str
    root: str
    left_sha256: str = ""

    @staticmethod
    def parse(content: dict[str, Any]) -> Tombstone:
        """Read one out of an entry.

        Raises:
            ValueError: it is none, or not of one whole segment.
        """
        try:
            named = {name: content[name] for name in ("first", "last", "text_sha256", "root")}
        except KeyError as error:
            raise ValueError(f"has no {error}") from error
        found = Tombstone(**named, left_sha256=content.get("left_sha256", ""))
        numbers = (found.first, found.last)
        if not all(type(n) is int for n in numbers) or found.first % SEGMENT_ENTRIES or found.last < 0:
            raise ValueError(f"entries {found.first} to {found.last} are not a segment")
        if found.last != found.first + SEGMENT_ENTRIES - 1:
            raise ValueError(f"entries {found.first} to {found.last} are not a segment")
        return found

    def content(self) -> dict[str, Any]:
        """Its fields, for an entry."""
        return asdict(self)

    def fits(self, left_sha256: str) -> bool:
        """Whether this may be left of the segment; one that does not say takes all."""
        return self.left_sha256 in ("", left_sha256)


def prepare(view: View, name: str, keeps: Callable[[bytes], bool]) -> Tombstone:
    """Write what will be left of a segment beside its text.

    Args:
        name: of the segment.
        keeps: of which entries the text stays.

    Raises:
        InputInvalid: it is gone already, or not complete.
        LedgerBroken: its entries are not those that were signed.
        OSError: nothing changed.
    """
    first = segment.number_of(name)
    text, is_gone = view.text(name)
    if is_gone or not segment.is_complete(text, first):
        raise InputInvalid(f"segment {name}: expected a complete one with its text", "airgap audit verify")
    entries = [entry for begin, end in segment.spans(text) for entry in text[begin:end].split(b"\n")[:-1]]
    leaves = [leaf_hash(entry) for entry in entries]
    head = view.checkpoint()
    if head is None or len(leaves) != SEGMENT_ENTRIES:
        raise LedgerBroken(f"{view.key.name}: segment {name} has {len(leaves)} entries", "airgap audit verify")
    root = reduce(leaves)
    view.prove_segment(name, root, head)
    lines = [entry if keeps(entry) else line_of(leaf) for entry, leaf in zip(entries, leaves, strict=True)]
    left = b"\n".join(lines) + b"\n"
    view.disk.replace(view.path(name, segment.GONE), left)
    sums = (hashlib.sha256(text).hexdigest(), root.hex(), hashlib.sha256(left).hexdigest())
    return Tombstone(first, first + SEGMENT_ENTRIES - 1, *sums)


def remove_text(view: View, name: str, stone: Tombstone) -> None:
    """Take the text away, for good; the log must have the tombstone, signed, before.

    Raises:
        LedgerBroken: what would be left is not what the tombstone says.
        OSError: the text, or a compressed one, is still there.
    """
    left = read_all(view.disk, view.path(name, segment.GONE))
    try:
        root = reduce(leaves_of(left)).hex()
    except ValueError as error:
        root = str(error)
    if (stone.first, stone.root) != (segment.number_of(name), root):
        raise LedgerBroken(f"segment {name}: its hashes are not those of its tombstone", "airgap audit verify")
    if not stone.fits(hashlib.sha256(left).hexdigest()):
        raise LedgerBroken(f"segment {name}: what is left is not what its tombstone says", "airgap audit verify")
    for form in (segment.TEXT, segment.PACKED):
        view.disk.remove(view.path(name, form))


def of_segment(found: Iterable[tuple[int, dict[str, Any]]], first: int) -> list[tuple[int, dict[str, Any]]]:
    """Those of some tombstones that are of a segment; where one says what is left, those that do not say are out.

    Args:
        found: numbers and contents of entries.
        first: number of the segment's first entry.
    """
    mine = [(seq, content) for seq, content in found if content.get("first") == first]
    return [(seq, content) for seq, content in mine if content.get("left_sha256")] or mine


def require_left(view: View) -> None:
    """Refuse a log of which something else is left than tombstones say: an entry may be hidden behind its hash.

    The tombstones are not compared with the tree: `verify` does that, and this too.

    Raises:
        LedgerBroken: naming the segment.
    """
    names = [name for name in view.segments() if not view.has_text(name)]
    marked = [(seq, json.loads(entry)) for seq, entry in view.marked(MARK)] if names else []
    stones = [(seq, content) for seq, content in marked if content.get("kind") == "expired"]
    for name in names:
        left_sha256 = hashlib.sha256(view.text(name)[0]).hexdigest()
        said = [content.get("left_sha256", "") for _seq, content in of_segment(stones, segment.number_of(name))]
        if left_sha256 not in said and "" not in said:
            raise view.broken(f"what is left of segment {name} is not what its tombstone says")
