"""The data volume: LUKS2 on a whole disk, ext4 inside, opened by a passphrase and mounted by systemd.

The passphrase goes to cryptsetup through standard input. Formats a blank disk and nothing else; opens only a header
that `disks.judge` accepts. Nothing here is pulled in at boot: a locked volume delays and fails nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.drive import disks
from appliance.files import Folder, place
from custody._run import run
from custody.errors import ProgramFailed, SecretRefused, TargetRefused

LABEL = "airgap-data"

#: cryptsetup's exit status for "no permission", which is what a wrong passphrase is.
_WRONG_PASSPHRASE = 2


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


def prepare(volume: Volume, passphrase: str, folders: Sequence[Folder], *, dry_run: bool = False) -> list[str]:
    """Make sure that the volume exists, is open, is mounted and has its folders.

    Returns:
        What was, or would be, done, one line each; empty when nothing.

    Raises:
        TargetRefused: see `disks`. Nothing was changed.
        SecretRefused: the volume exists and has another passphrase.
    """
    disk = disks.find(volume.serial)
    if volume.is_open and str(volume.device) not in {path for path, _kind, _mounted in disk.inside}:
        raise TargetRefused(f"{volume.device}: expected it on {disk}, found it on another disk", "lsblk")
    done = []
    if not disks.judge(disk, LABEL, volume.mapper):
        done.append(f"{disk}: formatted")
        if not dry_run:
            _format(disk, passphrase)
    if not volume.is_open:
        done.append(f"{volume.device}: opened")
        if not dry_run:
            _open(disk, volume, passphrase)
    if not dry_run and not disks.probe(volume.device):
        run(["mkfs.ext4", "-q", "-L", LABEL, "-m", "0", volume.device], timeout_s=3600)
        done.append(f"{volume.device}: ext4 made")
    if not volume.is_mounted:
        done.append(f"{volume.mount}: mounted")
        if not dry_run:
            mount(volume)
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
        if not disks.judge(disk, LABEL, volume.mapper):
            raise TargetRefused(f"{disk}: expected this host's data volume, found a blank disk", "airgap install")
        done.append(f"{disk}: opened as {volume.device}")
        if not dry_run:
            _open(disk, volume, passphrase)
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


def mount(volume: Volume) -> None:
    """Mount the opened volume through its unit."""
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "start", volume.mount_unit], timeout_s=600)
    if not volume.is_mounted:
        raise ProgramFailed(f"{volume.mount}: expected {volume.device}, found another mount", "findmnt")


def _format(disk: disks.Disk, passphrase: str) -> None:
    arguments = ["--type", "luks2", "--cipher", disks.CIPHER, "--key-size", "512", "--pbkdf", disks.KDF]
    arguments += ["--pbkdf-memory", str(disks.MAX_MEMORY_KIB), "--label", LABEL, "--batch-mode", "--key-file", "-"]
    run(["cryptsetup", "luksFormat", *arguments, disk.path], stdin=passphrase.encode(), timeout_s=300)


def _open(disk: disks.Disk, volume: Volume, passphrase: str) -> None:
    arguments = ["open", "--type", "luks2", "--key-file", "-", str(disk.path), volume.mapper]
    done = run(["cryptsetup", *arguments], stdin=passphrase.encode(), ok=(0, _WRONG_PASSPHRASE), timeout_s=300)
    if done.returncode == _WRONG_PASSPHRASE:
        raise SecretRefused(f"{disk}: the passphrase does not open it", "type it again; escrow has the other copy")
