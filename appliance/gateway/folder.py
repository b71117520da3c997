"""A policy folder as it is read, once: every file's bytes, and the version that stands for them.

Flat, small, and nothing in it that is not known by name: `NAME.cedar`, `guard.yml`, `settings.yml`, `cases.yml`. Links
are refused, but for `current` → DIGEST, which must hold what its name says. The version is what a shell makes of it
too: `cd FOLDER && sha256sum -- * | sha256sum`, with LC_ALL=C.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from custody.errors import PolicyRefused

#: Of the whole folder.
MAX_BYTES = 1 << 20
MAX_FILES = 64
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\.cedar|guard\.yml|settings\.yml|cases\.yml")
VERSION = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Content:
    """What a policy folder held when it was read.

    Attributes:
        files: bytes by name, sorted by name.
        version: lower-case hex.
    """

    name: str
    files: Mapping[str, bytes]
    version: str

    def text(self, name: str) -> str:
        """A file as text.

        Raises:
            PolicyRefused: not UTF-8.
        """
        try:
            return self.files[name].decode()
        except UnicodeDecodeError as error:
            raise PolicyRefused(f"{self.name}/{name}: not UTF-8 text: {error}", "save it as UTF-8") from error


def read_folder(folder: Path) -> Content:
    """Read a policy folder.

    Raises:
        PolicyRefused: missing, a link, too large, or with something in it that does not belong there.
    """
    target = _link(folder)
    try:
        handle = os.open(target or folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyRefused(f"{folder}: expected a folder, found: {error.strerror}", f"ls -la {folder}") from error
    try:
        files = _files(handle, folder)
    finally:
        os.close(handle)
    found = Content(str(folder), files, version_of(files))
    if target is not None and found.version != target.name:
        raise PolicyRefused(
            f"{folder}: holds version {found.version[:16]}, expected {target.name[:16]}: somebody changed it",
            "airgap policy apply FOLDER",
        )
    return found


def version_of(files: Mapping[str, bytes]) -> str:
    """What stands for these files."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _link(folder: Path) -> Path | None:
    """Where `current` leads; None for a plain folder."""
    try:
        if not stat.S_ISLNK(folder.lstat().st_mode):
            return None
        to = str(folder.readlink())
    except FileNotFoundError as error:
        if folder.name == "current":
            raise PolicyRefused(f"{folder}: no policies are in force", "airgap policy apply FOLDER") from error
        raise PolicyRefused(f"{folder}: not there", "name a policy folder") from error
    except OSError as error:
        raise PolicyRefused(f"{folder}: {error.strerror}", "name a policy folder") from error
    if folder.name != "current" or not VERSION.fullmatch(to):
        raise PolicyRefused(f"{folder}: expected a folder, found a link to {to}", "name the folder itself")
    return folder.with_name(to)


def _files(handle: int, folder: Path) -> dict[str, bytes]:
    names = sorted(os.listdir(handle))
    if len(names) > MAX_FILES:
        raise PolicyRefused(f"{folder}: {len(names)} files, at most {MAX_FILES} expected", "put policies together")
    files: dict[str, bytes] = {}
    for name in names:
        if not _NAME.fullmatch(name):
            raise PolicyRefused(
                f"{folder}/{name}: expected NAME.cedar, guard.yml, settings.yml or cases.yml", "take it out"
            )
        files[name] = _read(handle, folder / name, MAX_BYTES - sum(map(len, files.values())))
    if not any(name.endswith(".cedar") for name in files):
        raise PolicyRefused(f"{folder}: expected a file NAME.cedar, found none", "see airgap policy check --help")
    return files


def _read(handle: int, path: Path, room_bytes: int) -> bytes:
    try:
        # O_NONBLOCK: a named pipe is refused below, not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path.name, flags, dir_fd=handle), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PolicyRefused(f"{path}: expected a regular file", f"ls -la {path.parent}")
            data = stream.read(room_bytes + 1)
    except OSError as error:
        raise PolicyRefused(f"{path}: expected a regular file, found: {error.strerror}", "take it out") from error
    if len(data) > room_bytes:
        raise PolicyRefused(f"{path.parent}: more than {MAX_BYTES} bytes", "a policy folder is small")
    return data
