"""Burn a verified bundle to a medium, and read all of it back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle.read import FolderSource
from bundler.media import volume
from bundler.media.device import Device, partition
from bundler.media.kit import FOLDER
from bundler.media.readback import compare_start, read_back
from bundler.media.start import StartPartition, start_partition
from custody._run import run
from custody.errors import SpaceShort
from custody.report import Meter, Reporter
from custody.trust.verify import VerifiedBundle

#: ext4's own tables, and blocks that small files waste.
_FILE_SYSTEM_SHARE = 0.03
_BYTES_A_FILE = 8192


@dataclass(frozen=True)
class Burned:
    """What the operator writes down.

    Attributes:
        version: lowest one that a host without a memory may install with this medium's paper.
        start: algorithm and digest of `start`, for the paper that travels apart.
        fingerprint: of the root, for the same paper.
    """

    bundle: str
    version: int
    start: tuple[str, str]
    fingerprint: str
    size_bytes: int


def needed_bytes(bundle: VerifiedBundle) -> int:
    """The smallest medium that holds a bundle."""
    entries = bundle.entries()
    payload = sum(entry.size_bytes for entry in entries) + len(entries) * _BYTES_A_FILE
    return start_partition(bundle).size_bytes + int(payload * (1 + _FILE_SYSTEM_SHARE)) + volume.OVERHEAD_BYTES


def check_size(bundle: VerifiedBundle, device: Device) -> None:
    """Refuse a medium that is too small.

    Raises:
        SpaceShort: with both sizes.
    """
    needed = needed_bytes(bundle)
    if device.size_bytes < needed:
        raise SpaceShort(
            f"{device.path}: expected at least {needed / 1e9:.2f} GB, found {device.size_bytes / 1e9:.2f} GB",
            "use a larger medium",
        )


def burn(
    bundle: VerifiedBundle, folder: Path, device: Device, passphrase: bytes, pinned: str, reporter: Reporter
) -> Burned:
    """Overwrite a device with a medium; inside `volume.at_work`.

    Args:
        bundle: what is written; only leaf-checked bytes leave this machine.
        folder: where the bundle lies, for its carrier.
        passphrase: opens the encrypted partition.
        pinned: fingerprint of the root, used again for the read-back.

    Raises:
        SpaceShort: the device is too small.
        DigestMismatch: the read-back differs.
    """
    check_size(bundle, device)
    start = start_partition(bundle)
    reporter.step("partition and encrypt")
    volume.partition_disk(device.path, start.size_bytes)
    first, second = partition(device.path, volume.START_LABEL), partition(device.path, volume.SEALED_LABEL)
    volume.make_ext4(first, volume.START_LABEL)
    with volume.mounted(first, readonly=False) as place:
        _write_start(bundle, start, place)
    volume.format_luks(second, passphrase)
    with volume.opened_luks(second, passphrase, readonly=False) as plain:
        volume.make_ext4(plain, volume.SEALED_LABEL)
        with volume.mounted(plain, readonly=False) as place:
            reporter.step("write")
            size = _write_bundle(bundle, folder, place, reporter)
    reporter.step("read back")
    _forget(device.path)
    with volume.mounted(first, readonly=True) as place:
        compare_start(start, place)
    with (
        volume.opened_luks(second, passphrase, readonly=True) as plain,
        volume.mounted(plain, readonly=True) as place,
    ):
        read_back(bundle, FolderSource(place), pinned, reporter)
    identity = bundle.statement.predicate.bundle
    return Burned(
        identity.id, identity.version, (start.algorithm, start.script_digest), bundle.trust.root.fingerprint, size
    )


def _forget(disk: Path) -> None:
    """Make the kernel forget what it wrote, so that the read-back reads the medium."""
    run(["sync"])
    run(["blockdev", "--flushbufs", disk])
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _write_start(bundle: VerifiedBundle, start: StartPartition, place: Path) -> None:
    _write(place / "start", iter((start.script,)), 0o755, None)
    (place / "bootstrap").mkdir()
    _write(place / "bootstrap" / bundle.statement.sums_name, iter((start.sums,)), 0o644, None)
    for name, entry in start.debs.items():
        _write(place / "bootstrap" / name, bundle.chunks(entry), 0o644, None)
    for name, data in start.kit.items():
        _write(place / FOLDER / name, iter((data,)), 0o644, None)


def _write_bundle(bundle: VerifiedBundle, folder: Path, place: Path, reporter: Reporter) -> int:
    entries = bundle.entries()
    total = sum(entry.size_bytes for entry in entries)
    with reporter.meter("write", total) as meter:
        for entry in entries:
            _write(place / "sealed" / entry.path, bundle.chunks(entry), int(entry.mode, 8), meter)
    name = bundle.statement.sums_name
    with bundle.source.open(name) as stream:
        _write(place / "sealed" / name, iter((stream.read(),)), 0o644, None)
    for path in sorted((folder / "carrier").rglob("*")):
        if path.is_file():
            _write(place / path.relative_to(folder), iter((path.read_bytes(),)), 0o644, None)
    os.sync()
    return total


def _write(path: Path, chunks: Iterator[bytes], mode: int, meter: Meter | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
            if meter:
                meter.advance(len(chunk))
    path.chmod(mode)
