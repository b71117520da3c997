"""A volume that opens by itself: real cryptsetup on a file, real systemd-creds, an emulated TPM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.drive import luks, unattended
from appliance.drive.luks import Luks, Mode
from appliance.drive.unattended import SLOT, Sealed
from custody.errors import ProgramFailed, SecretRefused
from tests.swtpm import Swtpm

PASSPHRASE = "correct horse battery staple"
SECURE_BOOT, OTHER = hashlib.sha256(b"Secure Boot on").digest(), hashlib.sha256(b"off").digest()


@dataclass(frozen=True)
class Managed(Sealed):
    """With what the kernel's resource manager does for whoever opens /dev/tpmrm0."""

    tpm: Swtpm | None = None

    def write(self, key: str) -> None:
        try:
            super().write(key)
        finally:
            self._forget()

    def key(self) -> str | None:
        """What the unit at boot would be given."""
        try:
            return super().key()
        finally:
            self._forget()

    @property
    def opened(self) -> str:
        """The key of a seal that opens."""
        key = self.key()
        assert key is not None
        return key

    def _forget(self) -> None:
        assert self.tpm is not None
        self.tpm.flush()


def at(file: Path, tpm: Swtpm) -> Managed:
    """A sealed key in a file."""
    return Managed(file, tpm.device, tpm)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key slots that open at once."""
    flags = ("--pbkdf", luks.KDF, "--pbkdf-memory", "32", "--pbkdf-force-iterations", "4")
    monkeypatch.setattr(luks, "_KDF_FLAGS", flags)


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Swtpm]:
    """A machine's TPM after a boot with Secure Boot."""
    with Swtpm(tmp_path / "tpm") as made:
        made.extend(7, SECURE_BOOT)
        yield made


@pytest.fixture
def volume(tmp_path: Path) -> Luks:
    """A volume's first 20 MiB, in a file."""
    image = tmp_path / "volume"
    with image.open("wb") as stream:
        stream.truncate(20 << 20)
    made = Luks(image)
    made.format(Mode.LUKS, PASSPHRASE)
    return made


def test_a_life(volume: Luks, tpm: Swtpm, tmp_path: Path) -> None:
    sealed = at(tmp_path / "state/unattended.cred", tpm)
    assert unattended.settle(volume, PASSPHRASE, wanted=False, sealed=sealed) == []
    would = unattended.settle(volume, PASSPHRASE, wanted=True, sealed=sealed, dry_run=True)
    assert not sealed.exists and volume.header().slots == (0,)

    assert unattended.settle(volume, PASSPHRASE, wanted=True, sealed=sealed) == would != []
    assert volume.header().slots == (0, SLOT)
    assert volume.takes(sealed.opened, SLOT)
    assert sealed.file.stat().st_mode & 0o777 == 0o600
    assert sealed.opened.encode() not in sealed.file.read_bytes()
    kept = sealed.file.read_bytes()
    assert unattended.settle(volume, PASSPHRASE, wanted=True, sealed=sealed) == []
    assert sealed.file.read_bytes() == kept

    # Turned off: key and slot are gone, the passphrase stays.
    assert unattended.settle(volume, PASSPHRASE, wanted=False, sealed=sealed) != []
    assert not sealed.exists and volume.header().slots == (0,)
    assert volume.takes(PASSPHRASE)
    assert unattended.settle(volume, PASSPHRASE, wanted=False, sealed=sealed) == []


def test_another_state_of_secure_boot_and_another_machine_get_nothing(tpm: Swtpm, tmp_path: Path) -> None:
    sealed = at(tmp_path / "unattended.cred", tpm)
    sealed.write("key")
    assert sealed.opens
    tpm.extend(7, OTHER)
    assert not sealed.opens
    with Swtpm(tmp_path / "another") as another:
        another.extend(7, SECURE_BOOT)
        assert not at(sealed.file, another).opens


def test_the_same_boot_again_opens_and_another_one_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "tpm"
    with Swtpm(folder) as tpm:
        tpm.extend(7, SECURE_BOOT)
        at(tmp_path / "cred", tpm).write("key")
    for measured, opens in ((SECURE_BOOT, True), (OTHER, False), (SECURE_BOOT, True)):
        with Swtpm(folder) as tpm:
            tpm.extend(7, measured)
            assert at(tmp_path / "cred", tpm).opens is opens


def test_after_a_change_of_firmware_the_next_run_seals_anew(volume: Luks, tpm: Swtpm, tmp_path: Path) -> None:
    sealed = at(tmp_path / "cred", tpm)
    unattended.seal(volume, PASSPHRASE, sealed)
    before = sealed.opened
    tpm.extend(7, OTHER)
    assert unattended.settle(volume, PASSPHRASE, wanted=True, sealed=sealed) != []
    assert sealed.opened != before
    assert volume.takes(sealed.opened, SLOT)
    assert not volume.takes(before)


def test_a_cut_leaves_a_volume_that_waits_or_one_that_opens(
    volume: Luks, tpm: Swtpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power goes before each of the steps that change something, on the way from one sealed key to the next."""
    sealed = at(tmp_path / "cred", tpm)
    unattended.seal(volume, PASSPHRASE, sealed)
    steps = [(Sealed, "forget"), (Luks, "remove"), (Luks, "add"), (Sealed, "write")]
    for owner, step in steps:
        with monkeypatch.context() as cut:
            cut.setattr(owner, step, _power_goes)
            with pytest.raises(KeyboardInterrupt):
                unattended.seal(volume, PASSPHRASE, sealed)
        assert not sealed.exists or volume.takes(sealed.opened, SLOT)
        assert volume.takes(PASSPHRASE, 0)
        assert unattended.settle(volume, PASSPHRASE, wanted=True, sealed=sealed) == (
            [] if step == "forget" else [f"{volume.device}: opened at boot by the TPM, PCR 7"]
        )
        assert volume.takes(sealed.opened, SLOT)


def _power_goes(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_wrong_passphrase_takes_no_way_of_opening_away(volume: Luks, tpm: Swtpm, tmp_path: Path) -> None:
    sealed = at(tmp_path / "cred", tpm)
    with pytest.raises(SecretRefused):
        unattended.seal(volume, "another", sealed)
    assert not sealed.exists and volume.header().slots == (0,)
    unattended.seal(volume, PASSPHRASE, sealed)
    key = sealed.opened
    for call in (
        lambda: unattended.seal(volume, "another", sealed),
        lambda: unattended.settle(volume, "another", wanted=False, sealed=sealed),
    ):
        with pytest.raises(SecretRefused):
            call()
        assert volume.header().slots == (0, SLOT)
        assert sealed.opened == key and volume.takes(key, SLOT)
    assert volume.takes(PASSPHRASE, 0)


def test_a_header_that_was_restored_is_sealed_anew(volume: Luks, tpm: Swtpm, tmp_path: Path) -> None:
    """The backup has another key in the slot than the one that was sealed since."""
    sealed = at(tmp_path / "cred", tpm)
    unattended.seal(volume, PASSPHRASE, sealed)
    backup = volume.device.read_bytes()
    unattended.seal(volume, PASSPHRASE, sealed)
    volume.device.write_bytes(backup)
    assert sealed.opens and not volume.takes(sealed.opened, SLOT)
    assert unattended.settle(volume, PASSPHRASE, wanted=True, sealed=sealed) != []
    assert volume.takes(sealed.opened, SLOT)


def test_a_tpm_that_does_not_seal_leaves_no_slot(volume: Luks, tpm: Swtpm, tmp_path: Path) -> None:
    sealed = Managed(tmp_path / "cred", "swtpm:path=/nowhere", tpm)
    with pytest.raises(ProgramFailed, match="systemd-creds"):
        unattended.seal(volume, PASSPHRASE, sealed)
    assert not sealed.exists and volume.header().slots == (0,)
