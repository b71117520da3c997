"""Find the one disk with a serial number and say what is on it.

Refuses, each with the device, its serial, what was expected and what was found: no such disk or several, a disk that
holds part of the running system or is mounted, one that is in use by something else, and one with content that is
not ours. A disk is blank when it can be read and low-level probing (libblkid) finds no signature on it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.drive.luks import LABEL, Header, Luks
from appliance.drive.sed import LOCKED
from custody._run import run
from custody.errors import DriveFailed, TargetRefused

#: Where signatures lie, the second LUKS2 header included; libblkid calls a disk blank that it cannot read.
_SIGNATURES_BYTES = 4 << 20
_COLUMNS = "NAME,PATH,TYPE,SERIAL,MODEL,SIZE,RO,MOUNTPOINTS"


@dataclass(frozen=True)
class Disk:
    """A whole disk; `inside` are the block devices on it at any depth, as (path, type, mount points)."""

    path: Path
    serial: str
    model: str
    size_bytes: int
    read_only: bool
    inside: tuple[tuple[str, str, tuple[str, ...]], ...]

    def __str__(self) -> str:
        return f"{self.path} (serial {self.serial}, {self.model or 'no model'}, {self.size_bytes / 1e9:.1f} GB)"


def find(serial: str) -> Disk:
    """Return the disk with this serial number.

    Raises:
        TargetRefused: there is none, or more than one.
    """
    disks = listing()
    found = [disk for disk in disks if disk.serial == serial]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{disk.path} {disk.serial or '(no serial)'}" for disk in disks) or "no disk at all"
    problem = "none" if not found else " and ".join(str(disk.path) for disk in found)
    raise TargetRefused(
        f"disk with serial {serial}: expected exactly one, found {problem}; disks here: {there}",
        "lsblk -o PATH,SERIAL,MODEL,SIZE, then correct the data disk's serial in site.yml",
    )


def _disk(entry: dict[str, Any]) -> Disk:
    return Disk(
        path=Path(entry["path"]),
        serial=(entry["serial"] or "").strip(),
        model=(entry["model"] or "").strip(),
        size_bytes=int(entry["size"]),
        read_only=bool(entry["ro"]),
        inside=tuple(_inside(entry, top=True)),
    )


def _inside(entry: dict[str, Any], top: bool) -> list[tuple[str, str, tuple[str, ...]]]:
    mounted = tuple(point for point in entry.get("mountpoints") or () if point)
    own = [(str(entry["path"]), str(entry["type"]), mounted)] if mounted or not top else []
    return own + [found for child in entry.get("children") or () for found in _inside(child, top=False)]


def listing() -> list[Disk]:
    """Every whole disk, in lsblk's order."""
    found = json.loads(run(["lsblk", "--json", "--bytes", "--output", _COLUMNS]).text)
    return [_disk(entry) for entry in found["blockdevices"] if entry["type"] == "disk"]


def refuse_used(disk: Disk, mapper: str) -> None:
    """Refuse a disk that something other than the opened volume uses, or that cannot be written.

    Raises:
        TargetRefused: mounted, partitioned, part of something else, or write-protected.
    """
    ours = f"/dev/mapper/{mapper}"
    used = [(path, mounted) for path, _kind, mounted in disk.inside if path != ours]
    mounts = [point for _path, mounted in used for point in mounted]
    if mounts:
        raise _refused(disk, f"mounted at {', '.join(mounts)}", f"lsblk {disk.path}")
    if used:
        raise _refused(disk, f"partitions or volumes {', '.join(path for path, _ in used)}", f"lsblk {disk.path}")
    if disk.read_only:
        raise _refused(disk, "a write-protected disk", f"blockdev --getro {disk.path}")


def judge(disk: Disk, mapper: str) -> Header | None:
    """Say whether the disk is our volume, and what its header is; None is a blank one.

    Raises:
        TargetRefused: it is neither, or something else uses it.
        IntegrityFailure: it carries our label, and a header that we do not write.
    """
    refuse_used(disk, mapper)
    found = probe(disk.path)
    if not found:
        return None
    if found.get("TYPE") != "crypto_LUKS" or found.get("VERSION") != "2" or found.get("LABEL") != LABEL:
        told = ", ".join(f"{key} {found[key]}" for key in ("TYPE", "VERSION", "LABEL", "PTTYPE") if key in found)
        hint = f"look at it with: blkid --probe {disk.path}; if nothing on it is needed: wipefs --all {disk.path}"
        raise _refused(disk, f"content ({told or 'of several kinds'})", hint)
    return Luks(disk.path).header()


def probe(device: Path) -> dict[str, str]:
    """What libblkid finds on a device, as blkid(8) names it; empty when blank, or locked throughout.

    Raises:
        DriveFailed: it cannot be read.
    """
    done = run(["blkid", "--probe", "--output", "export", device], ok=(0, 2, 8))
    if done.returncode == 8:  # more than one signature
        return {"TYPE": "ambiguous"}
    if done.returncode == 2:  # nothing found, or nothing read
        require_readable(device)
    return dict(line.split("=", 1) for line in done.text.splitlines() if "=" in line)


def require_readable(device: Path) -> None:
    """Read where signatures lie.

    Raises:
        DriveFailed: that fails, for another reason than that the drive is locked.
    """
    try:
        handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            at = 0
            while at < _SIGNATURES_BYTES and (data := os.pread(handle, 1 << 20, at)):
                at += len(data)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in LOCKED:
            raise DriveFailed(
                f"{device}: expected a disk that can be read, found: {error.strerror}",
                "dmesg | tail; then power the drive off and on and run the same command again",
            ) from error


def _refused(disk: Disk, found: str, hint: str) -> TargetRefused:
    return TargetRefused(f"{disk}: expected a blank disk or this host's data volume, found {found}", hint)
