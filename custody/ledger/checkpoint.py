"""Checkpoints (C2SP `tlog-checkpoint`): what a log was at one size, signed.

Refuses extension lines, which C2SP advises against: nothing here makes them.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from custody.errors import BundleMalformed
from custody.ledger.note import NAME, LogKey, LogSigner, Note
from custody.ledger.tree import HASH_BYTES

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """A tree head.

    Attributes:
        origin: the log's name.
        size: number of entries.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @staticmethod
    def parse(text: str, name: str) -> Checkpoint:
        """Read a note's text.

        Raises:
            BundleMalformed: not a checkpoint.
        """
        lines = text.split("\n")
        try:
            if len(lines) != 4 or lines[3] or not NAME.fullmatch(lines[0]) or not _SIZE.fullmatch(lines[1]):
                raise ValueError("expected origin, size and root, a line each")
            root = base64.b64decode(lines[2], validate=True)
            found = Checkpoint(lines[0], int(lines[1]), root)
            if len(root) != HASH_BYTES or found.text != text:
                raise ValueError("expected a root of 32 bytes in base64")
        except ValueError as error:
            raise BundleMalformed(f"{name}: not a checkpoint: {error}") from error
        return found

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def signed_by(self, signer: LogSigner) -> Note:
        """The note."""
        return signer.sign(Note(self.text))


def open_checkpoint(data: bytes, key: LogKey, name: str) -> tuple[Checkpoint, Note]:
    """Read a checkpoint that the log has signed.

    Raises:
        BundleMalformed: not a checkpoint, or another log's.
        SignatureRejected: not signed by the key.
    """
    note = Note.parse(data, name)
    note.require(key, name)
    found = Checkpoint.parse(note.text, name)
    if found.origin != key.name:
        raise BundleMalformed(f"{name}: expected a checkpoint of {key.name}, found one of {found.origin}")
    return found, note
