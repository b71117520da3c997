"""Secrets come from a prompt, from standard input, or from a file that nobody but its owner can read.

Never prints one, never puts one into an error.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from custody.errors import SecretRefused

#: More than any passphrase, key or certificate chain here.
MAX_BYTES = 64 << 10
_STDIN = Path("-")


def passphrase_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--passphrase-file`, for `ask_passphrase`."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"File (mode 0600) with {what}, instead of a prompt. '-' reads standard input.",
    )


def ask_passphrase(file: Path | None, prompt: str, *, twice: bool = False) -> str:
    """A passphrase of one line: from the file, else from the terminal, else from standard input.

    Args:
        file: `-` is standard input.
        twice: ask a second time at a terminal.

    Raises:
        SecretRefused: as `read_secret`, or of several lines.
    """
    if file is None and sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))
    source = file or _STDIN
    text = _decode("standard input", sys.stdin.buffer.read(MAX_BYTES + 1)) if source == _STDIN else read_secret(source)
    if "\n" in text:
        raise SecretRefused(f"{source}: expected one line, found several", "is this the right file?")
    return text


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
    return _decode(str(path), data)


def _decode(name: str, data: bytes) -> str:
    hint = "is this the right file?"
    if len(data) > MAX_BYTES:
        raise SecretRefused(f"{name}: expected at most {MAX_BYTES} bytes, found more", hint)
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise SecretRefused(f"{name}: not UTF-8 text", hint) from error
    if not text:
        raise SecretRefused(f"{name}: empty", hint)
    return text


def _check(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise SecretRefused(f"{path}: expected a regular file", f"ls -la {path}")
    if found.st_uid not in {0, os.geteuid()}:
        raise SecretRefused(f"{path}: expected root as owner, found uid {found.st_uid}", f"chown root {path}")
    if mode & 0o077:
        raise SecretRefused(f"{path}: expected mode 0600, found mode {mode:04o}", f"chmod 0600 {path}")
