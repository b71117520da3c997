"""A burn that was killed at random points, run again, ends as if it had never been stopped."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import bundles
from tests.killing import points
from tests.vm import path
from tests.vm.machine import Machine
from tests.vm.qemu import Share

#: After so many kills in a row the burn is let through to its end.
_ROW = 4


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.nightly)])
def test_burn_goes_on(bundled: path.Walk, tmp_path: Path, kills: int) -> None:
    made = bundles.make(tmp_path / "small", {**bundles.PAYLOAD, "data/files/large": bytes(range(256)) * (32 << 10)})
    guest, shares = path.workstation_image(bundled.bundle), {"bundle": Share(made.folder.parent)}
    with Machine("workstation", guest, disks={"medium": tmp_path / "medium.img"}, shares=shares) as machine:
        machine.wait_ssh()
        machine.mount_share("bundle", "/mnt")
        machine.put(b"correct horse battery", "/run/passphrase", 0o600)
        disk = machine.disk_path(path.MEDIUM_SERIAL)
        burn = (
            f"/opt/airgap/bin/airgap burn /mnt/{made.folder.name} {disk} --fingerprint {made.fingerprint} "
            f"--serial {path.MEDIUM_SERIAL} --passphrase-file /run/passphrase"
        )
        for _ in range(2):  # the first one fills caches, and takes longer than those that are to be killed
            begun_s = time.monotonic()
            machine.run(burn, timeout_s=600)
        killed = 0
        for number, point_s in enumerate(points("burn", kills, time.monotonic() - begun_s)):
            told = machine.run(f"{burn} >/run/said 2>&1 & sleep {point_s:.2f}; kill -9 $!; wait $!", check=False)
            killed += told.rc == 137
            if number % _ROW == _ROW - 1:
                # Every leaf is read back before it says that it is done.
                assert b"Every leaf was read back" in machine.run(burn, timeout_s=600).stdout, f"after point {number}"
                assert machine.run("ls /dev/mapper; losetup --list; grep airgap /proc/mounts", check=False).text in (
                    "control",
                    "",
                )
        assert killed >= kills * 3 // 4
