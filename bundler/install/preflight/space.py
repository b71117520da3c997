"""Room on every file system that an installation writes to, from the sizes that were signed.

Paths on one file system are added up. The data disk's size is `disk.py`'s business until it is mounted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bundler.install import paths
from bundler.install.preflight.finding import Case, Finding, gigabytes
from bundler.install.preflight.system import host_packages

#: A release, its predecessor and some room; see the table of paths.
RELEASE_SHARE = 2.2
#: What a package takes unpacked, and while it is unpacked; 3.1 for the demonstration's 217 packages.
_UNPACKED_SHARE = 4
#: Indexes as apt keeps them: uncompressed (5.8 times, Debian 13's main), and as much again in its two caches.
_INDEX_SHARE = 12
#: Logs and the configuration put aside; what dkms builds, and two initial RAM disks, are estimates *(not seen)*.
_VAR_BYTES, _DKMS_BYTES, _BOOT_BYTES = 128 << 20, 1 << 30, 256 << 20
_RUN_BYTES, _TMP_BYTES = 16 << 20, 64 << 20


def check_space(case: Case) -> Iterator[Finding]:
    """Each file system has room for all that goes to it."""
    systems: dict[int, list[tuple[str, int]]] = {}
    for path, needed in _needs(case):
        systems.setdefault(_existing(case.at(path)).stat().st_dev, []).append((path, needed))
    for needs in systems.values():
        needed, free = sum(size for _, size in needs), shutil.disk_usage(_existing(case.at(needs[0][0]))).free
        if free < needed:
            parts = ", ".join(f"{path} {gigabytes(size)}" for path, size in needs if size)
            yield Finding(
                f"space for {', '.join(path for path, size in needs if size)}",
                f"{gigabytes(needed)} free ({parts})",
                gigabytes(free),
                f"free some; releases no longer needed lie below {paths.RELEASES}",
            )


def models_bytes(case: Case) -> int:
    """Size of the bundle's models."""
    return sum(e.size_bytes for e in case.statement.predicate.files if e.path.startswith("data/models/"))


def _needs(case: Case) -> Iterator[tuple[str, int]]:
    files, lock = case.statement.predicate.files, case.lock
    payload = sum(e.size_bytes for e in files if not e.path.startswith(("data/models/", "leaves/models/")))
    there = host_packages(case)
    debs = [d for d in lock.debs if "appliance" in d.uses and there.get(d.package) != d.version]
    driver = lock.gpu is not None
    indexes = sum(index.size_bytes for index in lock.indexes)
    yield str(paths.RELEASES), max(0, int(payload * RELEASE_SHARE) - _used(case.release))
    yield "/usr", sum(deb.size_bytes for deb in debs) * _UNPACKED_SHARE
    yield "/var", _VAR_BYTES + (indexes * _INDEX_SHARE if debs else 0) + (_DKMS_BYTES if driver and debs else 0)
    yield "/boot", _BOOT_BYTES if driver and debs else 0
    yield "/run", _RUN_BYTES
    yield "/tmp", _TMP_BYTES  # noqa: S108 the folder itself is meant
    if os.path.ismount(case.at(paths.DATA)):
        models = int(models_bytes(case) * RELEASE_SHARE)
        yield str(paths.MODELS), max(0, models - _used(case.at(paths.MODELS)))


def _used(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
