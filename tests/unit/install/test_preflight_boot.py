"""What a volume that opens by itself takes, on hosts with and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundler.install.preflight.boot import check_unattended, root_is_encrypted
from bundler.install.preflight.finding import Finding
from tests.unit.install.hosts import FakeHost

MEASURED = "B5710BF57D25623E4019027DA116821FA99F5C81E9E38B87671CC574F9281439"
REASON = "Dr. Weber, 2026-11-20: locked cage, risk assessment 17"
PLAIN, NO_SECURE_BOOT = "a root file system in the clear", "Secure Boot off"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """With a measured boot, Secure Boot, and a plain root."""
    made = FakeHost(tmp_path)
    made.write("/sys/class/tpm/tpm0/tpm_version_major", "2\n")
    made.write("/sys/class/tpm/tpm0/pcr-sha256/7", f"{MEASURED}\n")
    made.efi("SecureBoot", b"\x01")
    made.site["storage"]["unattended"] = {}
    return made


def found(host: FakeHost) -> list[Finding]:
    return list(check_unattended(host.case()))


def encrypt_root(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lsblk tell of a root on dm-crypt; as files it takes a kernel's whole view of device-mapper."""
    tree = [disk(part(None, crypt("/")))]
    monkeypatch.setattr("bundler.install.preflight.boot.block_devices", lambda _root: tree)


def disk(*children: dict[str, Any]) -> dict[str, Any]:
    return {"path": "/dev/vda", "type": "disk", "mountpoints": [None], "children": list(children)}


def part(mounted: str | None, *children: dict[str, Any]) -> dict[str, Any]:
    return {"path": "/dev/vda1", "type": "part", "mountpoints": [mounted], "children": list(children)}


def crypt(mounted: str | None, *children: dict[str, Any]) -> dict[str, Any]:
    return {"path": "/dev/mapper/x", "type": "crypt", "mountpoints": [mounted], "children": list(children)}


def logical(mounted: str) -> dict[str, Any]:
    return {"path": "/dev/mapper/vg-root", "type": "lvm", "mountpoints": [mounted, None]}


def test_silent_unless_wanted(host: FakeHost) -> None:
    del host.site["storage"]["unattended"]
    assert found(host) == []


def test_an_encrypted_root_and_secure_boot_go_on(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypt_root(host, monkeypatch)
    assert found(host) == []


def test_a_plain_root_is_refused_until_somebody_accepts_it(host: FakeHost) -> None:
    (finding,) = found(host)
    assert finding.stops
    assert finding.found.startswith(PLAIN)
    assert "storage.unattended.risk_accepted" in finding.remedy
    host.site["storage"]["unattended"] = {"risk_accepted": REASON}
    (finding,) = found(host)
    assert not finding.stops
    assert REASON in finding.remedy


def test_secure_boot_that_is_off_or_not_there_is_refused_too(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypt_root(host, monkeypatch)
    for file in host.root.glob("sys/firmware/efi/efivars/SecureBoot-*"):
        file.write_bytes(b"\x06\0\0\0\0")
        (finding,) = found(host)
        assert finding.stops and finding.found.startswith(NO_SECURE_BOOT)
        file.unlink()
    (finding,) = found(host)
    assert finding.stops and finding.found.startswith(NO_SECURE_BOOT)


@pytest.mark.parametrize("version", [None, "1"])
def test_no_tpm_2_is_refused_whatever_was_accepted(host: FakeHost, version: str | None) -> None:
    file = host.root / "sys/class/tpm/tpm0/tpm_version_major"
    file.unlink()
    if version:
        file.write_text(version)
    host.site["storage"]["unattended"] = {"risk_accepted": REASON}
    (finding,) = found(host)
    assert finding.stops and finding.expected == "a TPM 2.0"


@pytest.mark.parametrize("value", ["0" * 64, "F" * 64, None])
def test_a_boot_that_nobody_measured_is_refused(host: FakeHost, value: str | None) -> None:
    """systemd would seal the key to nothing, with a warning."""
    file = host.root / "sys/class/tpm/tpm0/pcr-sha256/7"
    file.unlink()
    if value:
        file.write_text(value)
    host.site["storage"]["unattended"] = {"risk_accepted": REASON}
    (first, *others) = found(host)
    assert first.stops and first.found == "PCR 7 never extended"
    assert not any(finding.stops for finding in others)


@pytest.mark.parametrize(
    ("devices", "encrypted"),
    [
        ([disk(part("/"))], False),
        ([disk(part("/boot"), part(None, crypt("/")))], True),
        ([disk(part("/boot"), part(None, crypt(None, logical("/"))))], True),
        ([disk(part("/"), part(None, crypt("/srv/airgap")))], False),
        ([disk(part("/")), disk(crypt(None, logical("/home")))], False),
        ([disk(part(None))], False),
        ([], False),
    ],
)
def test_roots(devices: list[dict[str, Any]], encrypted: bool) -> None:
    assert root_is_encrypted(devices) is encrypted
