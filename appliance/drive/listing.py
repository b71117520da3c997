"""Every disk of the host on one screen: what it says of itself, and what an appliance would do with it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from appliance.drive import disks, kinds
from appliance.drive.discovery import Discovery
from appliance.drive.disks import Disk
from appliance.drive.escrow import copies
from appliance.drive.kinds import Judged, Kind
from appliance.drive.luks import LABEL, Luks
from appliance.drive.sed import Sed
from custody.errors import AirgapError

_HEAD = ("DEVICE", "SERIAL", "SIZE", "DRIVE", "VOLUME", "MODEL")
_COLUMNS, _GAP = 80, "  "
#: Fewer letters of a model say nothing: its column is left out then.
_MODEL_LETTERS = 8


@dataclass(frozen=True)
class Row:
    """A disk.

    Attributes:
        kind, why, remedy: as `kinds.judge` says; of a drive that failed, what it answered.
        failed: the drive did not say what it is.
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
    failed: bool
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
    """Lines of 80 columns, remedies below. Serials are whole, models what is left of the line."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEAD))]
    widths[-1] = min(widths[-1], _COLUMNS - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1))
    if widths[-1] < min(_MODEL_LETTERS, max(len(line[-1]) for line in cells)):
        widths.pop()
    for line in cells:
        yield _GAP.join(cell[:width].ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
    for row in rows:
        if row.failed:
            yield from _wrapped(f"{row.serial or row.path}: {row.why}; {row.remedy}")
        elif row.kind == Kind.SID_BLOCKED or (row.kind == Kind.OWNED and not row.volume):
            yield from _wrapped(f"{row.serial or row.path}: {row.why}; to take it over: {row.remedy}")


def _wrapped(text: str) -> list[str]:
    return ["", *textwrap.wrap(text, _COLUMNS, subsequent_indent=_GAP, break_on_hyphens=False)]


def _cells(row: Row) -> tuple[str, ...]:
    volume = f"{row.volume}, {'open' if row.open else 'locked'}" if row.volume not in ("", "other") else row.volume
    kind = "fails" if row.failed else "not TCG" if row.discovery is None else row.kind
    return (row.path, row.serial or "-", f"{row.size_bytes / 1e9:.1f} GB", kind, volume or "-", row.model or "-")


def _ask(disk: Disk) -> tuple[bool, Discovery | None, Judged]:
    """A drive that fails hides no other one."""
    try:
        discovery = Sed(disk.path).discover()
    except AirgapError as error:
        return True, None, Judged(Kind.UNSUPPORTED, error.message, error.hint)
    return False, discovery, kinds.judge(discovery)


def _row(disk: Disk) -> Row:
    failed, discovery, judged = _ask(disk)
    try:
        found = disks.probe(disk.path)
    except AirgapError as error:
        failed, found, judged = True, {}, Judged(judged.kind, error.message, error.hint)
    volume = "other" if found or disk.inside else ""
    if (found.get("TYPE"), found.get("LABEL")) == ("crypto_LUKS", LABEL):
        try:
            volume = str(Luks(disk.path).header().mode)
        except AirgapError:
            volume = "other"
    newest = copies(disk.serial)
    return Row(
        path=str(disk.path), serial=disk.serial, model=disk.model, size_bytes=disk.size_bytes,
        kind=str(judged.kind), why=judged.why, remedy=judged.remedy, failed=failed, volume=volume,
        open=any(kind == "crypt" for _path, kind, _mounted in disk.inside),
        escrow=newest[-1][0] if newest else None, discovery=discovery,
    )  # fmt: skip
