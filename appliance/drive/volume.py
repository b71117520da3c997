"""The data volume: LUKS2 on a whole disk, ext4 inside, opened by a passphrase and mounted by systemd.

Formats a blank disk and nothing else; opens only a header that `disks.judge` accepts. Nothing here is pulled in at
boot: a locked volume delays and fails nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.drive import disks, own, unattended
from appliance.drive.drive import Drive
from appliance.drive.escrow import Escrow
from appliance.drive.luks import LABEL, Luks, Mode
from appliance.drive.own import Wanted
from appliance.drive.pending import OWN
from appliance.drive.unattended import Sealed
from appliance.files import Folder, place
from custody._run import run
from custody.errors import InputInvalid, ProgramFailed, TargetRefused
from custody.report import Reporter, SilentReporter


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
        TargetRefused: see `disks` and `own`. Nothing was changed.
        SecretRefused: the volume exists and has another passphrase, or an owned drive another PIN.
        InputInvalid: no escrow key for a drive that encrypts.
    """
    disk = disks.find(volume.serial)
    if volume.is_open and str(volume.device) not in {path for path, _kind, _mounted in disk.inside}:
        raise TargetRefused(f"{volume.device}: expected it on {disk}, found it on another disk", "lsblk")
    done = []
    drive = Drive.on(disk, volume.mapper, escrow, reporter)
    header = disks.judge(disk, volume.mapper)
    if header is None or drive.pending.what == OWN:
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
    if not dry_run and not disks.probe(volume.device):
        run(["mkfs.ext4", "-q", "-L", LABEL, "-m", "0", volume.device], timeout_s=3600)
        done.append(f"{volume.device}: ext4 made")
    if not volume.is_mounted:
        done.append(f"{volume.mount}: mounted")
        if not dry_run:
            mount(volume)
    if header is not None or not dry_run:
        done += unattended.settle(drive.luks, passphrase, wanted=opens_itself, sealed=sealed, dry_run=dry_run)
    if not dry_run:
        done += [f"{change.path}: {change.what}" for change in place([], folders)]
    return done


def unlock(volume: Volume, passphrase: str, *, dry_run: bool = False) -> list[str]:
    """Open and mount the volume.

    Returns:
        What was, or would be, done, one line each; empty when nothing.

    Raises:
        TargetRefused: the disk is not there or not ours.
        SecretRefused: the passphrase is wrong.
    """
    done = []
    if not volume.is_open:
        disk = disks.find(volume.serial)
        if disks.judge(disk, volume.mapper) is None:
            raise TargetRefused(f"{disk}: expected this host's data volume, found a blank disk", "airgap install")
        done.append(f"{disk}: opened as {volume.device}")
        if not dry_run:
            Luks(disk.path).open(passphrase, volume.mapper)
    if not volume.is_mounted:
        done.append(f"{volume.mount}: mounted")
        if not dry_run:
            mount(volume)
    return done


def lock(volume: Volume, *, dry_run: bool = False) -> list[str]:
    """Unmount and close the volume, its key is gone from memory; returns as `unlock`."""
    if not volume.is_open:
        return []
    done = [f"{volume.mount}: unmounted, once what needs it has stopped", f"{volume.device}: closed"]
    if dry_run:
        return done
    # What needs the mount (the engine) is bound to it: systemd stops that first.
    run(["systemctl", "stop", volume.mount_unit], timeout_s=180)
    if volume.is_mounted:
        raise ProgramFailed(f"{volume.mount}: still mounted, something uses it", f"fuser -vm {volume.mount}")
    run(["cryptsetup", "close", volume.mapper])
    return done


def _make(drive: Drive, mode: Mode, wanted: Wanted, passphrase: str) -> None:
    """Write the header; without an escrow, dm-crypt and one passphrase are all there is."""
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
