"""The release, drives, models, clock and units, as they are. Reads, changes nothing, opens no volume."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from appliance import engine, gpu, hostkey, release
from appliance.drive import config, disks, luks, unattended
from appliance.drive.pending import Pending
from appliance.drive.volume import locked_itself
from appliance.status.line import Line, line
from custody._run import run

CHRONY_FILE = Path("/etc/chrony/chrony.conf")
_SWAPS = Path("/proc/swaps")
_EXT4 = Path("/sys/fs/ext4")

#: Share of the data volume in use from which a next release may not fit, and from which logs may not.
_FILL_WARNING, _FILL_BAD = 0.85, 0.95


def look_at_release() -> Iterator[Line]:
    """Which release is in use, and by whose word."""
    topic, now, state = "release", release.current(), release.accepted()
    if now is None:
        yield line(topic, "in use", "none: airgap install", bad=True)
    else:
        version, epoch = now.facts["version"], now.facts["security_epoch"]
        yield line(topic, "in use", f"{now.name}, version {version}, epoch {epoch}")
        yield line(topic, "since", _day(now.since_s))
        if state.get("release") != now.name:
            found = f"{state.get('release') or 'none'}: the installation of {now.name} did not end"
            yield line(topic, "accepted", found, bad=True)
    pin = state.get("root_fingerprint")
    yield line(topic, "root", _grouped(pin) if pin else "none pinned", bad=not pin)
    there = hostkey.FILE.exists()
    yield line(topic, "host key", _grouped(hostkey.load().public.keyid) if there else "none yet: airgap inventory")


def look_at_drives() -> Iterator[Line]:
    """The data disk: found by its serial, its header ours, open or not, how full."""
    topic, settings = "drives", config.load()
    volume, disk = settings.volume, disks.find(settings.serial)
    ours = disks.judge(disk, settings.mapper)
    header = f"LUKS2, {ours.mode}, {luks.KDF}" if ours else "blank, no volume on it"
    yield line(topic, f"disk {disk.serial}", f"{disk.path}, {disk.size_bytes / 1e9:.1f} GB, {header}", bad=not ours)
    if begun := Pending(disk.serial).what:
        yield line(topic, "secrets", f"their change ({begun}) was cut off: run the same command again", bad=True)
    if not volume.is_open:
        yield line(topic, "volume", "locked: airgap unlock", warning=True)
    elif not volume.is_mounted:
        yield line(topic, "volume", "open and not mounted: airgap unlock", bad=True)
    elif locked_itself(disk, ours):
        yield line(topic, "volume", "open, and the drive locked itself: airgap unlock", bad=True)
    else:
        usage = shutil.disk_usage(volume.mount)
        fill = usage.used / usage.total
        found = f"open, at {volume.mount}, {fill:.0%} of {usage.total / 1e9:.1f} GB used"
        yield line(topic, "volume", found, bad=fill > _FILL_BAD, warning=fill > _FILL_WARNING)
        errors = _file_system_errors(volume.device)
        found = f"{errors} errors since its last repair: journalctl --dmesg --grep=EXT4-fs" if errors else "no error"
        yield line(topic, "file system", found, bad=errors > 0)
    if settings.unattended:
        opens = unattended.Sealed().opens
        found = f"by the TPM, PCR {unattended.PCRS}" if opens else "not by the TPM any more: airgap drive seal"
        yield line(topic, "at boot", found, warning=not opens)
    swaps = [row.split()[0] for row in _SWAPS.read_text().splitlines()[1:]]
    yield line(topic, "swap", ", ".join(swaps) or "none", bad=bool(swaps))


def look_at_models() -> Iterator[Line]:
    """The release's models: there in full, and which of them is served."""
    now = release.current()
    if now is None:
        return
    volume = config.load().volume
    served = {each.name for each in engine.load()}
    for model in now.models:
        size = f"{model.size_bytes / 1e9:.2f} GB, {'served' if model.name in served else 'not served'}"
        if not volume.is_mounted:
            yield line("models", model.name, f"{size}, on the locked volume", warning=True)
            continue
        file = volume.mount / "models" / now.name / model.file
        there = file.stat().st_size if file.is_file() else None
        if there != model.size_bytes:
            size = f"expected {model.size_bytes} bytes, found {'no file' if there is None else there}"
        yield line("models", model.name, size, bad=there != model.size_bytes)


def look_at_gpus() -> Iterator[Line]:
    """Whether the GPUs are what the release was locked for and the site asked for; nothing without the role gpu."""
    if gpu.CONFIG.exists():
        wanted = gpu.load()
        left = gpu.prepare(wanted, dry_run=True)
        found = (
            f"to do: {'; '.join(left)}: airgap gpu" if left else f"driver {wanted.driver}, cards and layout as wanted"
        )
        yield line("gpu", "state", found, bad=bool(left))


def look_at_clock() -> Iterator[Line]:
    """Whether the clock is later than the release, and who keeps it."""
    now, time_s = release.current(), time.time()
    floor_s = int(now.facts["source_date_epoch"]) if now else 0
    # timedatectl(1) refuses to set a clock while a time service runs; the page has the commands.
    remedy = "stop chrony, then timedatectl set-time (troubleshooting.md)"
    late = "" if time_s >= floor_s else f", before the release's {_day(floor_s)}: {remedy}"
    yield line("clock", "time", _day(time_s) + late, bad=bool(late))
    sources = [row.split()[1] for row in CHRONY_FILE.read_text().splitlines() if row.startswith("server ")]
    if not sources:
        yield line("clock", "kept by", "its own clock; the site names no time source")
        return
    # chronyc(1), tracking as CSV: reference, name, stratum, ..., offset in seconds at 4, leap status last.
    fields = run(["chronyc", "-c", "tracking"], ok=(0, 1), timeout_s=5).text.split(",")
    if fields[-1] in ("", "Not synchronised") or len(fields) < 14:
        yield line("clock", "kept by", f"not synchronised with {', '.join(sources)}: chronyc sources", warning=True)
    else:
        yield line("clock", "kept by", f"{fields[1]}, stratum {fields[2]}, {float(fields[4]) * 1e3:+.1f} ms")


def look_at_units() -> Iterator[Line]:
    """Units that have failed, ours or not."""
    listing = json.loads(run(["systemctl", "list-units", "--state=failed", "--output=json"]).text or "[]")
    failed = [entry["unit"] for entry in listing]
    yield line("units", "failed", ", ".join(failed) or "none", bad=bool(failed))


def _file_system_errors(device: Path) -> int:
    """What ext4 has counted, over every mount until it is repaired (ext4(5), "errors"; the kernel's ABI/testing)."""
    count = _EXT4 / device.resolve().name / "errors_count"
    return int(count.read_text()) if count.exists() else 0


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _grouped(digits: str) -> str:
    """64 hexadecimal digits as people compare them."""
    return " ".join(digits[n : n + 8] for n in range(0, len(digits), 8))
