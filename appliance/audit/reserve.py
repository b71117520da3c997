"""Room on the disk that is kept free for the ends of requests that have begun.

When the disk is full, nothing more is admitted. What was admitted before still ends, in the room that the reserve
gives back; until it is held again, nothing is admitted either.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

#: The ends of 30,000 requests.
SIZE_BYTES = 16 << 20
NAME = "reserve"
#: Seconds until a disk that was full is asked again.
_AGAIN_S = 1.0


class Reserve:
    """A file of a log's folder that holds nothing but room."""

    def __init__(self, folder: Path, size_bytes: int = SIZE_BYTES) -> None:
        self._file, self._size_bytes = folder / NAME, size_bytes
        self._is_held, self._not_before_s, self._lock = False, 0.0, threading.Lock()

    def hold(self) -> bool:
        """Take the room, if it is there and is not held; says whether it is."""
        with self._lock:
            if not self._is_held and time.monotonic() >= self._not_before_s:
                self._not_before_s = time.monotonic() + _AGAIN_S
                try:
                    self._allocate()
                    self._is_held = True
                except OSError:
                    self._file.unlink(missing_ok=True)
            return self._is_held

    def give_back(self) -> None:
        """Let the log have the room."""
        with self._lock:
            self._file.unlink(missing_ok=True)
            self._is_held = False

    def _allocate(self) -> None:
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._size_bytes)
        finally:
            os.close(handle)
