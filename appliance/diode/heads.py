"""Tree heads that came out of the diode: signed by the log, and not all of their entries are here yet."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from custody.atomic import write_whole
from custody.errors import IntegrityFailure
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.note import LogKey

FILE = "heads"


@dataclass(frozen=True)
class Heard:
    """A tree head, and the same as the log signed it."""

    head: Checkpoint
    note: bytes


class Heads:
    """By size; in a file of one note a line, base64."""

    def __init__(self, folder: Path, key: LogKey) -> None:
        """Read those that were heard before. A line that is not one is passed over: a kill left it half.

        Args:
            folder: `received` of a receiver's folder.
        """
        self._file, self._key = folder / FILE, key
        self.by_size: dict[int, Heard] = {}
        for line in self._file.read_bytes().split(b"\n") if self._file.exists() else ():
            found = self._parse(line)
            if found is not None:
                self.by_size.setdefault(found.head.size, found)

    @property
    def newest_size(self) -> int:
        """Entries under the largest; 0 if there is none."""
        return max(self.by_size, default=0)

    def add(self, heard: Heard) -> None:
        """Keep one whose size is new."""
        self.by_size[heard.head.size] = heard
        with self._file.open("ab") as stream:
            stream.write(b"\n" + base64.b64encode(heard.note) + b"\n")  # what a kill left half ends there

    def forget(self, up_to: int) -> None:
        """Remove those that a copy of the log has passed."""
        if any(size <= up_to for size in self.by_size):
            self.by_size = {size: heard for size, heard in self.by_size.items() if size > up_to}
            lines = (base64.b64encode(heard.note) + b"\n" for heard in self.by_size.values())
            write_whole(self._file, b"".join(lines), mode=0o640)

    def _parse(self, line: bytes) -> Heard | None:
        try:
            note = base64.b64decode(line, validate=True)
            return Heard(open_checkpoint(note, self._key, str(self._file))[0], note)
        except (binascii.Error, IntegrityFailure):
            return None
