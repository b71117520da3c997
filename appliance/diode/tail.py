"""A log as it grows, for one who only reads it: the entries that a checkpoint covers, each once and in order."""

from __future__ import annotations

from collections.abc import Iterator

from custody.errors import LedgerBroken
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.disk import read_all
from custody.ledger.segment import FOLDER, SEGMENT_ENTRIES, name_of, spans
from custody.ledger.view import CHECKPOINT, View


class Tail:
    """Entries from one on. What the newest checkpoint covers is durable, and never anything else afterwards."""

    def __init__(self, view: View, start: int) -> None:
        """Args: start: number of the first entry that is wanted."""
        self._view = view
        self.next = start
        self._segment, self._offset, self._first = "", 0, 0  # a group of a segment: where it begins, its first entry

    def head(self) -> tuple[Checkpoint, bytes] | None:
        """The newest checkpoint, and the same as it was signed; None of a log that has signed nothing.

        Raises:
            BundleMalformed, SignatureRejected: not the log's.
        """
        path = self._view.folder / CHECKPOINT
        if not self._view.disk.exists(path):
            return None
        data = read_all(self._view.disk, path)
        return open_checkpoint(data, self._view.key, str(path))[0], data

    def read(self, stop: int) -> Iterator[tuple[int, bytes]]:
        """The next entries up to number `stop`, which a checkpoint covers; it may be left before its end.

        Raises:
            LedgerBroken: there are fewer.
        """
        while self.next < stop:
            before = self.next
            for index, entry in self._in_segment(min(stop, before - before % SEGMENT_ENTRIES + SEGMENT_ENTRIES)):
                self.next = index + 1
                yield index, entry
            if self.next == before:
                raise LedgerBroken(
                    f"{self._view.key.name}: entry {before} is not there, and a checkpoint covers it",
                    f"airgap ledger verify --ledger {self._view.folder}",
                )

    def _in_segment(self, stop: int) -> Iterator[tuple[int, bytes]]:
        name = name_of(self.next)
        if name != self._segment:
            self._segment, self._offset, self._first = name, 0, int(name.removesuffix(".log"))
        wanted, start, index = self.next, self._offset, self._first
        try:
            data = self._text(name, start)
        except FileNotFoundError:  # not as plain text: the view knows other forms, and passes over what is gone
            yield from self._view.entries(wanted, stop)
            self.next = stop
            return
        for begin, end in spans(data):
            count = data.count(b"\n", begin, end)
            if index + count > wanted:
                self._offset, self._first = start + begin, index
                for entry in data[begin:end].split(b"\n")[:-1]:
                    if wanted <= index < stop:
                        yield index, entry
                    index += 1
            else:
                index += count
            if index >= stop:
                return

    def _text(self, name: str, offset: int) -> bytes:
        file = self._view.disk.open(self._view.folder / FOLDER / name)
        try:
            return file.read(offset, file.size_bytes() - offset)
        finally:
            file.close()
