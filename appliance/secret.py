"""Read a secret from a file that nobody but its owner can read. Never prints it, never puts it into an error."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from custody.errors import SecretRefused

#: More than any passphrase, key or certificate chain here.
MAX_BYTES = 64 << 10


def read_secret(path: Path) -> str:
    """Return the text of a secret file without its last line end.

    Raises:
        SecretRefused: missing, not a regular file, not owned by root or the caller, readable by others, empty, too
            large or not UTF-8.
    """
    try:
        # O_NONBLOCK: a named pipe is refused below, not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretRefused(f"{path}: {error.strerror}", "check the path; links are not followed") from error
    try:
        _check(path, os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise SecretRefused(f"{path}: expected at most {MAX_BYTES} bytes, found more", "is this the right file?")
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise SecretRefused(f"{path}: not UTF-8 text", "is this the right file?") from error
    if not text:
        raise SecretRefused(f"{path}: empty", "is this the right file?")
    return text


def _check(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise SecretRefused(f"{path}: expected a regular file", f"ls -la {path}")
    if found.st_uid not in {0, os.geteuid()}:
        raise SecretRefused(f"{path}: expected root as owner, found uid {found.st_uid}", f"chown root {path}")
    if mode & 0o077:
        raise SecretRefused(f"{path}: expected mode 0600, found {mode:04o}", f"chmod 0600 {path}")
