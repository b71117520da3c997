"""Secrets at the command line: from a prompt, or from a file that nobody else may read."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from custody.errors import SecretRefused

#: Longer than any passphrase; a wrong file is noticed.
_MAX_BYTES = 1024


def passphrase_option(name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that names a file with a secret."""
    return click.option(
        name,
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"File (mode 0600) with {what}, instead of a prompt. '-' reads standard input.",
    )


def read_secret(file: Path | None, prompt: str, *, twice: bool = False) -> bytes:
    """A secret's bytes, without the last newline.

    Raises:
        SecretRefused: the file is missing, readable by others, a link, empty or too long.
    """
    if file is None:
        text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
        return text.encode()
    data = sys.stdin.buffer.read(_MAX_BYTES + 2) if str(file) == "-" else _read(file)
    data = data.removesuffix(b"\n")
    if not data or len(data) > _MAX_BYTES or b"\n" in data:
        raise SecretRefused(f"{file}: expected one line of 1 to {_MAX_BYTES} bytes", "check the file")
    return data


def _read(file: Path) -> bytes:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SecretRefused(f"{file}: {error.strerror}", "check the path") from error
    with os.fdopen(handle, "rb") as stream:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o077 or info.st_uid not in (0, os.geteuid()):
            raise SecretRefused(
                f"{file}: expected a regular file of yours with mode 0600, found mode {stat.S_IMODE(info.st_mode):04o}",
                f"chmod 600 {file}",
            )
        return stream.read(_MAX_BYTES + 2)
