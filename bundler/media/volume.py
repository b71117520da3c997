"""Partitions and file systems of a medium: made, opened, mounted, and always closed again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custody._run import run

START_LABEL = "airgap-start"
SEALED_LABEL = "airgap-sealed"
MAPPER_NAME = "airgap-burn"
#: `start` refuses headers that want more, so that a hostile header cannot exhaust a host.
PBKDF_MEMORY_KIB = 256 << 10
_CIPHER = "aes-xts-plain64"
#: GPT, alignment and the LUKS2 header (16 MiB) beside the two file systems.
OVERHEAD_BYTES = 32 << 20


def partition_disk(disk: Path, start_bytes: int) -> None:
    """Write a GPT with the two partitions; everything on the disk is lost."""
    run(["wipefs", "--all", "--force", "--quiet", disk])
    start_mib = -(-start_bytes // (1 << 20))
    table = (
        "label: gpt\n"
        f'start=1MiB, size={start_mib}MiB, type=linux, name="{START_LABEL}"\n'
        f'type=linux, name="{SEALED_LABEL}"\n'
    )
    run(["sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", disk], stdin=table.encode())
    run(["udevadm", "settle", "--timeout=30"], ok=(0, 1))


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
    close_stale()
    flags = ["--readonly"] if readonly else []
    run(["cryptsetup", "open", "--type", "luks2", *flags, "--key-file", "-", partition, MAPPER_NAME], stdin=passphrase)
    try:
        yield Path("/dev/mapper") / MAPPER_NAME
    finally:
        run(["udevadm", "settle", "--timeout=30"], ok=(0, 1))
        run(["cryptsetup", "close", MAPPER_NAME])


def close_stale() -> None:
    """Close what an interrupted burn left open."""
    if (Path("/dev/mapper") / MAPPER_NAME).exists():
        run(["umount", "--all-targets", f"/dev/mapper/{MAPPER_NAME}"], ok=(0, 1, 32))
        run(["cryptsetup", "close", MAPPER_NAME])


def make_ext4(device: Path, label: str) -> None:
    """An ext4 file system without a journal: it is written once."""
    run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-L", label, device])


@contextmanager
def mounted(device: Path, *, readonly: bool) -> Iterator[Path]:
    """Mount a file system on a private folder; yields the folder, and unmounts it whatever happens."""
    with tempfile.TemporaryDirectory(prefix="airgap-medium-", dir="/run") as folder:
        options = "nosuid,nodev,noexec," + ("ro" if readonly else "rw")
        run(["mount", "-t", "ext4", "-o", options, device, folder])
        try:
            yield Path(folder)
        finally:
            run(["umount", folder])


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """An image file as a disk with partitions."""
    disk = run(["losetup", "--find", "--show", "--partscan", image]).text
    try:
        yield Path(disk)
    finally:
        run(["losetup", "--detach", disk])
