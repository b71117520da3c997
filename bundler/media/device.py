"""The device that is to be written: what it is, and whether it may be overwritten.

Refused: anything that is mounted, swapped on, held by another device, or part of the running system, anything
read-only, and any disk whose serial is not the one that the operator typed.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custody._run import run
from custody.errors import TargetRefused

_COLUMNS = "PATH,TYPE,SIZE,MODEL,SERIAL,TRAN,RO,MOUNTPOINTS,PARTLABEL,FSTYPE,LABEL"


@dataclass(frozen=True)
class Device:
    """A whole disk, or an image file standing for one.

    Attributes:
        path: `/dev/...`, or the image.
        serial: as the drive tells it; "" when it tells none.
        content: what is on it now, one line a partition.
    """

    path: Path
    model: str
    serial: str
    transport: str
    size_bytes: int
    content: tuple[str, ...]
    is_image: bool = False

    def __str__(self) -> str:
        kind = "image file" if self.is_image else f"{self.model or 'unknown model'}, serial {self.serial or 'none'}"
        return f"{self.path}: {kind}, {self.transport or 'no bus'}, {self.size_bytes / 1e9:.1f} GB"


def describe(path: Path) -> Device:
    """Look at a device.

    Raises:
        TargetRefused: not there, not a whole disk, read-only, or in use.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise TargetRefused(f"{path}: {error.strerror}", "see `lsblk -o PATH,MODEL,SERIAL,SIZE` for disks") from error
    if not stat.S_ISBLK(mode):
        raise TargetRefused(f"{path}: expected a disk, found something else", "for an image file use --image")
    top = _lsblk(path)
    if top["type"] not in ("disk", "loop"):
        raise TargetRefused(f"{path}: expected a whole disk, found a {top['type']}", "name the disk, not a partition")
    if top["ro"]:
        raise TargetRefused(f"{path}: read-only", "look for a write-protect switch")
    for node in _nodes(top):
        places = [place for place in node["mountpoints"] or [] if place]
        if places:
            raise TargetRefused(
                f"{path}: in use: {node['path']} is mounted on {', '.join(places)}",
                "if it really is the medium, unmount it first",
            )
        if node["type"] not in ("disk", "loop", "part"):
            raise TargetRefused(f"{path}: in use: {node['path']} ({node['type']}) lies on it", "close it first")
    content = tuple(
        f"{node['path']} {node['fstype'] or ''} {node['label'] or node['partlabel'] or ''}".rstrip()
        for node in _nodes(top)
        if node["fstype"] or node["type"] == "part"
    )
    return Device(
        path,
        (top["model"] or "").strip(),
        (top["serial"] or "").strip(),
        top["tran"] or "",
        int(top["size"]),
        content,
        top["type"] == "loop",
    )


def require_serial(device: Device, typed: str) -> None:
    """Compare the serial that the operator typed with the drive's.

    Raises:
        TargetRefused: they differ, or the drive tells none.
    """
    if not device.serial:
        raise TargetRefused(f"{device.path}: the drive tells no serial", "use a medium that has one")
    if typed.strip() != device.serial:
        raise TargetRefused(
            f"{device.path}: expected serial {typed.strip()!r}, found {device.serial!r}",
            "look at the label on the medium, and at `lsblk -o PATH,MODEL,SERIAL,SIZE`",
        )


def partition(disk: Path, label: str) -> Path:
    """The partition of a disk that carries a GPT name.

    Raises:
        TargetRefused: none, or several.
    """
    run(["udevadm", "settle", "--timeout=30"], ok=(0, 1))
    found = [Path(node["path"]) for node in _nodes(_lsblk(disk)) if node["partlabel"] == label]
    if len(found) != 1:
        raise TargetRefused(
            f"{disk}: expected one partition named {label}, found {len(found)}", "burn the medium again: airgap burn"
        )
    return found[0]


def _lsblk(path: Path) -> dict[str, Any]:
    output = run(["lsblk", "--json", "--bytes", "--tree", "--output", _COLUMNS, path]).stdout
    device: dict[str, Any] = json.loads(output)["blockdevices"][0]
    return device


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("children", []):
        yield from _nodes(child)
