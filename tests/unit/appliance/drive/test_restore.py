"""A header comes back from its backup: real cryptsetup on a file; what does not belong there is not written."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.drive import luks
from appliance.drive.drive import Drive
from appliance.drive.escrow import Secrets
from appliance.drive.luks import Luks, Mode
from appliance.drive.pending import Pending
from appliance.drive.restore import restore
from appliance.drive.sed import Sed
from custody.errors import DriveFailed, InputInvalid, IntegrityFailure, TargetRefused
from custody.report import SilentReporter

PASSPHRASE, RECOVERY = "correct horse battery staple", "recovery-key"
DATA = b"what the site wrote"


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drive:
    """A disk with a volume, and something behind its header."""
    flags = ("--pbkdf", luks.KDF, "--pbkdf-memory", "32", "--pbkdf-force-iterations", "4")
    monkeypatch.setattr(luks, "_KDF_FLAGS", flags)
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(20 << 20)
    volume = Luks(image)
    volume.format(Mode.LUKS, PASSPHRASE)
    volume.add(PASSPHRASE, RECOVERY, 1)
    with image.open("r+b") as stream:
        stream.seek(volume.header().data_offset)
        stream.write(DATA)
    return Drive("S1", "Disk", "airgap-data", Sed(image), volume, None, Pending("S1"), SilentReporter())


def escrowed(drive: Drive) -> tuple[bytes, Secrets]:
    """What the escrow has of it."""
    backup = drive.luks.backup()
    digest = hashlib.sha256(backup).hexdigest()
    return backup, Secrets("S1", "Disk", "", "", recovery_key=RECOVERY, header_sha256=digest, number=1)


def damage(drive: Drive) -> bytes:
    """Zeros over both headers; returns the disk."""
    with drive.luks.device.open("r+b") as stream:
        stream.write(bytes(1 << 20))
    return drive.luks.device.read_bytes()


def test_a_damaged_header_comes_back_and_the_data_stay(drive: Drive) -> None:
    backup, known = escrowed(drive)
    before = drive.luks.device.read_bytes()
    damaged = damage(drive)
    assert not drive.luks.exists
    assert restore(drive, backup, known, dry_run=True).mode is Mode.LUKS
    assert drive.luks.device.read_bytes() == damaged
    restore(drive, backup, known)
    assert drive.luks.device.read_bytes() == before
    assert drive.luks.takes(PASSPHRASE, 0) and drive.luks.takes(RECOVERY, 1)


def test_a_header_that_opens_is_left_alone(drive: Drive) -> None:
    backup, known = escrowed(drive)
    before = drive.luks.device.read_bytes()
    with pytest.raises(TargetRefused, match="nothing to restore"):
        restore(drive, backup, known)
    assert drive.luks.device.read_bytes() == before


def test_another_backup_is_not_written(drive: Drive) -> None:
    backup, known = escrowed(drive)
    damaged = damage(drive)
    flipped = bytearray(backup)
    flipped[70_000] ^= 1
    for content, secrets in (
        (bytes(flipped), known), (backup[:-4096], known), (backup + b"x", known), (b"", known),
        (backup, replace(known, header_sha256="")),  # a planned copy
    ):  # fmt: skip
        with pytest.raises(InputInvalid, match=r"expected the SHA-256 .*of escrow 1, found") as caught:
            restore(drive, content, secrets)
        assert caught.value.hint
    assert drive.luks.device.read_bytes() == damaged


def test_a_header_that_we_do_not_write_is_not_written(drive: Drive, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(20 << 20))
    Luks(other)._run(["luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"],
                     {"--key-file": RECOVERY})  # fmt: skip
    backup = Luks(other).backup()
    known = replace(escrowed(drive)[1], header_sha256=hashlib.sha256(backup).hexdigest())
    damaged = damage(drive)
    with pytest.raises(IntegrityFailure, match="altered, or made by something else"):
        restore(drive, backup, known)
    assert drive.luks.device.read_bytes() == damaged


def test_a_disk_that_does_not_keep_it_is_told(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    backup, known = escrowed(drive)
    damage(drive)
    monkeypatch.setattr(Luks, "restore", lambda _self, _backup: None)
    monkeypatch.setattr(Luks, "takes", lambda _self, _passphrase, _slot=None: False)
    with pytest.raises(DriveFailed, match="expected the restored header to open"):
        restore(drive, backup, known)
