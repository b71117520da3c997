"""Segments that have expired: their text is gone, the tree is not.

What is left of one, `N.gone` (`residue`), has every leaf's hash. So the tree is computed as before and every proof of
another entry holds. What took the text away is in the log: a *tombstone*, an entry that names the segment, the digest
of its text and its tree head. `verify` wants one, signed, for each segment that is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
    """

    first: int
    last: int
    text_sha256: str
    root: str

    @staticmethod
    def parse(content: dict[str, Any]) -> Tombstone:
        """Read one out of an entry.

        Raises:
            ValueError: it is none, or not of one whole segment.
        """
        try:
            found = Tombstone(**{name: content[name] for name in Tombstone.__dataclass_fields__})
        except KeyError as error:
            raise ValueError(f"has no {error}") from error
        numbers = (found.first, found.last)
        if not all(type(n) is int for n in numbers) or found.first % SEGMENT_ENTRIES or found.last < 0:
            raise ValueError(f"entries {found.first} to {found.last} are not a segment")
        if found.last != found.first + SEGMENT_ENTRIES - 1:
            raise ValueError(f"entries {found.first} to {found.last} are not a segment")
        return found

    def content(self) -> dict[str, Any]:
        """Its fields, for an entry."""
        return asdict(self)


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
    view.disk.replace(view.path(name, segment.GONE), b"\n".join(lines) + b"\n")
    return Tombstone(first, first + SEGMENT_ENTRIES - 1, hashlib.sha256(text).hexdigest(), root.hex())


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
    for form in (segment.TEXT, segment.PACKED):
        view.disk.remove(view.path(name, form))
