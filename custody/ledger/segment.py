"""Segments: the log's entries as text that `grep` reads.

An entry is one line, a JSON object. What was made durable together is a group; a line `#FIRST SIZE ROOT` ends it: the
number of its first entry, the number of entries up to there, the tree's head in base64. A segment holds 65,536
entries and is named after its first one; a group does not go beyond its end. Entries never begin with `#` and hold no
newline, so that a line says what it is.

A complete segment may be compressed (`.log.gz`, see `packed`). Of one that has expired the leaves' hashes are there,
and the entries that tell of the log itself (`.gone`, see `gone`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from custody.errors import InputInvalid
from custody.ledger.tree import TILE_LEVELS, Frontier, leaf_hash

FOLDER = "segments"
#: Forms of a segment. Where two are there, a step from one to the next was cut short, and the first one counts.
TEXT, PACKED, GONE = FORMS = (".log", ".log.gz", ".gone")
#: Entries of a segment: 256 tiles of 256, so that a segment is a complete subtree.
LEVEL = 16
SEGMENT_ENTRIES = 1 << LEVEL
#: C2SP entry bundles give an entry's length in 16 bits.
ENTRY_MAX_BYTES = (1 << 16) - 1
_MARK = ord("#")
_END_LINE = re.compile(rb"(?<=\n)#(\d{1,19}) \d{1,19} [A-Za-z0-9+/]{43}=\n")


def name_of(index: int) -> str:
    """Name of the segment that holds an entry."""
    return f"{index // SEGMENT_ENTRIES * SEGMENT_ENTRIES:020}.log"


def number_of(name: str) -> int:
    """Number of a segment's first entry, by any of its names."""
    return int(name.partition(".")[0])


def is_complete(text: bytes, first: int) -> bool:
    """Whether a segment says of itself that it is full."""
    last = text[text.rfind(b"\n", 0, -1) + 1 :]
    return last.startswith(b"#") and last.split(b" ")[1:2] == [b"%d" % (first + SEGMENT_ENTRIES)]


def require_entry(entry: bytes) -> None:
    """Refuse what cannot be an entry.

    Raises:
        InputInvalid: too long, of several lines, with a NUL, or no JSON object by its ends.
    """
    is_line = len(entry) <= ENTRY_MAX_BYTES and b"\n" not in entry and b"\0" not in entry
    if not (is_line and entry.startswith(b"{") and entry.endswith(b"}")):
        raise InputInvalid(f"entry of {len(entry)} bytes: expected one line of JSON, at most {ENTRY_MAX_BYTES} bytes")


def end_line(first: int, frontier: Frontier) -> bytes:
    """The line that ends a group."""
    return b"#%d %d %b\n" % (first, frontier.size, base64.b64encode(frontier.root()))


def group(entries: Sequence[bytes], frontier: Frontier) -> bytes:
    """Entries and the line that ends them; `frontier` holds them already."""
    return b"\n".join(entries) + b"\n" + end_line(frontier.size - len(entries), frontier)


def spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the entries of each group of a segment begin and end; what its last line says is not looked at."""
    begin = 0
    while True:
        end = begin
        if not data.startswith(b"#", begin):
            end = data.find(b"\n#", begin) + 1
            if end == 0:
                return
        after = data.find(b"\n", end) + 1
        if after == 0:
            return  # the last line has no end
        yield begin, end
        begin = after


def numbered(data: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """Entries of a segment's whole groups, with their numbers."""
    for begin, end in spans(data):
        for entry in data[begin:end].split(b"\n")[:-1]:
            yield first, entry
            first += 1


@dataclass(frozen=True)
class Group:
    """A group that was read: its entries are those that its last line names.

    Attributes:
        offset: of its first byte in the segment.
        end: of the byte after its last.
        first: number of its first entry.
        leaves: hashes of its entries.
        ended: subtrees that they end, for `Hashes.add`.
    """

    offset: int
    end: int
    first: int
    leaves: tuple[bytes, ...]
    ended: tuple[tuple[int, bytes], ...]


@dataclass
class Reading:
    """A segment as far as it makes sense.

    Attributes:
        frontier: grows with every group.
        data: the segment's bytes.
        end: of the last good group; the rest, if any, makes no sense.
        why: what is wrong there.
        unfit: hashes of the entries of a group that contradicts its last line.
    """

    frontier: Frontier
    data: bytes
    end: int = 0
    why: str = ""
    unfit: tuple[bytes, ...] = ()

    def groups(self) -> Iterator[Group]:
        """The groups that are whole, until the end or until something makes no sense."""
        leaves: list[bytes] = []
        at, data = self.end, self.data
        full = (self.frontier.size // SEGMENT_ENTRIES + 1) * SEGMENT_ENTRIES
        while at < len(data):
            stop = data.find(b"\n", at)
            if stop < 0:
                self.why = "the last line has no end"
                return
            if data[at] != _MARK:
                leaves.append(leaf_hash(data[at:stop]))
                at = stop + 1
                continue
            grown = self.frontier.copy()
            ended = grown.extend(leaves, TILE_LEVELS)
            if not leaves or grown.size > full or data[at : stop + 1] != end_line(self.frontier.size, grown):
                self.unfit = tuple(leaves)
                self.why = "a group is not what its last line says"
                return
            at = stop + 1
            found = Group(self.end, at, self.frontier.size, tuple(leaves), tuple(ended))
            self.frontier, self.end = grown, at
            leaves = []
            yield found
        if leaves:
            self.why = "the last group has no last line"

    @property
    def rest(self) -> bytes:
        """What follows the last good group."""
        return self.data[self.end :]

    @property
    def is_torn(self) -> bool:
        """Whether what follows can be one group that was never acknowledged.

        A group is written only after the one before is durable. So a line that ends another group than the next one
        shows that the next one was acknowledged, and was changed since.
        """
        if self.end and self.frontier.size % SEGMENT_ENTRIES == 0:
            return False  # the segment is full: nothing was ever written behind it
        return all(int(first) == self.frontier.size for first in _END_LINE.findall(b"\n" + self.rest))
