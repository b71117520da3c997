"""Partitions and file systems of a medium: made, opened, mounted, and always closed again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custody._run import run
from custody.errors import TargetRefused
from custody.lock import alone

START_LABEL = "airgap-start"
SEALED_LABEL = "airgap-sealed"
MAPPER_NAME = "airgap-burn"
_MAPPER = Path("/dev/mapper") / MAPPER_NAME
_MOUNT = Path("/run/airgap-burn")
#: `start` refuses headers that want more, so that a hostile header cannot exhaust a host.
PBKDF_MEMORY_KIB = 256 << 10
_CIPHER = "aes-xts-plain64"
#: GPT, alignment and the LUKS2 header (16 MiB) beside the two file systems.
OVERHEAD_BYTES = 32 << 20
_PATIENCE_S = 60


@contextmanager
def at_work() -> Iterator[None]:
    """One burn at a time on this machine; what a killed one left mounted or open is closed first.

    Raises:
        AlreadyRunning: somebody else burns.
    """
    _MOUNT.mkdir(mode=0o700, exist_ok=True)
    with alone(_MOUNT.with_suffix(".lock"), "another airgap burn"):
        _close_leftovers()
        yield


def partition_disk(disk: Path, start_bytes: int) -> None:
    """Write a GPT with the two partitions; everything on the disk is lost.

    Raises:
        TargetRefused: another program uses the disk.
    """
    wait_until_free(disk)
    run(["wipefs", "--all", "--force", "--quiet", disk])
    start_mib = -(-start_bytes // (1 << 20))
    table = (
        "label: gpt\n"
        f'start=1MiB, size={start_mib}MiB, type=linux, name="{START_LABEL}"\n'
        f'type=linux, name="{SEALED_LABEL}"\n'
    )
    run(["sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", disk], stdin=table.encode())
    run(["udevadm", "settle", "--timeout=30"], ok=(0, 1))


def _close_leftovers() -> None:
    while _MOUNT.is_mount():
        run(["umount", _MOUNT])
    if _MAPPER.exists():
        run(["cryptsetup", "close", MAPPER_NAME])


def wait_until_free(disk: Path) -> None:
    """Wait for what a killed burn had begun: a program outlives it for a while, and may still open something.

    Raises:
        TargetRefused: another program uses the disk.
    """
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        _close_leftovers()
        try:
            os.close(os.open(disk, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > until_s:
                raise TargetRefused(f"{disk}: expected that nobody uses it, found it in use", "lsof, lsblk") from error
        time.sleep(0.2)


def format_luks(partition: Path, passphrase: bytes) -> None:
    """LUKS2 as `start`'s allow-list wants it."""
    run(
        ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--cipher", _CIPHER, "--key-size", "512",
         "--hash", "sha256", "--pbkdf", "argon2id", "--pbkdf-memory", str(PBKDF_MEMORY_KIB),
         "--label", SEALED_LABEL, "--key-file", "-", partition],
        stdin=passphrase,
    )  # fmt: skip


@contextmanager
def opened_luks(partition: Path, passphrase: bytes, *, readonly: bool) -> Iterator[Path]:
    """Open the encrypted partition; yields the plain device, and closes it whatever happens."""
    flags = ["--readonly"] if readonly else []
    run(["cryptsetup", "open", "--type", "luks2", *flags, "--key-file", "-", partition, MAPPER_NAME], stdin=passphrase)
    try:
        yield _MAPPER
    finally:
        run(["udevadm", "settle", "--timeout=30"], ok=(0, 1))
        run(["cryptsetup", "close", MAPPER_NAME])


def make_ext4(device: Path, label: str) -> None:
    """An ext4 file system without a journal: it is written once."""
    run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-L", label, device])


@contextmanager
def mounted(device: Path, *, readonly: bool) -> Iterator[Path]:
    """Mount a file system, one at a time; yields the folder, and unmounts it whatever happens."""
    options = "nosuid,nodev,noexec," + ("ro" if readonly else "rw")
    run(["mount", "-t", "ext4", "-o", options, device, _MOUNT])
    try:
        yield _MOUNT
    finally:
        run(["umount", _MOUNT])


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """An image file as a disk with partitions; what a killed run left attached is detached first."""
    for stale in run(["losetup", "--associated", image, "--noheadings", "--list", "--output", "NAME"]).text.split():
        run(["losetup", "--detach", stale])
    disk = run(["losetup", "--find", "--show", "--partscan", image]).text
    try:
        yield Path(disk)
    finally:
        run(["losetup", "--detach", disk])
