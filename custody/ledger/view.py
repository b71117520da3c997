"""A log as a reader sees it: entries, proofs, and whether it is intact. Writes nothing, needs no private key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from custody.errors import InputInvalid, IntegrityFailure, LedgerBroken
from custody.ledger import segment, tree
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.disk import Disk, RealDisk, read_all
from custody.ledger.hashes import Hashes
from custody.ledger.note import LogKey
from custody.ledger.origin import load_public
from custody.ledger.tree import Frontier

CHECKPOINT = "checkpoint"


class View:
    """A log that is there."""

    def __init__(self, folder: Path, disk: Disk | None = None, key: LogKey | None = None) -> None:
        """Args: key: the log's, when it was had from elsewhere; the log's own files are not asked then."""
        self.folder, self.disk = folder, disk or RealDisk()
        self.key = key or load_public(folder)
        self.hashes = Hashes(self.disk, folder)

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint; None of a log that has signed nothing.

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
        """Names of the segments, which follow one another without a gap.

        Raises:
            LedgerBroken: one is missing, or something else lies there.
        """
        names = self.disk.names(self.folder / segment.FOLDER)
        wanted = [segment.name_of(i * segment.SEGMENT_ENTRIES) for i in range(len(names))]
        if names != wanted:
            odd = sorted(set(names) ^ set(wanted))
            raise LedgerBroken(
                f"{self.folder / segment.FOLDER}: expected {len(wanted)} segments in a row, found {', '.join(odd)}",
                "a segment is missing or foreign: compare with the last export",
            )
        return wanted

    def read(self, name: str, frontier: Frontier) -> segment.Reading:
        """A segment, from the tree up to its beginning on.

        Raises:
            LedgerBroken: the segment before is not full.
        """
        if frontier.size != int(name.removesuffix(".log")):
            raise self.broken(f"segment {name} follows entry {frontier.size - 1}: entries are missing or too many")
        return segment.Reading(frontier, read_all(self.disk, self.folder / segment.FOLDER / name))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Entries of whole groups, with their numbers; not compared with the tree: `prove` and `verify` do that."""
        for name in self.segments():
            index = int(name.removesuffix(".log"))
            if index + segment.SEGMENT_ENTRIES <= start:
                continue
            data = read_all(self.disk, self.folder / segment.FOLDER / name)
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
        raise InputInvalid(f"{self.key.name}: no entry {index}", "airgap ledger show")

    def prove(self, index: int, head: Checkpoint) -> tuple[bytes, list[bytes]]:
        """An entry and the path from it to a tree head of this log.

        Raises:
            InputInvalid: the head does not cover the entry.
            LedgerBroken: entry, hashes and head do not belong together.
        """
        if not 0 <= index < head.size:
            raise InputInvalid(f"entry {index}: expected one below {head.size}, the checkpoint's size", "")
        entry = self.entry(index)
        try:
            path = tree.inclusion_proof(index, head.size, self.hashes.node)
        except LookupError as error:
            raise self.broken(f"{error} is missing") from error
        if tree.root_of_inclusion(index, head.size, tree.leaf_hash(entry), path) != head.root:
            raise self.broken(f"entry {index} or a hash on its path was changed")
        return entry, path

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
