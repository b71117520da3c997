"""The data disk: there once, blank or ours, nobody else's, large enough; and a drive that can be taken over."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundler.install import paths
from bundler.install.preflight.finding import Case, Finding, gigabytes
from bundler.install.preflight.space import RELEASE_SHARE, models_bytes
from bundler.install.site import Storage
from custody._run import run

#: The LUKS2 header and what ext4 needs for itself.
_HEADER_BYTES = 64 << 20
_MEMBERS = ("linux_raid_member", "LVM2_member", "zfs_member", "ceph_bluestore", "bcache", "btrfs")
_COMPARE = "compare with: lsblk -o PATH,SIZE,MODEL,SERIAL"


def check_disk(case: Case) -> Iterator[Finding]:
    """The disk that the site file names by its serial."""
    serial = case.site.storage.data_disk_serial
    what = f"data disk {serial}"
    disks = [d for d in block_devices(case.root) if d["type"] == "disk"]
    named = [d for d in disks if (d["serial"] or "").strip() == serial]
    if len(named) != 1:
        there = ", ".join(f"{d['path']} {d['serial'] or '(no serial)'}" for d in disks) or "no disk"
        yield Finding(what, "exactly one disk", f"{len(named)} of: {there}", _COMPARE)
        return
    disk = named[0]
    parts = list(parts_of(disk))
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


#: What a drive is, the appliance's code knows: the command is asked, as an operator would.
_LIST_DRIVES = "from bundler.cli import main; main(['drive', 'list', '--json'])"
_OURS = ("luks", "opal", "opal+luks")


def check_drive(case: Case) -> Iterator[Finding]:
    """What the drive that the site file names says of itself."""
    if str(case.root) != "/" or os.geteuid() != 0:  # a drive lies below no folder, and answers root alone
        return
    storage = case.site.storage
    listing = json.loads(run([sys.executable, "-I", "-c", _LIST_DRIVES]).stdout)
    for row in listing["drives"]:
        if row["serial"] == storage.data_disk_serial:
            begun = case.at(f"/var/lib/airgap/drive/{row['serial']}.own").exists()
            yield from judge_drive(storage, row, begun=begun)


def judge_drive(storage: Storage, row: dict[str, Any], *, begun: bool) -> Iterator[Finding]:
    """What keeps a drive from being taken over.

    Args:
        row: of `airgap drive list --json`.
        begun: its taking over was cut off and will be gone on with.
    """
    what, mode = f"drive {row['serial']}", storage.mode
    if row["failed"]:
        yield Finding(what, "a drive that answers", row["why"], row["remedy"] or "dmesg | tail")
    elif row["volume"] in _OURS and not begun:
        if mode not in ("auto", row["volume"]):
            remedy = "say so in storage.mode, or airgap drive decommission first"
            yield Finding(what, f"a volume of mode {mode}", f"one of mode {row['volume']}", remedy)
    elif row["kind"] in ("unsupported", "pyrite"):
        if mode in ("opal", "opal+luks"):
            yield Finding(what, "an Opal 2 drive", row["why"], row["remedy"])
    elif mode == "luks" and not (row["discovery"] or {}).get("locked"):
        return
    elif row["kind"] != "factory" and not begun and not (row["kind"] == "owned" and storage.owned_pin):
        yield Finding(what, "as it leaves the factory", row["why"], row["remedy"])
    elif storage.escrow_key is None:
        remedy = "the NAME.pub of whoever keeps the second copy of its secrets, in the site file; or mode luks"
        yield Finding("storage.escrow_key", "a key: the drive encrypts", "none", remedy)


def block_devices(root: Path) -> list[dict[str, Any]]:
    """What lsblk tells of the host's disks, as a tree: whole disks, below them `children`."""
    elsewhere: list[str | Path] = ["--sysroot", root] if str(root) != "/" else []
    columns = "PATH,TYPE,SIZE,RO,SERIAL,FSTYPE,LABEL,MOUNTPOINTS"
    listing = run(["lsblk", *elsewhere, "--json", "--bytes", "--tree", "--output", columns]).stdout
    devices: list[dict[str, Any]] = json.loads(listing)["blockdevices"]
    return devices


def parts_of(device: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A device and everything that lies on it."""
    yield device
    for child in device.get("children") or ():
        yield from parts_of(child)
