"""A log as a reader sees it: entries, proofs, and whether it is intact. Writes nothing, needs no private key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from custody.errors import InputInvalid, IntegrityFailure, LedgerBroken
from custody.ledger import packed, residue, segment, tree
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.disk import Disk, RealDisk, read_all
from custody.ledger.hashes import Hashes
from custody.ledger.note import LogKey
from custody.ledger.origin import load_public
from custody.ledger.tree import Frontier

CHECKPOINT = "checkpoint"
_COUNT = "airgap ledger verify, or airgap audit verify for the audit log, says how many there are"


class View:
    """A log that is there."""

    def __init__(self, folder: Path, disk: Disk | None = None, key: LogKey | None = None) -> None:
        """Args: key: the log's, when it was had from elsewhere; the log's own files are not asked then."""
        self.folder, self.disk = folder, disk or RealDisk()
        self.key = key or load_public(folder)
        self.hashes = Hashes(self.disk, folder)

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint; None of a log that nobody has opened yet.

        Raises:
            LedgerBroken: malformed, or not signed by the log.
        """
        path = self.folder / CHECKPOINT
        if not self.disk.exists(path):
            return None
        try:
            return open_checkpoint(read_all(self.disk, path), self.key, str(path))[0]
        except IntegrityFailure as error:
            raise LedgerBroken(error.message, "compare with the last checkpoint that left this host") from error

    def segments(self) -> list[str]:
        """Names of the segments, in whatever form they are, which follow one another without a gap.

        Raises:
            LedgerBroken: one is missing, or something else lies there.
        """
        names = self.disk.names(self.folder / segment.FOLDER)
        found = sorted({name.partition(".")[0] + segment.TEXT for name in names if name.endswith(segment.FORMS)})
        wanted = [segment.name_of(i * segment.SEGMENT_ENTRIES) for i in range(len(found))]
        known = {name.removesuffix(segment.TEXT) + form for name in wanted for form in segment.FORMS}
        odd = [f"{name}, expected {other}" for name, other in zip(found, wanted, strict=True) if name != other]
        odd = odd or sorted(set(names) - known)
        if odd:
            raise LedgerBroken(
                f"{self.folder / segment.FOLDER}: expected segments in a row and nothing else, found {odd[0]}",
                "a segment is missing or foreign: compare with the last export",
            )
        return wanted

    def path(self, name: str, form: str) -> Path:
        """Where a segment lies in one of its forms."""
        return self.folder / segment.FOLDER / f"{name.removesuffix(segment.TEXT)}{form}"

    def text(self, name: str) -> tuple[bytes, bool]:
        """A segment's text, or what is left of it, and whether that is all: it has expired.

        Raises:
            LedgerBroken: it is not there, or does not unpack.
        """
        for (
            form
        ) in segment.FORMS:  # its writer goes through them in this order, and makes one before it removes another
            try:
                data = read_all(self.disk, self.path(name, form))
            except FileNotFoundError:
                continue
            return (self._unpacked(data, name) if form == segment.PACKED else data), form == segment.GONE
        raise self.broken(f"segment {name} is missing")

    def has_text(self, name: str) -> bool:
        """Whether a segment has not expired."""
        return any(self.disk.exists(self.path(name, form)) for form in (segment.TEXT, segment.PACKED))

    def _unpacked(self, data: bytes, name: str) -> bytes:
        try:
            text = packed.unpack(data)
            if not segment.is_complete(text, segment.number_of(name)):
                raise ValueError("it does not hold a complete segment")
        except ValueError as error:
            raise self.broken(f"segment {name} was changed after it was compressed: {error}") from error
        return text

    def read(self, name: str, frontier: Frontier) -> segment.Reading:
        """A segment, from the tree up to its beginning on.

        Raises:
            LedgerBroken: the segment before is not full.
        """
        if frontier.size != int(name.removesuffix(".log")):
            raise self.broken(f"segment {name} follows entry {frontier.size - 1}: entries are missing or too many")
        data, is_gone = self.text(name)
        return residue.Residue(frontier, data) if is_gone else segment.Reading(frontier, data)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Entries of whole groups, with their numbers; not compared with the tree: `prove` and `verify` do that.

        Those that have expired are passed over.
        """
        for name in self.segments():
            index = segment.number_of(name)
            if index + segment.SEGMENT_ENTRIES <= start:
                continue
            if stop is not None and index >= stop:
                return
            data, is_gone = self.text(name)
            if is_gone:
                kept = residue.numbered(data, index)
                yield from ((at, entry) for at, entry in kept if start <= at and (stop is None or at < stop))
                continue
            for begin, end in segment.spans(data):
                count = data.count(b"\n", begin, end)
                if index + count > start:
                    for entry in data[begin:end].split(b"\n")[:-1]:
                        if start <= index and (stop is None or index < stop):
                            yield index, entry
                        index += 1
                else:
                    index += count
                if stop is not None and index >= stop:
                    return

    def entry(self, index: int) -> bytes:
        """One entry.

        Raises:
            InputInvalid: there is none.
        """
        for _index, found in self.entries(index, index + 1):
            return found
        if 0 <= index < len(self.segments()[:-1]) * segment.SEGMENT_ENTRIES:
            raise InputInvalid(f"{self.key.name}: entry {index} has expired, its text is gone", "airgap audit verify")
        raise InputInvalid(f"{self.key.name}: no entry {index}", _COUNT)

    def marked(self, mark: bytes) -> Iterator[tuple[int, bytes]]:
        """Entries that hold these bytes, with their numbers; faster than reading every entry."""
        for name in self.segments():
            data, is_gone = self.text(name)
            if mark in data:
                kind = residue if is_gone else segment
                found = kind.numbered(data, segment.number_of(name))
                yield from ((index, entry) for index, entry in found if mark in entry)

    def prove(self, index: int, head: Checkpoint) -> tuple[bytes, list[bytes]]:
        """An entry and the path from it to a tree head of this log.

        Raises:
            InputInvalid: the head does not cover the entry.
            LedgerBroken: entry, hashes and head do not belong together.
        """
        if not 0 <= index < head.size:
            raise InputInvalid(f"entry {index}: expected one below {head.size}, the checkpoint's size", _COUNT)
        entry = self.entry(index)
        try:
            path = tree.inclusion_proof(index, head.size, self.hashes.node)
        except LookupError as error:
            raise self.broken(f"{error} is missing") from error
        if tree.root_of_inclusion(index, head.size, tree.leaf_hash(entry), path) != head.root:
            raise self.broken(f"entry {index} or a hash on its path was changed")
        return entry, path

    def prove_segment(self, name: str, root: bytes, head: Checkpoint) -> list[bytes]:
        """The path from a complete segment's tree head to a tree head of this log.

        Args:
            root: over the segment's own entries, as they were read.

        Raises:
            InputInvalid: the head does not cover all of the segment.
            LedgerBroken: its entries are not those of the log, or a hash is missing.
        """
        first, last = segment.number_of(name), head.size - 1
        if first + segment.SEGMENT_ENTRIES > head.size:
            raise InputInvalid(f"segment {name}: expected one below entry {head.size}, the checkpoint's size", _COUNT)
        try:
            # The path of its first entry: below the segment's head it knows that segment alone.
            path = tree.inclusion_proof(first, head.size, self.hashes.node)[segment.LEVEL :]
        except LookupError as error:
            raise self.broken(f"{error} is missing") from error
        if tree.root_of_inclusion(first >> segment.LEVEL, (last >> segment.LEVEL) + 1, root, path) != head.root:
            raise self.broken(f"the entries of segment {name} are not those that its checkpoint was signed over")
        return path

    def prove_growth(self, old: Checkpoint, head: Checkpoint) -> list[bytes]:
        """The proof that a later head goes on from an older one.

        Raises:
            LedgerBroken: it does not.
        """
        try:
            proof = tree.consistency_proof(old.size, head.size, self.hashes.node)
        except (LookupError, ValueError) as error:
            raise self.broken(f"it does not reach from {old.size} to {head.size}: {error}") from error
        if not tree.is_consistent(old.size, old.root, head.size, head.root, proof):
            raise self.broken(f"the first {old.size} entries are not those of the older checkpoint")
        return proof

    def broken(self, what: str) -> LedgerBroken:
        """The error that says so of this log."""
        return LedgerBroken(f"{self.key.name}: {what}", f"airgap ledger verify {self.folder}")
