"""Plain files of the site, from a local path or over HTTPS."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bundler.collect.cache import Cache
from bundler.collect.interface import Item, Workplace
from bundler.manifest.lock import Lock, LockedFile
from bundler.manifest.models import Manifest
from custody.errors import InputInvalid


def locate(source: str, folder: Path, name: str) -> str:
    """An HTTPS URL as it is, a path made absolute against the manifest's folder.

    Raises:
        InputInvalid: another scheme than https.
    """
    if "://" not in source:
        return str((folder / source).resolve())
    if not source.startswith("https://"):
        raise InputInvalid(f"{name}: source {source}: expected https:// or a path", "pin it by sha256 and use https")
    return source


def lock_files(manifest: Manifest, folder: Path, cache: Cache) -> tuple[LockedFile, ...]:
    """Resolve the manifest's files: each is brought into the cache and compared with its pinned digest."""
    locked = []
    for item in manifest.files:
        path = cache.obtain(locate(item.source, folder, item.name), item.sha256, f"file {item.name}")
        locked.append(
            LockedFile(
                name=item.name,
                origin=locate(item.source, folder, item.name),
                size_bytes=path.stat().st_size,
                sha256=item.sha256,
            )
        )
    return tuple(sorted(locked, key=lambda f: f.name))


class FileCollector:
    """Files below `data/files/`."""

    name = "file"

    def items(self, lock: Lock, workplace: Workplace) -> Iterable[Item]:
        """See `Collector.items`."""
        for file in lock.files:
            yield Item(f"file {file.name}", file.origin, f"data/files/{file.name}", file.size_bytes, file.sha256)

    def assemble(self, lock: Lock, workplace: Workplace) -> None:
        """Nothing is made here."""
