"""Proofs as files, each with the checkpoint that it leads to: all that is needed beside the log's public key.

That an entry is in a log: C2SP `tlog-proof`. That a log goes on from an older checkpoint: the body that C2SP
`tlog-witness` has for `add-checkpoint`, so that a witness takes it as it is.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from custody.errors import BundleMalformed, LedgerBroken
from custody.ledger import tree
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.note import LIMIT_BYTES, LogKey

_FIRST = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(rf"{re.escape(_FIRST)}\nindex (0|[1-9][0-9]{{0,18}})(?:\n|$)")
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})(?:\n|$)")


@dataclass(frozen=True)
class Proof:
    """Proof that an entry is in a log.

    Attributes:
        index: the entry's number, from 0.
        path: hashes from the leaf's sibling up.
        checkpoint: the signed note, as it is.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    @staticmethod
    def parse(data: bytes, name: str) -> Proof:
        """Read a proof; nothing is verified yet.

        Raises:
            BundleMalformed: not one.
        """
        try:
            found = Proof(*_read(data, _INDEX, f"{_FIRST}, an index"))
            if found.dump() != data:
                raise ValueError("a hash is 32 bytes in base64")
        except ValueError as error:
            raise BundleMalformed(f"{name}: not a proof: {error}") from error
        return found

    def dump(self) -> bytes:
        """The file."""
        return _dump((_FIRST, f"index {self.index}"), self.path, self.checkpoint)

    def verify(self, entry: bytes, key: LogKey, name: str) -> Checkpoint:
        """Refuse an entry that the log has not signed.

        Raises:
            LedgerBroken: the path does not lead from the entry to the checkpoint.
            SignatureRejected: the checkpoint is not signed by the key.
            BundleMalformed: the checkpoint is none.
        """
        head, _note = open_checkpoint(self.checkpoint, key, name)
        if tree.root_of_inclusion(self.index, head.size, tree.leaf_hash(entry), self.path) != head.root:
            raise LedgerBroken(f"{name}: entry {self.index} is not in the log of {head.size} entries that was signed")
        return head


@dataclass(frozen=True)
class Growth:
    """Proof that a log goes on from what it was.

    Attributes:
        old_size: entries then.
        path: hashes of RFC 6962, section 2.1.2.
        checkpoint: the newer signed note, as it is.
    """

    old_size: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    @staticmethod
    def parse(data: bytes, name: str) -> Growth:
        """Read a proof; nothing is verified yet.

        Raises:
            BundleMalformed: not one.
        """
        try:
            found = Growth(*_read(data, _OLD, "an old size"))
            if found.dump() != data:
                raise ValueError("a hash is 32 bytes in base64")
        except ValueError as error:
            raise BundleMalformed(f"{name}: not a proof of growth: {error}") from error
        return found

    def dump(self) -> bytes:
        """The file."""
        return _dump((f"old {self.old_size}",), self.path, self.checkpoint)

    def verify(self, old: Checkpoint, key: LogKey, name: str) -> Checkpoint:
        """Refuse a checkpoint that does not go on from an older one.

        Args:
            old: verified before.

        Raises:
            LedgerBroken: it does not.
            SignatureRejected: the newer checkpoint is not signed by the key.
            BundleMalformed: the newer checkpoint is none.
        """
        head, _note = open_checkpoint(self.checkpoint, key, name)
        sizes_fit = old.size == self.old_size
        if not sizes_fit or not tree.is_consistent(old.size, old.root, head.size, head.root, self.path):
            raise LedgerBroken(
                f"{name}: the log of {head.size} entries does not go on from the older one of {old.size}"
            )
        return head


def _read(data: bytes, first: re.Pattern[str], what: str) -> tuple[int, tuple[bytes, ...], bytes]:
    """The number in the first lines, hashes and checkpoint of either file."""
    if len(data) > LIMIT_BYTES:
        raise ValueError(f"{len(data)} bytes, at most {LIMIT_BYTES} expected")
    head, blank, checkpoint = data.decode().partition("\n\n")
    number = first.match(head)
    if not blank or number is None:
        raise ValueError(f"expected {what}, hashes and a checkpoint")
    rest = head[number.end() :]
    return int(number[1]), _nodes(rest.split("\n") if rest else ()), checkpoint.encode()


def _nodes(lines: Sequence[str]) -> tuple[bytes, ...]:
    nodes = tuple(base64.b64decode(line, validate=True) for line in lines)
    if any(len(node) != tree.HASH_BYTES for node in nodes):
        raise ValueError("a hash is 32 bytes in base64")
    return nodes


def _dump(first: Sequence[str], path: Sequence[bytes], checkpoint: bytes) -> bytes:
    lines = (*first, *(base64.b64encode(node).decode() for node in path))
    return "\n".join(lines).encode() + b"\n\n" + checkpoint
