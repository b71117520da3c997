"""The end of a drive's secrets: revert it, or take it out of service and prove that the data are gone.

A revert gives the drive new media keys (Opal SSC 2.02, section 5.1.2): what was written is noise at once. Without
Opal the header is overwritten, key slots and all. The proof is our own: blocks read raw before are read raw again, and
none may be what it was; without Opal none of the header. Cut off, the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.drive import kinds, pins
from appliance.drive.discovery import Discovery
from appliance.drive.drive import Drive
from appliance.drive.kinds import Kind
from appliance.drive.luks import Header
from appliance.drive.pending import FOLDER
from custody._run import run
from custody.atomic import remove, sync_folder, write_whole
from custody.errors import DriveFailed, IntegrityFailure, ProgramFailed, SecretRefused, TargetRefused

#: Places looked at, evenly over the header and over the data; those that hold something are compared. Of a header that
#: is to be overwritten every block is one: what a revert does to one block it does to all.
_HEADER_PLACES, _DATA_PLACES = 16, 1024
_BLOCK_BYTES = 4096
_LOCKED, _EMPTY = "locked", "empty"
#: What a shadow MBR hides at least (Opal SSC 2.02, section 4.3.5.4); read there is the table, and no data.
_SHADOW_BYTES = 128 << 20


@dataclass(frozen=True)
class Erased:
    """What was done and seen.

    Attributes:
        method: in a sentence.
        category: of NIST SP 800-88 Rev. 1, section 2.5.
        places: blocks looked at.
        locked: of these, blocks that could not be read before: whether they are gone nobody saw.
        compared: of these, blocks that held something before and could be read.
        compared_data: of the compared ones, those of the data; the others are what everybody could read before them.
        unchanged: of the compared ones, those that still are what they were.
    """

    method: str
    category: str
    places: int
    locked: int
    compared: int
    compared_data: int
    unchanged: int


@dataclass(frozen=True)
class _Before:
    """What a drive held.

    Attributes:
        data_offset: byte where the data begin.
        blocks: digests by their place in bytes; or that the block was locked, or empty.
    """

    data_offset: int
    blocks: dict[int, str]

    def dump(self) -> bytes:
        """For the file."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def load(data: bytes) -> _Before:
        """Out of the file."""
        found = json.loads(data)
        return _Before(found["data_offset"], {int(at): digest for at, digest in found["blocks"].items()})

    def telling(self, opal: bool) -> set[int]:
        """Places of which each is to be another one after: all, or of a volume by dm-crypt those of its header."""
        return {at for at in self.held if opal or at < self.data_offset}

    @property
    def locked(self) -> int:
        """How many blocks were."""
        return sum(digest == _LOCKED for digest in self.blocks.values())

    @property
    def held(self) -> dict[int, str]:
        """What can be compared."""
        return {at: digest for at, digest in self.blocks.items() if digest not in (_LOCKED, _EMPTY)}


def revert(drive: Drive, *, sid: str = "", psid: str = "") -> None:
    """Back to the factory; all data are lost.

    Args:
        sid: SID's PIN; or
        psid: the one on the label.

    Raises:
        SecretRefused: the PIN is wrong; nothing was changed.
        DriveFailed: the drive says afterwards that it still is somebody's.
    """
    drive.say("reverting")
    if psid:
        drive.sed.revert_by_psid(pins.clean_psid(psid).encode())
    else:
        drive.sed.revert(sid.encode())
    found = kinds.judge(drive.sed.discover())
    if found.kind is not Kind.FACTORY:
        raise DriveFailed(
            f"{drive.device}: expected a drive as it leaves the factory after the revert, found {found.why}",
            "run the same command again; dmesg | tail",
        )


def decommission(
    drive: Drive, size_bytes: int, *, sid: str = "", admin: str = "", psid: str = "", folder: Path = FOLDER
) -> Erased:
    """Make what was written unreadable, and prove it.

    What was read before stays in the folder until `end`: cut off before the certificate is written, the same call gives
    the same answer again.

    Args:
        size_bytes: of the drive.
        sid: SID's PIN, with which to revert; or
        psid: the label's.
        admin: Admin1's PIN, to unlock the data for the comparison; without it locked blocks are not compared.

    Raises:
        SecretRefused: a PIN is wrong; nothing was erased.
        TargetRefused: the BIOS keeps the drive from making new keys; or there are no keys that could be destroyed; or
            there is nothing to compare. Nothing was changed.
        DriveFailed: a block is what it was after all.
    """
    kept, found = _file(drive, folder), drive.sed.discover()
    judged, header = kinds.judge(found), _header(drive)
    if judged.kind is Kind.SID_BLOCKED:
        raise TargetRefused(
            f"{drive.device} (serial {drive.serial}): expected a drive that makes new keys, found that {judged.why}",
            judged.remedy,
        )
    # Where a header can be read nothing was reverted, and a file beside it is of another time. dm-crypt's can be read
    # until it is overwritten: there the key slots tell.
    intact = header is not None and (judged.opal or bool(header.slots))
    begins = intact or not kept.exists()
    if begins:
        before = _begin(drive, found, header if intact else None, size_bytes, sid, admin)
        _keep(kept, before)
    else:
        before = _Before.load(kept.read_bytes())
    if judged.opal:
        try:
            _revert_for_good(drive, sid, psid)
        except SecretRefused:
            if begins:
                remove(kept)
            raise
        method, category = "TCG Opal Revert: the drive made new media encryption keys", "Purge (cryptographic erase)"
    else:
        discarded = "all blocks discarded" if _erase_header(drive, before) else "the disk discards no blocks"
        method = f"LUKS2 key slots destroyed, header overwritten, {discarded}"
        category = "Clear (cryptographic erase)"
    drive.say("reading the same places again")
    held = before.held
    # What is locked now is not known to have changed.
    unchanged = {at for at, digest in held.items() if _digest(drive, at) in (digest, _LOCKED)}
    _refuse_unchanged(drive, unchanged, before.telling(judged.opal))
    data = sum(at >= before.data_offset for at in held)
    return Erased(method, category, len(before.blocks), before.locked, len(held), data, len(unchanged))


def end(drive: Drive, *, folder: Path = FOLDER) -> None:
    """Forget what was kept here of a drive that was reverted, or whose certificate is on the disk."""
    drive.say("forgetting what was kept of it here")
    drive.pending.forget()
    remove(_file(drive, folder))


def forget_former_life(drive: Drive) -> None:
    """What an erasure that nobody certified had read, before the drive is used anew."""
    remove(_file(drive, drive.pending.folder))


def _file(drive: Drive, folder: Path) -> Path:
    """Where the digests lie from before the erasure until it is certified."""
    return folder / f"{drive.serial}.erase"


def _keep(kept: Path, before: _Before) -> None:
    """Durable when this returns: after a revert nobody can look again."""
    if not kept.parent.exists():
        kept.parent.mkdir(mode=0o700, parents=True)
        sync_folder(kept.parent.parent)
    write_whole(kept, before.dump(), mode=0o600)


def _begin(
    drive: Drive, found: Discovery | None, header: Header | None, size_bytes: int, sid: str, admin: str
) -> _Before:
    """Refuse what would come to nothing, and read what there is."""
    judged = kinds.judge(found)
    if not judged.opal and header is None:
        raise TargetRefused(
            f"{drive.device} (serial {drive.serial}): expected a drive that makes new keys, or one with a volume of"
            f" ours that a key opens, found neither ({judged.why}): there are no keys on it that could be destroyed",
            "overwrite it or destroy it; there is nothing that could be certified",
        )
    if sid and found is not None and found.activated:
        with suppress(TargetRefused):  # NVMe drives alone can be asked
            drive.sed.check_sid(sid.encode())
    drive.say("reading what there is")
    if header is not None:
        data_offset = header.data_offset
    else:
        data_offset = min(size_bytes, _SHADOW_BYTES) if found is not None and found.shadowed else 0
    with _opened(drive, header, admin):
        places = _places(data_offset, size_bytes, every=not judged.opal)
        before = _Before(data_offset, {at: _digest(drive, at) for at in places})
    if before.telling(judged.opal):
        return before
    hint = f"airgap drive revert {drive.serial}, which certifies nothing"
    if before.locked:
        hint += "; or bring the header back (docs/how-to/recover-a-drive.md) and give --secrets"
    raise TargetRefused(
        f"{drive.device} (serial {drive.serial}): expected blocks that hold something and can be read, found none;"
        f" of {len(before.blocks)} looked at {before.locked} are locked, the others empty",
        hint,
    )


def _places(data_offset: int, size_bytes: int, *, every: bool) -> list[int]:
    """Where to look, in bytes.

    Args:
        every: at all of the header.
    """
    blocks, first = size_bytes // _BLOCK_BYTES, data_offset // _BLOCK_BYTES
    before = range(0, first, 1 if every else max(1, first // _HEADER_PLACES))
    data = range(first, blocks, max(1, (blocks - first) // _DATA_PLACES))
    return [at * _BLOCK_BYTES for at in (*before, *data)]


@contextmanager
def _opened(drive: Drive, header: Header | None, admin: str) -> Iterator[None]:
    """Unlock the data for a while; without Admin1's PIN, or without Opal, they are as they are."""
    if header is None or header.locking_range is None or not admin:
        yield
        return
    drive.sed.unlock(admin.encode(), header.locking_range)
    try:
        yield
    finally:
        drive.sed.lock(admin.encode(), header.locking_range)


def _header(drive: Drive) -> Header | None:
    """Our header; one that we do not write keeps no drive in service."""
    try:
        return drive.luks.header() if drive.luks.exists else None
    except (IntegrityFailure, ProgramFailed):
        return None


def _digest(drive: Drive, at: int) -> str:
    data = drive.sed.read(at, _BLOCK_BYTES)
    if data is None:
        return _LOCKED
    return hashlib.sha256(data).hexdigest() if any(data) else _EMPTY


def _revert_for_good(drive: Drive, sid: str, psid: str) -> None:
    """Revert an activated drive; one that is not keeps its keys in a revert, so it is activated first."""
    found = drive.sed.discover()
    if found is not None and not found.activated:
        if not sid:
            drive.say("proving the label's PSID")
            drive.sed.revert_by_psid(pins.clean_psid(psid).encode())
        pin = (sid or pins.clean_psid(psid)).encode()
        drive.say("activating, so that the revert makes new keys")
        try:
            drive.sed.take_ownership(pin)
        except SecretRefused:
            drive.sed.check_sid(pin)
        drive.sed.activate(pin)
    revert(drive, sid=sid, psid=psid)


def _erase_header(drive: Drive, before: _Before) -> bool:
    """Destroy it; says whether the disk also discarded its blocks."""
    drive.say("destroying the header")
    if drive.luks.exists:
        drive.luks.erase()
    run(["wipefs", "--all", "--quiet", drive.device])
    # cryptsetup overwrites the slots in use; what a change that was cut off left in others goes here.
    drive.say("overwriting the header")
    with drive.device.open("r+b") as disk:
        for at in range(0, before.data_offset, _BLOCK_BYTES):
            disk.write(bytes(min(_BLOCK_BYTES, before.data_offset - at)))
        disk.flush()
        os.fsync(disk.fileno())
    return run(["blkdiscard", "--force", drive.device], ok=(0, 1), timeout_s=3600).returncode == 0


def _refuse_unchanged(drive: Drive, unchanged: set[int], telling: set[int]) -> None:
    left = len(unchanged & telling)
    if left:
        raise DriveFailed(
            f"{drive.device} (serial {drive.serial}): expected nothing of what could be read before, found {left} of"
            f" {len(telling)} blocks as they were, or locked",
            "keep this output, and destroy the drive",
        )
