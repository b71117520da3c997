"""Describe this host for the next lock: read from the kernel, dpkg and the release, by allow-list. Changes nothing.

The format is `custody.trust.description`; no address, host name, user or secret is in it.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import time
from pathlib import Path
from typing import Literal

from appliance import release
from custody._run import run
from custody.trust.description import Accepted, Disk, Firmware, Gpu, HostDescription
from custody.trust.keys import PublicKey

_DPKG_STATUS = Path("/var/lib/dpkg/status")
_PCI = Path("/sys/bus/pci/devices")
_DRIVER = Path("/sys/module/nvidia/version")
_DMI = Path("/sys/class/dmi/id")
_EFI = Path("/sys/firmware/efi")
#: UEFI specification, 3.3: the variable in the global namespace; four bytes of attributes, then 0 or 1.
_SECURE_BOOT = "efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#: PCI base class 3: display controller.
_DISPLAY = "0x03"


def describe(key: PublicKey) -> HostDescription:
    """This host, as it is now, under its key."""
    system = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )  # os-release(5)
    state = release.accepted()
    return HostDescription(
        schema_version=1,
        host_key=base64.b64encode(key.der).decode(),
        described_at=int(time.time()),
        distribution=system.get("ID", "").strip('"'),
        release=system.get("VERSION_CODENAME", "").strip('"'),
        architecture=run(["dpkg", "--print-architecture"]).text,
        python=".".join(platform.python_version_tuple()[:2]),
        kernel=os.uname().release,
        driver=_text(_DRIVER) or None,
        processors=os.cpu_count() or 0,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        firmware=_firmware(),
        gpus=_gpus(),
        disks=_disks(),
        releases=release.installed(),
        accepted=Accepted(
            root_fingerprint=state.get("root_fingerprint") or "",
            channel=state.get("channel", ""),
            version=state.get("version", 0),
            security_epoch=state.get("security_epoch", 0),
            release=state.get("release") or "",
        ),
        dpkg_status=_DPKG_STATUS.read_text(errors="replace"),
    )


def _gpus(root: Path = _PCI) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(slot=device.name, pci_id=f"{_hex(device / 'vendor')}:{_hex(device / 'device')}")
        for device in (sorted(root.iterdir()) if root.is_dir() else ())
        if _text(device / "class").startswith(_DISPLAY)
    )


def _disks() -> tuple[Disk, ...]:
    columns = "PATH,TYPE,SERIAL,MODEL,SIZE"
    listing = json.loads(run(["lsblk", "--json", "--bytes", "--nodeps", "--output", columns]).text)
    return tuple(
        Disk(
            path=entry["path"],
            serial=(entry["serial"] or "").strip(),
            model=(entry["model"] or "").strip(),
            size_bytes=entry["size"],
        )
        for entry in listing["blockdevices"]
        if entry["type"] == "disk" and entry["size"]
    )


def _firmware(efi: Path = _EFI, dmi: Path = _DMI) -> Firmware:
    mode: Literal["uefi", "bios"] = "uefi" if efi.is_dir() else "bios"
    variable = efi / _SECURE_BOOT
    secure_boot = variable.read_bytes()[4:5] == b"\x01" if variable.is_file() else (False if mode == "uefi" else None)
    return Firmware(
        mode=mode, vendor=_text(dmi / "bios_vendor"), version=_text(dmi / "bios_version"), secure_boot=secure_boot
    )


def _text(file: Path) -> str:
    return file.read_text(errors="replace").strip() if file.is_file() else ""


def _hex(file: Path) -> str:
    return _text(file).removeprefix("0x")
