"""What a log asks of a disk, and the disk of this machine. Tests put another one in its place, which fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from custody.atomic import sync_folder, write_whole

_FILE_MODE, _FOLDER_MODE = 0o640, 0o750


class File(Protocol):
    """An open file; offsets and sizes in bytes."""

    def size_bytes(self) -> int:
        """Length."""

    def read(self, offset: int, count: int) -> bytes:
        """Bytes from an offset on, fewer at the end."""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes there; they are durable after `sync`."""

    def truncate(self, size_bytes: int) -> None:
        """Cut off the rest."""

    def sync(self) -> None:
        """Bring what was written to the disk."""

    def close(self) -> None:
        """Let go."""


class Disk(Protocol):
    """Files by path."""

    def open(self, path: Path, *, write: bool = False) -> File:
        """A file; made durably, with its folder, when it is written and not there."""

    def exists(self, path: Path) -> bool:
        """Whether a file or folder is there."""

    def names(self, folder: Path) -> list[str]:
        """What a folder holds, sorted; nothing if it is not there. What `replace` had not finished is passed over."""

    def replace(self, path: Path, data: bytes) -> None:
        """Write a file durably: the old one or the new one is there, never half."""

    def remove(self, path: Path) -> None:
        """Take a file away durably; one that is not there stays so."""


class _OpenFile:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def size_bytes(self) -> int:
        return os.fstat(self._handle).st_size

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self._handle, count, offset)

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._handle, view, offset)
            view, offset = view[done:], offset + done

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._handle, size_bytes)

    def sync(self) -> None:
        os.fdatasync(self._handle)  # with the length, without the times

    def close(self) -> None:
        os.close(self._handle)


class RealDisk:
    """This machine's file systems."""

    def open(self, path: Path, *, write: bool = False) -> File:
        """A file; made durably, with its folder, when it is written and not there."""
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        if not write:
            return _OpenFile(os.open(path, os.O_RDONLY | flags))
        if not path.exists():
            if not path.parent.exists():
                path.parent.mkdir(mode=_FOLDER_MODE, parents=True)
                sync_folder(path.parent.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | flags, _FILE_MODE))
            sync_folder(path.parent)
        return _OpenFile(os.open(path, os.O_RDWR | flags))

    def exists(self, path: Path) -> bool:
        """Whether a file or folder is there."""
        return path.exists()

    def names(self, folder: Path) -> list[str]:
        """What a folder holds, sorted; nothing if it is not there. What `replace` had not finished is passed over."""
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(entry.name for entry in found if not (entry.name[0] == "." and entry.name.endswith(".part")))

    def replace(self, path: Path, data: bytes) -> None:
        """Write a file durably: the old one or the new one is there, never half."""
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        write_whole(path, data, mode=_FILE_MODE)

    def remove(self, path: Path) -> None:
        """Take a file away durably; one that is not there stays so."""
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def read_all(disk: Disk, path: Path) -> bytes:
    """A whole file."""
    file = disk.open(path)
    try:
        return file.read(0, file.size_bytes())
    finally:
        file.close()
