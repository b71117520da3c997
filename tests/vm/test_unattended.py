"""A volume that the TPM opens at boot, on a stock Debian 13 under UEFI with Secure Boot: and what keeps it shut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import role_host
from tests.vm.role_host import RoleHost
from tests.vm.uefi import UefiMachine

pytestmark = pytest.mark.nightly

PASSPHRASE = "passphrase-of-the-volume"
TEXT = b"what nobody but the site may read. "
_MAIN = "import sys; from bundler.cli import main; main(sys.argv[1:])"
COMMAND = f"""\
#!/bin/sh
export PYTHONPATH={role_host.SITE}:{role_host.CODE}
exec python3 -c '{_MAIN}' "$@"
"""
_UNIT = "airgap-unattended.service"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleHost]:
    """A host whose volume opens by itself; each test finds it as the one before left it."""
    folder = tmp_path_factory.mktemp("unattended")
    with UefiMachine("bench", role_host.host_image(), work_dir=folder) as machine:
        machine.wait_ssh()
        made = RoleHost(machine, "AIRGAPDATA01")
        made.bring_code()
        machine.run("mkdir -p /opt/airgap/current/venv/bin")
        machine.put(COMMAND.encode(), "/opt/airgap/current/venv/bin/airgap", 0o755)
        yield made


def install(host: RoleHost) -> str:
    """Run the role; returns what it said."""
    variables = {"storage_mode": "luks", "storage_unattended": True}
    done = host.role(storage_passphrase_file=host.secret("passphrase", PASSPHRASE), **variables)
    assert "failed=0" in done.text, done.text[-4000:]
    return done.text


def restart(host: RoleHost, *, secure_boot: bool = True) -> None:
    """Switch the host off and on."""
    machine = host.machine
    assert isinstance(machine, UefiMachine)
    machine.secure_boot = secure_boot
    machine.power_cycle()
    machine.run("systemctl is-system-running --wait", check=False)


def opened(host: RoleHost) -> bool:
    """Whether the volume is open and mounted, and the unit says the same."""
    mounted = host.machine.run("findmnt -no SOURCE /srv/airgap", check=False).text == "/dev/mapper/airgap-data"
    said = host.machine.run(f"systemctl is-active {_UNIT}", check=False).text
    assert (said == "active") is mounted, host.machine.run(f"journalctl -b -u {_UNIT} --no-pager").text
    return mounted


def test_the_host_was_started_with_secure_boot_and_measured(host: RoleHost) -> None:
    state = host.machine.run("od -An -t u1 -j 4 /sys/firmware/efi/efivars/SecureBoot-*").text.strip()
    assert state == "1"
    assert set(host.machine.run("cat /sys/class/tpm/tpm0/pcr-sha256/7").text) - set("0F")


def test_a_volume_opens_at_the_next_boot(host: RoleHost) -> None:
    install(host)
    host.machine.put(TEXT * 100, "/srv/airgap/models/words.txt")
    restart(host)
    assert opened(host)
    assert host.machine.get("/srv/airgap/models/words.txt").startswith(TEXT)


def test_a_second_run_changes_nothing(host: RoleHost) -> None:
    assert "changed=0" in install(host)


def test_other_secure_boot_keys_leave_it_shut_until_it_is_sealed_anew(host: RoleHost) -> None:
    restart(host, secure_boot=False)
    assert not opened(host)
    assert host.airgap("unlock", "--wait", "0", stdin=PASSPHRASE).rc == 0
    assert host.machine.get("/srv/airgap/models/words.txt").startswith(TEXT)
    assert host.airgap("drive", "seal", stdin=PASSPHRASE).rc == 0
    restart(host, secure_boot=False)
    assert not host.machine.run("systemctl list-units --failed --plain --no-legend").text
    # The unit stands on the state that was sealed last.
    assert opened(host)
    restart(host)
    assert not opened(host)


def test_locked_by_hand_it_stays_locked_until_the_next_boot(host: RoleHost) -> None:
    assert host.airgap("unlock", "--wait", "0", stdin=PASSPHRASE).rc == 0
    assert host.airgap("drive", "seal", stdin=PASSPHRASE).rc == 0
    restart(host)
    assert opened(host)
    assert host.airgap("drive", "lock").rc == 0
    assert host.machine.run("findmnt /srv/airgap", check=False).rc == 1


def test_a_moved_disk_stays_shut_in_another_machine(host: RoleHost, tmp_path: Path) -> None:
    """Everything of the host but its TPM: disks, EFI variables, the sealed key on the root file system."""
    host.machine.stop()
    folder = host.machine.work_dir
    (folder / "tpm").rename(folder / "tpm-of-the-first")
    try:
        host.machine.start()
        host.machine.wait_ssh()
        host.machine.run("systemctl is-system-running --wait", check=False)
        assert not opened(host)
    finally:
        host.machine.stop()
        (folder / "tpm").rename(folder / "tpm-of-the-second")
        (folder / "tpm-of-the-first").rename(folder / "tpm")
        host.machine.start()
        host.machine.wait_ssh()


def test_turned_off_it_waits_for_its_passphrase(host: RoleHost) -> None:
    done = host.role(storage_passphrase_file=host.secret("passphrase", PASSPHRASE), storage_mode="luks")
    assert "no longer opened by the TPM" in done.text
    restart(host)
    assert host.machine.run("findmnt /srv/airgap", check=False).rc == 1
    assert not host.machine.run("systemctl list-units --failed --plain --no-legend").text
    assert host.airgap("unlock", "--wait", "0", stdin=PASSPHRASE).rc == 0
