"""One drive, and everything that changing its secrets takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.drive.disks import Disk
from appliance.drive.escrow import Escrow
from appliance.drive.luks import Luks
from appliance.drive.pending import Pending
from appliance.drive.sed import PAGE_BYTES, Sed
from custody.errors import DriveFailed, InputInvalid, SecretRefused, TargetRefused
from custody.report import Reporter


@dataclass(frozen=True)
class Drive:
    """A drive by its serial; `mapper` is what its opened volume is called.

    Each of the parts can be another one, so that a whole life can be walked without a kernel.
    """

    serial: str
    model: str
    mapper: str
    sed: Sed
    luks: Luks
    escrow: Escrow | None
    pending: Pending
    reporter: Reporter

    @staticmethod
    def on(disk: Disk, mapper: str, escrow: Escrow | None, reporter: Reporter) -> Drive:
        """The real one behind a disk.

        Raises:
            TargetRefused: its serial cannot be a file's name.
        """
        if "/" in disk.serial or not disk.serial.isprintable():
            raise TargetRefused(f"{disk}: expected a serial of letters and digits, found {disk.serial!r}", "lsblk")
        return Drive(
            disk.serial, disk.model, mapper, Sed(disk.path), Luks(disk.path), escrow, Pending(disk.serial), reporter
        )

    @property
    def kept(self) -> Escrow:
        """Where the second copy of the secrets goes.

        Raises:
            InputInvalid: the site has named no escrow key.
        """
        if self.escrow is None:
            hint = "storage.escrow_key in the site file, then airgap install"
            raise InputInvalid(f"{self.device}: expected an escrow key, found none", hint)
        return self.escrow

    @property
    def device(self) -> Path:
        """The block device."""
        return self.sed.device

    def say(self, text: str) -> None:
        """Tell of a step; each is told before it is done."""
        self.reporter.step(f"{self.device}: {text}")


def settle(known: tuple[str, ...], change: Callable[[bytes, bytes], None], new: str) -> None:
    """Set a PIN that is one of the known ones or the new one already.

    Raises:
        SecretRefused: it is none of them.
    """
    refused: SecretRefused | None = None
    for pin in (*known, new):
        try:
            change(pin.encode(), new.encode())
        except SecretRefused as error:
            refused = error
        else:
            return
    assert refused is not None
    raise refused


def prove(drive: Drive, passphrase: str) -> None:
    """See with one's own eyes that the closed range refuses reads, and that the passphrase opens it.

    Raises:
        DriveFailed: the drive hands out what it should keep, or keeps what it should hand out.
    """
    header = drive.luks.header()
    places = [header.data_offset]
    if header.data_bytes is not None:
        places.append(header.data_offset + (header.data_bytes // PAGE_BYTES - 1) * PAGE_BYTES)
    hint = "do not use this drive: it does not lock what it says that it locks"
    drive.say("proving that it locks")
    require_locked(drive.sed, places, hint)
    drive.luks.open(passphrase, drive.mapper)
    try:
        opened = [drive.sed.read(at) for at in places]
    finally:
        drive.luks.close(drive.mapper)
    if None in opened:
        raise DriveFailed(f"{drive.device}: expected an opened range to be readable, found it locked", "dmesg | tail")
    require_locked(drive.sed, places, hint)


def require_locked(sed: Sed, places: Sequence[int], hint: str) -> None:
    """Refuse a closed range that can be read at one of these bytes.

    Raises:
        DriveFailed: it can.
    """
    for at in places:
        if sed.read(at) is not None:
            raise DriveFailed(f"{sed.device}: expected the closed range to refuse reads at byte {at}, found data", hint)
