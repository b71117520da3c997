"""What came out of the diode and no checkpoint vouches for yet, by number, in files that only grow.

`received/N.part` holds numbers N to N + 65,535 in the order of their coming, a line each: the number and the entry, or
the number and `#` with the size of an entry that only a file can bring. A line that a kill left half is cut off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from custody.ledger.segment import ENTRY_MAX_BYTES, SEGMENT_ENTRIES

FOLDER = "received"
_SUFFIX = ".part"
_LINE = re.compile(rb"(0|[1-9][0-9]{0,18}) (?:(\{[^\n]*\})|#([0-9]{1,5}))\n")
_ABSENT, _HERE, _LONG = 0, 1, 2
_RUN = {state: re.compile(b"\\x%02x+" % state) for state in (_ABSENT, _LONG)}


class Arrivals:
    """Entries by number; each once, the first that came."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        """Look at what is there.

        Args:
            folder: `received` of a receiver's folder.
            write: mend what a kill left, and take more.
        """
        self._folder = folder
        self._states: dict[int, bytearray] = {}  # by number of the first, a byte for each number
        self._pending: dict[int, list[bytes]] = {}
        self._open: dict[int, int] = {}
        if write:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for first in self.files():
            states = self._states[first] = bytearray(SEGMENT_ENTRIES)
            for seq, entry in self._lines(first, mend=write):
                if states[seq - first] != _HERE:
                    states[seq - first] = _HERE if entry is not None else _LONG

    def files(self) -> list[int]:
        """The first number of every file, in order."""
        names = [path.stem for path in self._folder.glob(f"*{_SUFFIX}")]
        return sorted(int(name) for name in names if name.isdigit() and int(name) % SEGMENT_ENTRIES == 0)

    def has(self, seq: int) -> bool:
        """Whether the entry came."""
        return self._state(seq) == _HERE

    def knows(self, seq: int) -> bool:
        """Whether it came, be it only by its size."""
        return self._state(seq) != _ABSENT

    def _state(self, seq: int) -> int:
        states = self._states.get(seq - seq % SEGMENT_ENTRIES)
        return states[seq % SEGMENT_ENTRIES] if states is not None else _ABSENT

    def add(self, seq: int, entry: bytes) -> None:
        """Keep an entry whose number has not come; on the disk after `flush`."""
        self._add(seq, _HERE, b"%d %b\n" % (seq, entry))

    def add_long(self, seq: int, size_bytes: int) -> None:
        """Keep that an entry is too long for a datagram."""
        self._add(seq, _LONG, b"%d #%d\n" % (seq, size_bytes))

    def _add(self, seq: int, state: int, line: bytes) -> None:
        first = seq - seq % SEGMENT_ENTRIES
        self._states.setdefault(first, bytearray(SEGMENT_ENTRIES))[seq - first] = state
        self._pending.setdefault(first, []).append(line)

    def flush(self) -> None:
        """Give what came to the kernel: a kill does not take it any more."""
        for first, lines in self._pending.items():
            if first not in self._open:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._open[first] = os.open(self._path(first), flags, 0o640)
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(self._open[first], data) :]
        self._pending.clear()

    def sync(self) -> None:
        """Bring it to the disk."""
        for handle in self._open.values():
            os.fdatasync(handle)

    def absent(self, start: int, stop: int) -> Iterator[range]:
        """Numbers from start to below stop of which nothing came, in runs."""
        return self._runs(_ABSENT, start, stop)

    def announced(self, start: int, stop: int) -> Iterator[range]:
        """Numbers of which only the size came, in runs."""
        return self._runs(_LONG, start, stop)

    def run_end(self, start: int, stop: int) -> int:
        """The first number from start on, at most stop, whose entry is not here."""
        runs = (self.absent(start, stop), self.announced(start, stop))
        return min(next(each, range(stop, stop)).start for each in runs)

    def read(self, start: int, stop: int) -> dict[int, bytes]:
        """Entries from start to below stop, by number, those that are here; from the disk."""
        found: dict[int, bytes] = {}
        for first in self.files():
            if first < stop and start < first + SEGMENT_ENTRIES:
                found |= {s: e for s, e in self._lines(first) if e is not None and start <= s < stop and s not in found}
        return found

    def forget(self, below: int) -> None:
        """Remove files of numbers that all lie below one: they are vouched for, and elsewhere."""
        for first in [first for first in self._states if first + SEGMENT_ENTRIES <= below]:
            del self._states[first]
            self._pending.pop(first, None)
            if first in self._open:
                os.close(self._open.pop(first))
            self._path(first).unlink(missing_ok=True)

    def close(self) -> None:
        """Write what waits and let go of the files."""
        self.flush()
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:020}{_SUFFIX}"

    def _lines(self, first: int, *, mend: bool = False) -> Iterator[tuple[int, bytes | None]]:
        """Number and entry of each line that makes sense; None in place of one of which only the size came."""
        path, good, at = self._path(first), 0, 0
        with suppress(FileNotFoundError), path.open("rb") as stream:  # all of it is vouched for since
            while line := stream.readline(ENTRY_MAX_BYTES + 32):
                at += len(line)
                good = at if line.endswith(b"\n") else good
                found = _LINE.fullmatch(line)
                if found and first <= int(found[1]) < first + SEGMENT_ENTRIES:
                    yield int(found[1]), found[2]
        if mend and path.stat().st_size != good:
            os.truncate(path, good)

    def _runs(self, state: int, start: int, stop: int) -> Iterator[range]:
        pending = range(start, start)
        for first in range(start - start % SEGMENT_ENTRIES, stop, SEGMENT_ENTRIES):
            begin, end = max(start, first), min(stop, first + SEGMENT_ENTRIES)
            states = self._states.get(first)
            if states is None:
                found = [range(begin, end)] if state == _ABSENT else []
            else:
                runs = _RUN[state].finditer(states, begin - first, end - first)
                found = [range(first + run.start(), first + run.end()) for run in runs]
            for each in found:
                if pending and pending.stop == each.start:
                    pending = range(pending.start, each.stop)
                    continue
                if pending:
                    yield pending
                pending = each
        if pending:
            yield pending
