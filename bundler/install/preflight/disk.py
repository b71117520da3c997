"""The data disk: there once, blank or ours, nobody else's, and large enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.install import paths
from bundler.install.preflight.finding import Case, Finding, gigabytes
from bundler.install.preflight.space import RELEASE_SHARE, models_bytes
from custody._run import run

#: The LUKS2 header and what ext4 needs for itself.
_HEADER_BYTES = 64 << 20
_MEMBERS = ("linux_raid_member", "LVM2_member", "zfs_member", "ceph_bluestore", "bcache", "btrfs")
_COMPARE = "compare with: lsblk -o PATH,SIZE,MODEL,SERIAL"


def check_disk(case: Case) -> Iterator[Finding]:
    """The disk that the site file names by its serial."""
    serial = case.site.storage.data_disk_serial
    what = f"data disk {serial}"
    elsewhere: list[str | Path] = ["--sysroot", case.root] if str(case.root) != "/" else []
    columns = "PATH,TYPE,SIZE,RO,SERIAL,FSTYPE,LABEL,MOUNTPOINTS"
    devices = json.loads(run(["lsblk", *elsewhere, "--json", "--bytes", "--tree", "--output", columns]).stdout)
    disks = [d for d in devices["blockdevices"] if d["type"] == "disk"]
    named = [d for d in disks if (d["serial"] or "").strip() == serial]
    if len(named) != 1:
        there = ", ".join(f"{d['path']} {d['serial'] or '(no serial)'}" for d in disks) or "no disk"
        yield Finding(what, "exactly one disk", f"{len(named)} of: {there}", _COMPARE)
        return
    disk = named[0]
    parts = list(_parts(disk))
    mounts = [m for part in parts for m in part["mountpoints"] if m and not m.startswith(str(paths.DATA))]
    members = sorted({str(part["fstype"]) for part in parts if part["fstype"] in _MEMBERS})
    ours = disk["fstype"] == "crypto_LUKS" and disk["label"] == "airgap-data"
    blank = "blank, or our own volume"
    if mounts:
        used = "the system's disk" if "/" in mounts else "in use"
        yield Finding(what, blank, f"{disk['path']}: {used}, mounted at {', '.join(mounts)}", _COMPARE)
    elif members:
        remedy = f"take {disk['path']} out of its array or volume group first"
        yield Finding(what, blank, f"{disk['path']}: {', '.join(members)}", remedy)
    elif not ours and (disk["fstype"] or disk.get("children")):
        remedy = f"if nothing on it is needed: wipefs --all {disk['path']}"
        yield Finding(what, blank, f"{disk['path']}: {disk['fstype'] or 'partitions'}", remedy)
    if disk["ro"]:
        yield Finding(what, "writable", f"{disk['path']}: write-protected", "take the write protection off")
    needed = int(models_bytes(case) * RELEASE_SHARE) + _HEADER_BYTES
    if disk["size"] < needed:
        yield Finding(f"size of {what}", gigabytes(needed), gigabytes(disk["size"]), "use a larger disk")


def _parts(device: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield device
    for child in device.get("children") or ():
        yield from _parts(child)
