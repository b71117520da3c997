"""A self-encrypting drive that the TPM opens at boot: Opal's commands out of the unit's sandbox, under Secure Boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from custody.trust.keys import PrivateKey
from tests.vm import role_host
from tests.vm.life import FIRST, SECOND, TEXT, Life
from tests.vm.test_unattended import COMMAND, opened, restart
from tests.vm.uefi import UefiMachine

pytestmark = pytest.mark.nightly

#: The drive is a process of this guest: it is there before whatever looks for it, as a real one is.
_THERE_FIRST = """\
[Unit]
Before=airgap-unattended.service
[Service]
ExecStartPost=/bin/sh -c "until grep -qs OPAL0001 /sys/block/nvme*/device/serial; do sleep 1; done; udevadm settle"
"""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """One drive's life; each test finds it as the one before left it."""
    folder = tmp_path_factory.mktemp("unattended-opal")
    with UefiMachine("bench", role_host.host_image(), work_dir=folder) as machine:
        machine.wait_ssh()
        made = Life(role_host.start(machine), tmp_path_factory.mktemp("life"), PrivateKey.generate())
        unit = f"/etc/systemd/system/{made.host.drive.unit}.d"
        machine.run(f"mkdir -p /opt/airgap/current/venv/bin {unit}")
        machine.put(_THERE_FIRST.encode(), f"{unit}/60-first.conf")
        machine.put(COMMAND.encode(), "/opt/airgap/current/venv/bin/airgap", 0o755)
        yield made


def open_with_the_data(life: Life) -> bool:
    """Whether the volume is open without anybody's doing, and holds what was written."""
    return opened(life.host) and life.host.machine.get("/srv/airgap/models/words.txt").startswith(TEXT)


def test_it_opens_at_the_next_boot(life: Life) -> None:
    said = life.host.role(storage_unattended=True, **life.variables()).text
    assert "failed=0" in said, said[-4000:]
    assert "0: hw-opal-crypt" in life.host.machine.run(f"cryptsetup luksDump {life.host.drive.device}").text
    life.host.machine.put(TEXT * 100, "/srv/airgap/models/words.txt")
    restart(life.host)
    assert open_with_the_data(life)


def test_after_a_rotation_too_and_with_the_header_that_it_left_in_the_escrow(life: Life) -> None:
    given = ("--secrets", life.secrets_file(), "--new-passphrase-file", life.host.secret("new", SECOND))
    life.airgap("drive", "rotate", "OPAL0001", *given, stdin=FIRST)
    restart(life.host)
    assert open_with_the_data(life)

    life.airgap("drive", "lock")
    assert life.reads_fail()
    life.host.machine.run(f"dd if=/dev/zero of={life.host.drive.device} bs=1M count=8 oflag=direct status=none")
    life.host.machine.put(life.decrypt("OPAL0001-0002.header.cms"), "/run/header", 0o600)
    restored = ("restore-header", "OPAL0001", "--header", "/run/header", "--secrets", life.secrets_file())
    assert "then airgap drive seal" in life.airgap("drive", *restored)
    restart(life.host)
    assert open_with_the_data(life)
