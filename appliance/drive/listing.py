"""Every disk of the host on one screen: what it says of itself, and what an appliance would do with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from appliance.drive import disks, kinds
from appliance.drive.discovery import Discovery
from appliance.drive.disks import Disk
from appliance.drive.escrow import copies
from appliance.drive.luks import LABEL, Luks
from appliance.drive.sed import Sed
from custody.errors import AirgapError

_HEAD = ("DEVICE", "SERIAL", "SIZE", "DRIVE", "VOLUME", "MODEL")


@dataclass(frozen=True)
class Row:
    """A disk.

    Attributes:
        kind, why, remedy: as `kinds.judge` says.
        volume: mode of our own volume on it, `other` for other content, empty for none.
        open: our volume is open.
        escrow: number of the newest copy of its secrets that lies on this host; None without one.
        discovery: what Level 0 Discovery says; None for a disk that is no TCG drive.
    """

    path: str
    serial: str
    model: str
    size_bytes: int
    kind: str
    why: str
    remedy: str
    volume: str
    open: bool
    escrow: int | None
    discovery: Discovery | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def look() -> list[Row]:
    """Look at every whole disk; proves no PIN, changes nothing."""
    return [_row(disk) for disk in disks.listing()]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of 80 columns, remedies below."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEAD))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for row in rows:
        if row.kind == kinds.Kind.SID_BLOCKED or (row.kind == kinds.Kind.OWNED and not row.volume):
            yield f"\n{row.serial}: {row.why}; to take it over: {row.remedy}"


def _cells(row: Row) -> tuple[str, ...]:
    volume = f"{row.volume}, {'open' if row.open else 'locked'}" if row.volume not in ("", "other") else row.volume
    kind = "not TCG" if row.discovery is None else row.kind
    return (row.path, row.serial or "-", f"{row.size_bytes / 1e9:.1f} GB", kind, volume or "-", row.model or "-")


def _row(disk: Disk) -> Row:
    discovery = Sed(disk.path).discover()
    judged = kinds.judge(discovery)
    found = disks.probe(disk.path)
    volume = "other" if found or disk.inside else ""
    if (found.get("TYPE"), found.get("LABEL")) == ("crypto_LUKS", LABEL):
        try:
            volume = str(Luks(disk.path).header().mode)
        except AirgapError:
            volume = "other"
    newest = copies(disk.serial)
    return Row(
        path=str(disk.path), serial=disk.serial, model=disk.model, size_bytes=disk.size_bytes,
        kind=str(judged.kind), why=judged.why, remedy=judged.remedy, volume=volume,
        open=any(kind == "crypt" for _path, kind, _mounted in disk.inside),
        escrow=newest[-1][0] if newest else None, discovery=discovery,
    )  # fmt: skip
