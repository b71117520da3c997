"""The emulated drive is a self-encrypting drive to a stock kernel, and to three programs that know such drives."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.vm.machine import Machine
from tests.vm.opal import OpalGuestDrive
from tests.vm.ssh import Result

pytestmark = pytest.mark.nightly  # test_drive_role.py meets the same kernel and tools every day

_PASSPHRASE, _PIN = "correct horse", "Admin-pin-1"
_FAST = "-q --pbkdf pbkdf2 --pbkdf-force-iterations 1000"
_PLAIN = (b"known plaintext. " * 256)[:4096]
_DATA_BYTES = 16 << 20  # where the range begins: after the LUKS header
_DIRECT = "bs=4096 count=1 iflag=direct status=none"
# Looks at everything that was ever written to the image, and not at its holes.
_SEARCH = """\
import os
found, at = 0, 0
with open({image!r}, "rb") as stream:
    end = stream.seek(0, os.SEEK_END)
    while at < end:
        try:
            start = os.lseek(stream.fileno(), at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
        found += os.pread(stream.fileno(), at - start, start).count({piece!r})
print(found, "pieces")
"""


@pytest.fixture(scope="module")
def drive() -> Iterator[OpalGuestDrive]:
    """A new drive in a guest; each test finds it as the one before left it."""
    with Machine("bench") as machine:
        machine.wait_ssh()
        drive = OpalGuestDrive(machine)
        drive.start()
        yield drive


def secret(drive: OpalGuestDrive, command: str, *lines: str, check: bool = True) -> Result:
    """Run a command with secrets as lines on its stdin."""
    return drive.guest.run(command, stdin="".join(f"{line}\n" for line in lines).encode(), check=check)


def state(drive: OpalGuestDrive) -> tuple[bool, bool]:
    """Whether locking is enabled and something locked; all who can say agree."""
    queried = drive.guest.run(f"sedutil-cli --query {drive.device}").text
    by_sedutil = tuple(f"{word} = Y," in queried for word in ("LockingEnabled", "Locked"))
    discovered = drive.guest.run(f"nvme sed discover {drive.device}").text
    by_nvme = tuple(bool(re.search(rf"{word} +: yes", discovered)) for word in ("Feature Enabled", "Locked"))
    status = drive.status()
    assert by_sedutil == by_nvme == (status["active"], status["locked"])
    return by_nvme[0], by_nvme[1]


def read_fails(drive: OpalGuestDrive, device: str, skip_blocks: int = 0) -> None:
    """The kernel says ENODATA; it does so to whoever reads past its page cache, others get EIO."""
    read = drive.guest.run(f"dd if={device} of=/dev/null skip={skip_blocks} {_DIRECT}", check=False)
    assert read.rc == 1
    assert b"No data available" in read.stderr


def test_a_stock_kernel_sees_a_new_drive(drive: OpalGuestDrive) -> None:
    assert drive.device == "/dev/nvme0n1"
    assert re.search(r"^/dev/nvme0 +2 +Emulated Opal drive", drive.guest.run("sedutil-cli --scan").text, re.M)
    assert state(drive) == (False, False)
    assert not drive.status()["owned"]


def test_tools_agree_about_a_formatted_drive(drive: OpalGuestDrive) -> None:
    secret(drive, f"cryptsetup luksFormat --type luks2 --hw-opal {_FAST} {drive.device}", _PASSPHRASE, _PIN)
    dump = drive.guest.run(f"cryptsetup luksDump {drive.device}").text
    assert "0: hw-opal-crypt" in dump
    assert re.search(r"OPAL segment number: +1$", dump, re.M)
    assert f"offset: {_DATA_BYTES} [bytes]" in dump
    assert drive.status()["owned"]
    assert state(drive) == (True, True)
    read_fails(drive, drive.device, _DATA_BYTES // 4096)


def test_a_wrong_passphrase_and_a_wrong_pin_change_nothing(drive: OpalGuestDrive) -> None:
    device, header = drive.device, "dd if=/dev/nvme0n1 bs=1M count=16 status=none | sha256sum"
    before = drive.guest.run(header).text
    assert secret(drive, f"cryptsetup open {device} volume", "wrong", check=False).rc == 2
    assert secret(drive, f"cryptsetup luksErase -q {device}", "wrong", check=False).rc == 1
    assert drive.guest.run(header).text == before
    assert state(drive) == (True, True)


def test_the_medium_holds_noise(drive: OpalGuestDrive) -> None:
    """Without dm-crypt, what lies on the medium is what the drive makes of it."""
    device = drive.device
    secret(drive, f"cryptsetup luksFormat --type luks2 --hw-opal-only {_FAST} {device}", _PASSPHRASE, _PIN)
    secret(drive, f"cryptsetup open {device} volume", _PASSPHRASE)
    drive.guest.run("dd of=/dev/mapper/volume bs=4096 oflag=direct status=none", stdin=_PLAIN)
    assert drive.guest.run(f"dd if={device} skip={_DATA_BYTES // 4096} {_DIRECT}").stdout == _PLAIN
    raw = drive.peek(_DATA_BYTES, len(_PLAIN))
    assert len(set(raw)) > 250
    assert not any(_PLAIN[at : at + 8] in raw for at in range(17))
    assert drive.script(_SEARCH.format(image=drive.image, piece=_PLAIN[:8])) == "0 pieces"


def test_a_power_cycle_locks_what_was_open(drive: OpalGuestDrive) -> None:
    device = drive.power_cycle()
    assert state(drive) == (True, True)
    read_fails(drive, "/dev/mapper/volume")
    drive.guest.run("cryptsetup close volume")
    secret(drive, f"cryptsetup open {device} volume", _PASSPHRASE)
    assert drive.guest.run(f"dd if=/dev/mapper/volume {_DIRECT}").stdout == _PLAIN
    drive.guest.run("cryptsetup close volume")
    read_fails(drive, device, _DATA_BYTES // 4096)


def test_a_session_left_open_ends_with_power(drive: OpalGuestDrive) -> None:
    """Whoever dies inside a session leaves none for the kernel; the drive's own restart is a power cycle, too."""
    leave = (
        "from tests.opal_drive import client, linux, uids\n"
        f"client.OpalHost(linux.Passthrough({drive.device!r})).start(uids.ADMIN_SP)\n"
    )
    opened = f"cryptsetup open {drive.device} volume"
    for restore in (drive.power_cycle, drive.kill):
        drive.script(leave)
        assert secret(drive, opened, _PASSPHRASE, check=False).rc != 0
        restore()
        drive.wait()
        secret(drive, opened, _PASSPHRASE)
        drive.guest.run("cryptsetup close volume")


def test_a_revert_by_the_label_makes_it_new(drive: OpalGuestDrive) -> None:
    erase = f"cryptsetup luksErase -q --hw-opal-factory-reset --key-file /run/psid {drive.device}"
    for psid, rc in (("WRONG", 2), (drive.psid, 0)):
        drive.guest.put(psid.encode(), "/run/psid", 0o600)
        assert drive.guest.run(erase, check=False).rc == rc
    assert state(drive) == (False, False)
    assert not drive.status()["owned"]
