"""One at a time: locks that the kernel lets go of, however a process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from custody.errors import AlreadyRunning


@contextmanager
def alone(path: Path, what: str, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a file or folder for oneself.

    Args:
        path: a folder that exists, or a file, which is made; it stays.
        what: who else would hold it, for the error: "another build".
        waiting: wait for the other instead, having told so to this.

    Raises:
        AlreadyRunning: somebody else holds it.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if waiting is not None:
                waiting(f"waiting until {what} lets go of {path}")
                fcntl.flock(handle, fcntl.LOCK_EX)
            else:
                hint = "wait for it to end, then run this again"
                raise AlreadyRunning(f"{path}: {what} is at work", hint) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file that its holder may rename or remove; it is made when it is not there. Waits."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                break
        os.close(handle)  # it moved on while we waited
    try:
        yield
    finally:
        os.close(handle)
