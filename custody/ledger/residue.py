"""What is left of a segment that has expired: for each entry a line, its leaf's hash or the entry itself.

`=` and the hash in base64, or the entry's own text where it tells of the log and of nobody else. The tree is computed
from it as from the text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from custody.ledger.segment import SEGMENT_ENTRIES, Group, Reading
from custody.ledger.tree import HASH_BYTES, TILE_LEVELS, leaf_hash


class Residue(Reading):
    """What is left of a segment, read as the segment was."""

    def groups(self) -> Iterator[Group]:
        """All of it as one group, if it makes sense."""
        if self.end:
            return
        try:
            leaves = leaves_of(self.data)
        except ValueError as error:
            self.why = str(error)
            return
        first, grown = self.frontier.size, self.frontier.copy()
        ended = grown.extend(leaves, TILE_LEVELS)
        self.frontier, self.end = grown, len(self.data)
        yield Group(0, self.end, first, tuple(leaves), tuple(ended))

    @property
    def is_torn(self) -> bool:
        """Never: it is written whole."""
        return False


def numbered(data: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """Entries whose text stayed, with their numbers."""
    for place, line in enumerate(data.split(b"\n")):
        if line.startswith(b"{"):
            yield first + place, line


def line_of(leaf: bytes) -> bytes:
    """The line of an entry whose text goes."""
    return b"=" + base64.b64encode(leaf)


def leaves_of(data: bytes) -> list[bytes]:
    """Hashes of all its entries.

    Raises:
        ValueError: not such a file.
    """
    lines = data.split(b"\n")
    if len(lines) != SEGMENT_ENTRIES + 1 or lines.pop():
        raise ValueError(f"what is left of the segment has not {SEGMENT_ENTRIES} lines")
    leaves = []
    for number, line in enumerate(lines):
        if line.startswith(b"="):
            try:
                leaf = base64.b64decode(line[1:], validate=True)
            except binascii.Error:
                leaf = b""
            if len(leaf) != HASH_BYTES or line_of(leaf) != line:
                raise ValueError(f"line {number + 1} of what is left is not a hash")
            leaves.append(leaf)
        elif line.startswith(b"{"):
            leaves.append(leaf_hash(line))
        else:
            raise ValueError(f"line {number + 1} of what is left is neither an entry nor a hash")
    return leaves
