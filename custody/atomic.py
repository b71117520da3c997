"""Files that are there whole, the old one or the new one, and never half."""

from __future__ import annotations

import os
from pathlib import Path

from custody.errors import TargetRefused


def write_whole(path: Path, data: bytes, *, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file so that a crash leaves the old one or the new one.

    Args:
        mode: of the file; until it is whole, nobody but its writer can read it.
        owner: user and group id; None: whoever writes it.

    Raises:
        OSError: nothing changed.
    """
    # One name: what a killed run left is written over by the next.
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(data)
            stream.flush()
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def new_folder(path: Path) -> None:
    """Make a folder that was not there, with those above it.

    Raises:
        TargetRefused: something is there.
    """
    if path.exists():
        raise TargetRefused(f"{path}: exists already", "name a new folder")
    path.mkdir(parents=True)


def remove(path: Path) -> None:
    """Remove a file if it is there; when this returns, a power cut does not bring it back."""
    if path.exists():
        path.unlink()
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk: a rename is not there for good before."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
