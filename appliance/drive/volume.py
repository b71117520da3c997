"""The data volume: LUKS2 on a whole disk, ext4 inside, opened by a passphrase and mounted by systemd.

Formats a blank disk and nothing else, and never one on which this host made a volume; opens only a header that
`disks.judge` accepts. Nothing here is pulled in at boot: a locked volume delays and fails nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from appliance.drive import disks, erase, own, unattended
from appliance.drive.disks import Disk
from appliance.drive.drive import Drive, require_locked
from appliance.drive.escrow import Escrow
from appliance.drive.luks import LABEL, TYPE_AGAIN, Header, Luks, Mode
from appliance.drive.own import Wanted
from appliance.drive.pending import OWN, Known, Pending
from appliance.drive.sed import Sed
from appliance.drive.unattended import Sealed
from appliance.files import Folder, place
from custody._run import run
from custody.errors import DriveFailed, InputInvalid, ProgramFailed, SecretRefused, TargetRefused
from custody.report import Reporter, SilentReporter

_RECOVER = "docs/how-to/recover-a-drive.md: The header is damaged"


@dataclass(frozen=True)
class Volume:
    """Where the volume is, by the names that the site gave: disk serial, device-mapper name, mount point."""

    serial: str
    mapper: str
    mount: Path

    @property
    def device(self) -> Path:
        """The opened volume."""
        return Path("/dev/mapper") / self.mapper

    @property
    def mount_unit(self) -> str:
        """systemd's name for the mount point, systemd.unit(5); the path has no characters that need escaping."""
        return str(self.mount).strip("/").replace("/", "-") + ".mount"

    @property
    def is_open(self) -> bool:
        """Whether the volume is unlocked."""
        return self.device.exists()

    @property
    def is_mounted(self) -> bool:
        """Whether this volume, and nothing else, is what is mounted there."""
        for line in Path("/proc/self/mounts").read_text().splitlines():
            source, target, *_ = line.split()
            if target == str(self.mount):
                return source == str(self.device)
        return False


def prepare(
    volume: Volume,
    passphrase: str,
    folders: Sequence[Folder],
    *,
    wanted: Wanted = Wanted(Mode.LUKS),  # noqa: B008 - frozen
    escrow: Escrow | None = None,
    opens_itself: bool = False,
    sealed: Sealed = Sealed(),  # noqa: B008 - frozen
    reporter: Reporter = SilentReporter(),  # noqa: B008 - has no state
    dry_run: bool = False,
) -> list[str]:
    """Make sure that the volume exists, is open, is mounted and has its folders.

    Args:
        wanted: who shall encrypt, of a volume that is made now.
        escrow: where the second copy of its secrets goes; a drive that encrypts is not taken over without one.
        opens_itself: at boot, by a key that the TPM gives back; `sealed` says where that lies.

    Returns:
        What was, or would be, done, one line each; empty when nothing.

    Raises:
        TargetRefused: see `disks` and `own`; or the volume that this host made is not there. Nothing was changed.
        SecretRefused: the volume exists and has another passphrase, or an owned drive another PIN.
        InputInvalid: no escrow key for a drive that encrypts.
        DriveFailed: the disk cannot be read, or there is no file system any more.
        AlreadyRunning: another airgap changes drives.
    """
    with nullcontext() if dry_run else Pending(volume.serial).alone():
        disk = disks.find(volume.serial)
        if volume.is_open and str(volume.device) not in {path for path, _kind, _mounted in disk.inside}:
            raise TargetRefused(f"{volume.device}: expected it on {disk}, found it on another disk", "lsblk")
        done = []
        drive = Drive.on(disk, volume.mapper, escrow, reporter)
        header = disks.judge(disk, volume.mapper)
        known = drive.pending.volume
        making = known is Known.MAKING or (known is Known.UNKNOWN and drive.pending.what == OWN)
        if header is None and known is Known.MADE:
            raise _header_is_gone(disk)
        if header is None or making:
            making = True
            mode = own.choose_mode(drive, wanted)
            if mode is not Mode.LUKS and escrow is None:
                hint = "storage.escrow_key in the site file: the public key of whoever keeps the second copy"
                raise InputInvalid(f"{disk}: expected an escrow key for a drive that encrypts, found none", hint)
            done.append(f"{disk}: formatted, {mode}")
            if not dry_run:
                if volume.is_open:  # somebody killed what took the drive over
                    drive.luks.close(volume.mapper)
                _make(drive, mode, wanted, passphrase)
        elif wanted.mode not in (None, header.mode):
            hint = "say so in the site file, or airgap drive decommission, then install again"
            raise TargetRefused(f"{disk}: expected a volume of mode {wanted.mode}, found {header.mode}", hint)
        if not volume.is_open:
            done.append(f"{volume.device}: opened")
            if not dry_run:
                drive.luks.open(passphrase, volume.mapper)
        elif not making and not drive.luks.takes(passphrase):  # told now, and not by the next boot
            raise SecretRefused(f"{disk}: the passphrase does not open the volume, which is open already", TYPE_AGAIN)
        if not dry_run:
            done += _settle_file_system(volume, drive.pending, making)
        if not volume.is_mounted:
            done.append(f"{volume.mount}: mounted")
            if not dry_run:
                mount(volume)
        if header is not None or not dry_run:
            done += unattended.settle(drive.luks, passphrase, wanted=opens_itself, sealed=sealed, dry_run=dry_run)
        if not dry_run:
            done += [f"{change.path}: {change.what}" for change in place([], folders)]
        return done


def _settle_file_system(volume: Volume, pending: Pending, making: bool) -> list[str]:
    """Make ext4 on a volume that holds nothing yet, and from then on never again."""
    if not making:
        if not disks.probe(volume.device):
            raise DriveFailed(
                f"{volume.device}: expected ext4, found nothing that could be mounted",
                "docs/how-to/recover-a-drive.md: The file system has errors",
            )
    else:
        run(["mkfs.ext4", "-q", "-F", "-L", LABEL, "-m", "0", volume.device], timeout_s=3600)
    if pending.volume is not Known.MADE:
        pending.note(Known.MADE)
    pending.end(OWN)
    return [f"{volume.device}: ext4 made"] if making else []


def _header_is_gone(disk: Disk) -> TargetRefused:
    return TargetRefused(f"{disk}: expected the volume that this host made, found a blank disk", _RECOVER)


def needs_unlocking(volume: Volume) -> bool:
    """Whether it is closed or not mounted, or its drive lost power and locked under the open volume."""
    if not (volume.is_open and volume.is_mounted):
        return True
    disk = disks.find(volume.serial)
    return locked_itself(disk, disks.judge(disk, volume.mapper))


def locked_itself(disk: Disk, header: Header | None) -> bool:
    """Whether the data of an open volume cannot be read, because the drive lost power and locked."""
    return bool(header and header.locking_range is not None and Sed(disk.path).read(header.data_offset) is None)


def unlock(volume: Volume, passphrase: str, *, dry_run: bool = False) -> list[str]:
    """Open and mount the volume.

    Returns:
        What was, or would be, done, one line each; empty when nothing.

    Raises:
        TargetRefused: the disk is not there or not ours.
        SecretRefused: the passphrase is wrong.
    """
    done = []
    disk = disks.find(volume.serial)
    header = disks.judge(disk, volume.mapper)
    if header is None:
        raise _header_is_gone(disk)
    if Pending(volume.serial).volume is Known.MAKING:  # the next installation formats it
        found = "one that is not made to its end"
        raise TargetRefused(f"{disk}: expected a volume that may hold data, found {found}", "airgap install")
    if is_shut := not volume.is_open or locked_itself(disk, header):
        if volume.is_open:
            done.append(f"{disk}: lost its power and locked itself; what was open is closed")
            if not dry_run:
                _close(volume)
        done.append(f"{disk}: opened as {volume.device}")
        if not dry_run:
            Luks(disk.path).open(passphrase, volume.mapper)
    if is_shut or not volume.is_mounted:
        done.append(f"{volume.mount}: mounted")
        if not dry_run:
            mount(volume)
    return done


def lock(volume: Volume, *, dry_run: bool = False) -> list[str]:
    """Unmount and close the volume, its key is gone from memory, and see that the drive locks; returns as `unlock`.

    Raises:
        DriveFailed: the drive hands out what it should keep.
    """
    done = []
    if volume.is_open:
        done = [f"{volume.mount}: unmounted, once what needs it has stopped", f"{volume.device}: closed"]
        if not dry_run:
            _close(volume)
    if not dry_run:
        disk = disks.find(volume.serial)
        header = disks.judge(disk, volume.mapper)
        if header is not None and header.locking_range is not None:
            hint = "airgap unlock, then airgap drive lock; or power the drive off and on"
            require_locked(Sed(disk.path), [header.data_offset], hint)
    return done


def _close(volume: Volume) -> None:
    # What needs the mount (the engine) is bound to it: systemd stops that first.
    run(["systemctl", "stop", volume.mount_unit], timeout_s=180)
    if volume.is_mounted:
        raise ProgramFailed(f"{volume.mount}: still mounted, something uses it", f"fuser -vm {volume.mount}")
    run(["cryptsetup", "close", volume.mapper])


def _make(drive: Drive, mode: Mode, wanted: Wanted, passphrase: str) -> None:
    """Write the header; without an escrow, dm-crypt and one passphrase are all there is."""
    drive.pending.note(Known.MAKING)
    erase.forget_former_life(drive)
    if drive.escrow is None:
        drive.luks.format(mode, passphrase)
    else:
        own.own(drive, mode, wanted, passphrase)


def mount(volume: Volume) -> None:
    """Mount the opened volume through its unit."""
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "start", volume.mount_unit], timeout_s=600)
    if not volume.is_mounted:
        raise ProgramFailed(f"{volume.mount}: expected {volume.device}, found another mount", "findmnt")
