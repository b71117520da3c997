"""The role storage: what it writes and refuses. A container has no device mapper and no disk: the rest is the VM's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def test_the_mount_unit_is_sound_and_not_pulled_in(host: Any) -> None:
    unit = host.check_output("systemctl cat srv-airgap.mount")
    assert "Options=nodev,nosuid,noexec,noatime" in unit
    assert host.check_output("systemctl is-enabled srv-airgap.mount") == "static"
    assert host.run("systemd-analyze verify --man=no srv-airgap.mount").stderr.strip() == ""
    assert host.check_output("systemctl show --property=Requires --value srv-airgap.mount").find("dev-mapper") >= 0


def test_the_unit_that_unlocks_at_boot_waits_for_a_sealed_key(host: Any, exposure: Callable[..., None]) -> None:
    assert host.run("systemd-analyze verify --man=no airgap-unattended.service").stderr.strip() == ""
    assert not host.file("/var/lib/airgap/unattended.cred").exists
    exposure("airgap-unattended.service")


def test_unlock_is_told_the_disk(host: Any) -> None:
    told = json.loads(host.check_output("cat /etc/airgap/storage.json"))
    assert (told["serial"], told["mapper"], told["mount"]) == ("AIRGAPDATA01", "airgap-data", "/srv/airgap")
    assert told["unattended"] is False


def test_a_host_without_the_disk_is_refused(host: Any, whole_role: Callable[..., str]) -> None:
    assert "disk with serial AIRGAPDATA01: expected exactly one, found none" in whole_role("storage")
    assert not host.file("/dev/mapper/airgap-data").exists


def test_a_passphrase_that_others_can_read_is_refused(host: Any, whole_role: Callable[..., str]) -> None:
    host.check_output("install -m 0644 /run/secrets-in/data-passphrase /run/secrets-in/open")
    said = whole_role("storage", "--extra-vars", "storage_passphrase_file=/run/secrets-in/open")
    assert "/run/secrets-in/open" in said
    assert "0600" in said
    host.check_output("rm /run/secrets-in/open")


def test_a_mount_point_that_systemd_can_not_spell_is_refused(whole_role: Callable[..., str]) -> None:
    assert "plain mount point" in whole_role("storage", "--extra-vars", "storage_mount=/srv/air-gap")
