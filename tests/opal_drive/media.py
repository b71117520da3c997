"""The bytes of the drive: one sparse file with the user's blocks, the MBR table and the DataStore table.

Everything is combined with a keystream that comes of a key and the place, so that a new key turns what was written into
noise. The keystream of each 4 KiB is the sum of three rows of SHAKE-128, one out of each of three sets, which differs
for the first 1 GiB; an emulated guest would spend its time on a hash for every block. It stands for the drive's AES and
is no cipher: two versions of one block give away their difference, and blocks that are known give away others. A block
that is all zeros in the file was never written, or zeroed since, and reads as zeros whatever the key is.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from .faults import DATA_STORE_BYTES, MBR_BYTES, Model

KEY_BYTES = 32
_PIECE_BYTES = 1 << 20
_UNIT_BYTES = 4096
_ROWS = (61, 67, 71)  # of each set; without a common divisor


class Media:
    """An open image file; block numbers count from its start, tables included."""

    def __init__(self, path: Path, model: Model) -> None:
        """Open the image, and make it when it is not there.

        Raises:
            OSError: It cannot be opened or grown.
        """
        self.block_bytes = model.block_bytes
        self.user_bytes = model.blocks * model.block_bytes
        self.mbr_start = self.user_bytes
        self.data_store_start = self.mbr_start + MBR_BYTES
        self._size_bytes = self.data_store_start + DATA_STORE_BYTES
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._file).st_size < self._size_bytes:
            os.ftruncate(self._file, self._size_bytes)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read(self, block: int, count: int, key: bytes | None) -> bytes:
        """Return blocks; without a key as they are in the file."""
        raw = os.pread(self._file, count * self.block_bytes, block * self.block_bytes)
        return raw if key is None else self._combine(raw, block, key, skip_zeros=True)

    def write(self, block: int, data: bytes, key: bytes | None) -> None:
        """Write whole blocks with one call of the system: a killed process leaves all or nothing."""
        raw = data if key is None else self._combine(data, block, key, skip_zeros=False)
        written = os.pwrite(self._file, raw, block * self.block_bytes)
        if written != len(raw):
            raise OSError(f"wrote {written} of {len(raw)} bytes")

    def read_bytes(self, start: int, length: int, key: bytes | None) -> bytes:
        """Return bytes of a table; `start` counts from the start of the file."""
        first, last = start // self.block_bytes, -(-(start + length) // self.block_bytes)
        data = self.read(first, last - first, key)
        skip = start - first * self.block_bytes
        return data[skip : skip + length]

    def write_bytes(self, start: int, data: bytes, key: bytes | None) -> None:
        """Write bytes of a table; `start` counts from the start of the file."""
        first, last = start // self.block_bytes, -(-(start + len(data)) // self.block_bytes)
        blocks = bytearray(self.read(first, last - first, key))
        skip = start - first * self.block_bytes
        blocks[skip : skip + len(data)] = data
        self.write(first, bytes(blocks), key)

    def zero(self, block: int, count: int) -> None:
        """Make blocks as if never written; holes of the file stay holes."""
        start, end = block * self.block_bytes, (block + count) * self.block_bytes
        for at in range(start, end, _PIECE_BYTES):
            piece = os.pread(self._file, min(_PIECE_BYTES, end - at), at)
            if piece != bytes(len(piece)):
                os.pwrite(self._file, bytes(len(piece)), at)

    def erase_tables(self) -> None:
        """Empty the MBR and DataStore tables: they lie at the end of the file."""
        os.ftruncate(self._file, self.user_bytes)
        os.ftruncate(self._file, self._size_bytes)

    def sync(self) -> None:
        """Bring what was written to the disk below."""
        os.fdatasync(self._file)

    def _combine(self, data: bytes, block: int, key: bytes, *, skip_zeros: bool) -> bytes:
        """Combine blocks with their keystream; it undoes itself."""
        start, at = block * self.block_bytes, 0
        pieces = []
        while at < len(data):
            unit, skip = divmod(start + at, _UNIT_BYTES)
            piece = data[at : at + _UNIT_BYTES - skip]
            stream = _keystream(key, unit) >> 8 * skip & (1 << 8 * len(piece)) - 1
            combined = (int.from_bytes(piece, "little") ^ stream).to_bytes(len(piece), "little")
            pieces.append(self._with_holes(piece, combined) if skip_zeros else combined)
            at += len(piece)
        return b"".join(pieces)

    def _with_holes(self, raw: bytes, combined: bytes) -> bytes:
        """Return `combined` with zeros for those blocks that are zeros in the file."""
        hole = bytes(self.block_bytes)
        if hole not in raw:
            return combined
        ends = range(self.block_bytes, len(raw) + 1, self.block_bytes)
        blocks = [slice(end - self.block_bytes, end) for end in ends]
        return b"".join(hole if raw[block] == hole else combined[block] for block in blocks)


def _keystream(key: bytes, unit: int) -> int:
    """Return the keystream of one unit of the image, counted from its start, as a number of `_UNIT_BYTES` bytes."""
    stream = 0
    for number, rows in enumerate(_ROWS):
        stream ^= _row(key, number, unit % rows)
    return stream


@functools.lru_cache(maxsize=4096)
def _row(key: bytes, number: int, row: int) -> int:
    return int.from_bytes(hashlib.shake_128(key + bytes([number, row])).digest(_UNIT_BYTES), "little")
