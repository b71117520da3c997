"""What a data volume that opens by itself takes: a TPM that measured the boot, and a root that nobody can change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bundler.install.preflight.disk import block_devices, parts_of
from bundler.install.preflight.driver import secure_boot
from bundler.install.preflight.finding import Case, Finding, read

_TPM = "/sys/class/tpm/tpm0"
_WHAT = "storage.unattended"


def check_unattended(case: Case) -> Iterator[Finding]:
    """Silent unless the site file wants it."""
    wanted = case.site.storage.unattended
    if wanted is None:
        return
    if read(case.at(f"{_TPM}/tpm_version_major")) != "2":
        yield Finding(_WHAT, "a TPM 2.0", "none", "switch it on in the firmware, or take storage.unattended out")
        return
    # PCR 7 as all zeros or all ones was never extended: a key sealed to it would be sealed to nothing.
    if not set(read(case.at(f"{_TPM}/pcr-sha256/7")).upper()) - set("0F"):
        remedy = "boot by UEFI with its TPM's SHA-256 bank on, or take storage.unattended out"
        yield Finding(_WHAT, "a boot that is measured into PCR 7", "PCR 7 never extended", remedy)
    lacking = []
    if not root_is_encrypted(block_devices(case.root)):
        lacking.append("a root file system in the clear: whoever takes the host may change what runs on it")
    if not secure_boot(case):
        lacking.append("Secure Boot off: PCR 7 says nothing of what was started")
    for found in lacking:
        expected = "an encrypted root, Secure Boot on"
        if wanted.risk_accepted:
            yield Finding(_WHAT, expected, found, f"accepted by the site: {wanted.risk_accepted}", False)
        else:
            yield Finding(_WHAT, expected, found, "mend it, or name who accepts it: storage.unattended.risk_accepted")


def root_is_encrypted(devices: list[dict[str, Any]]) -> bool:
    """Whether `/` lies on dm-crypt, perhaps with volume groups between.

    Args:
        devices: as `block_devices` tells them.
    """
    encrypted = (part for device in devices for part in parts_of(device) if part["type"] == "crypt")
    return any("/" in part["mountpoints"] for volume in encrypted for part in parts_of(volume))
