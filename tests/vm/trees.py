"""File trees of guests: unpack, add to, run commands in, make an ext4 disk of.

Needs root (owners and device nodes are kept) and no loop device. Chroot commands run in namespaces of their own,
without a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_TAR = ("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner")


@contextlib.contextmanager
def unpacked(tar: Path) -> Iterator[Path]:
    """Unpack a tar file into a folder beside it that lives as long as the context."""
    umask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(dir=tar.parent, prefix="tree-") as folder:
            tree = Path(folder) / "root"
            tree.mkdir()
            unpack(tar, tree)
            yield tree
    finally:
        os.umask(umask)


def unpack(tar: Path, tree: Path) -> None:
    """Unpack a tar file into an empty folder."""
    run(*_TAR, "-C", str(tree), "-xpf", str(tar))


def pack(tree: Path, tar: Path) -> None:
    """Write a tree to a tar file."""
    run(*_TAR, "-C", str(tree), "-cf", str(tar), ".")


def chroot(tree: Path, command: str) -> str:
    """Run a shell command line in a tree, in mount, process and network namespaces of its own; return stdout.

    Raises:
        RuntimeError: When it fails, with the end of its stderr.
    """
    script = (
        'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/tmp" || exit 125; '
        'exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh -ec "$2"'
    )
    unshare = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
    return run(*unshare, "sh", "-c", script, "sh", str(tree), command)


def copy_in(tree: Path, target: str, source: bytes | Path) -> None:
    """Put bytes (mode 0644), a file or a folder at an absolute path of the tree.

    Raises:
        ValueError: When a link of the tree leads out of it.
    """
    path = tree / target.lstrip("/")
    if not path.parent.resolve().is_relative_to(tree.resolve()):
        raise ValueError(f"{target} leads out of the tree")
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        path.unlink(missing_ok=True)
        path.write_bytes(source)
    elif source.is_dir():
        shutil.copytree(source, path, symlinks=True, dirs_exist_ok=True)
    else:
        path.unlink(missing_ok=True)
        shutil.copy2(source, path)


def digest_source(update: Callable[[bytes], None], source: bytes | Path) -> None:
    """Feed bytes, a file, or every name, mode and file of a folder to a digest."""
    if isinstance(source, bytes):
        update(source)
        return
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        update(f"\0{path.relative_to(source)}\0{path.lstat().st_mode:o}\0".encode())
        if path.is_symlink():
            update(str(path.readlink()).encode())
        elif path.is_file():
            with path.open("rb") as stream:
                update(hashlib.file_digest(stream, "sha256").digest())


def make_disk(tree: Path, disk: Path, size_gib: int, uuid: str) -> None:
    """Write a sparse raw disk that is one ext4 file system holding the tree."""
    partial = disk.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    # Nothing is left for the guest's kernel to initialise in the background.
    extended = "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"
    options = ("-q", "-F", "-t", "ext4", "-m", "1", "-U", uuid, "-E", extended, "-d", str(tree))
    run("mke2fs", *options, str(partial), f"{size_gib}G")
    partial.rename(disk)


def run(*arguments: str, stdin: str = "") -> str:
    """Run a program to its end and return its stdout.

    Raises:
        RuntimeError: When it fails, with the end of its stderr.
    """
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout
