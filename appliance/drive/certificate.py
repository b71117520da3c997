"""What an auditor gets for a drive that left service: a signed statement, and the same as a page.

A DSSE envelope by the host's key over RFC 8785 bytes, as a host's description is; the page proves nothing by itself.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.drive.disks import Disk
from appliance.drive.erase import Erased
from custody.atomic import write_whole
from custody.page import Page, Section, groups, pdf
from custody.trust import canonical
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey

PAYLOAD_TYPE = "application/vnd.airgap.decommission+json"
_SCHEMA = "airgap.decommission/1"
_GONE = "What was written on this drive can no longer be read: below, what was done, and what was seen after."
_FOOT = "This page proves nothing by itself: the signed statement beside it does. It says what was done and read back;"
_FOOT_DRIVE = (
    " that the firmware made new keys and kept no copy of the old ones is the maker's word. Blocks that the drive keeps"
    " beyond its capacity cannot be read, and were encrypted with the keys that are gone."
)
_FOOT_VOLUME = (
    " the data are where they were, as noise without the keys that are gone. A backup of the header opens them still,"
    " with a passphrase of its time: escrowed headers are to be destroyed. Blocks that the drive keeps beyond its"
    " capacity cannot be read, and may hold an older header."
)


@dataclass(frozen=True)
class Certificate:
    """The statement.

    Attributes:
        time: UTC, RFC 3339.
        host: the host's name.
    """

    serial: str
    model: str
    size_bytes: int
    time: str
    host: str
    host_key: str
    erased: Erased


def certify(disk: Disk, erased: Erased, host: str, key: PrivateKey) -> Certificate:
    """The statement of what was just seen."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Certificate(disk.serial, disk.model, disk.size_bytes, now, host, key.public.keyid, erased)


def write(certificate: Certificate, key: PrivateKey, folder: Path) -> list[Path]:
    """Write `SERIAL-decommissioned.dsse.json` and `.pdf`; returns both."""
    payload = canonical.dump({"schema": _SCHEMA, **asdict(certificate)})
    signed = Envelope(PAYLOAD_TYPE, payload, {}).signed_by(key).dump()
    base = folder / f"{certificate.serial}-decommissioned"
    files = [base.with_name(f"{base.name}.dsse.json"), base.with_name(f"{base.name}.pdf")]
    for file, data in zip(files, (signed, pdf.render(page(certificate))), strict=True):
        write_whole(file, data)
    return files


def page(certificate: Certificate) -> Page:
    """The same for people."""
    erased = certificate.erased
    by_drive = erased.category.startswith("Purge")
    drive = (
        ("serial", certificate.serial),
        ("model", certificate.model or "not told"),
        ("size", f"{certificate.size_bytes / 1e9:.1f} GB"),
    )
    seen = (
        ("method", erased.method),
        ("category", f"NIST SP 800-88 Rev. 1: {erased.category}"),
        ("looked at", f"{erased.places} blocks of 4096 bytes, before"),
        ("locked", f"{erased.locked} of them, before: not compared"),
        (
            "compared",
            f"{erased.compared} of them, which held something, before and after; {erased.compared_data} are data",
        ),
        ("unchanged", f"{erased.unchanged} of these, after{'' if by_drive else ': noise without the keys'}"),
        ("when", certificate.time.replace("T", " ").replace("Z", " UTC")),
        ("where", f"host {certificate.host}"),
    )
    return Page(
        name=f"Decommissioning of {certificate.serial}",
        title=f"Drive {certificate.serial}",
        verdict="Out of service",
        summary=_summary(erased) if by_drive else _GONE,
        sections=(
            Section("The drive", (), drive),
            Section("What was done and seen", (), seen),
            Section("Who says so", (), (("host key", groups(certificate.host_key)),), digits=True),
        ),
        foot=_FOOT + (_FOOT_DRIVE if by_drive else _FOOT_VOLUME),
        is_doubtful=by_drive and not (erased.compared_data and not erased.locked),
    )


def _summary(erased: Erased) -> str:
    """No more than was seen."""
    if not erased.compared_data:
        return (
            "The drive says that it made new keys. That the data can no longer be read is its word alone: no block of"
            f" them could be compared, {f'{erased.locked} were locked' if erased.locked else 'all were empty'} before."
            " What was seen is below."
        )
    if erased.locked:
        return f"{_GONE} Of {erased.locked} blocks that were locked before this is the drive's word alone."
    return _GONE
