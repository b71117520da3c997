"""What goes to the kernel, against its header; and every way in which a drive or the kernel says no.

The structures are those of include/uapi/linux/sed-opal.h and nvme_ioctl.h (6.12), written out again for ctypes, which
knows the compiler's rules of alignment.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from ctypes import Structure, sizeof
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from pathlib import Path
from typing import Any

import pytest

from appliance.drive import sed
from appliance.drive.sed import Sed
from custody.errors import DriveFailed, SecretRefused, TargetRefused
from tests.opal_drive.faults import Fault
from tests.unit.appliance.drive.emulated import DATA_OFFSET, EmulatedSed, Machine
from tests.unit.appliance.drive.test_discovery import recorded

PIN, NEW = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", b"ZYXWVTSRQPNMKJHGFEDCBA9876543210"


class Key(Structure):
    _fields_ = [("lr", u8), ("key_len", u8), ("key_type", u8), ("align", u8 * 5), ("key", u8 * 256)]


class Session(Structure):
    _fields_ = [("sum", u32), ("who", u32), ("opal_key", Key)]


class Activate(Structure):
    _fields_ = [("key", Key), ("sum", u32), ("num_lrs", u8), ("lr", u8 * 9), ("align", u8 * 2)]


class LockUnlock(Structure):
    _fields_ = [("session", Session), ("l_state", u32), ("flags", u16), ("align", u8 * 2)]


class NewPassword(Structure):
    _fields_ = [("session", Session), ("new_user_pw", Session)]


class RangeStatus(Structure):
    _fields_ = [
        ("session", Session), ("range_start", u64), ("range_length", u64), ("rle", u32), ("wle", u32), ("l_state", u32),
        ("align", u8 * 4),
    ]  # fmt: skip


class Discover(Structure):
    _fields_ = [("data", u64), ("size", u64)]


class Passthrough(Structure):
    _fields_ = [
        ("opcode", u8), ("flags", u8), ("rsvd1", u16), ("nsid", u32), ("cdw2", u32), ("cdw3", u32), ("metadata", u64),
        ("addr", u64), ("metadata_len", u32), ("data_len", u32), ("cdw10", u32), ("cdw11", u32), ("cdw12", u32),
        ("cdw13", u32), ("cdw14", u32), ("cdw15", u32), ("timeout_ms", u32), ("result", u32),
    ]  # fmt: skip


def iow(number: int, structure: type[Structure], kind: str = "p", *, read: bool = False) -> int:
    """_IOW and _IOWR of asm-generic/ioctl.h."""
    return (3 if read else 1) << 30 | sizeof(structure) << 16 | ord(kind) << 8 | number


class Heard(Sed):
    """A kernel that notes what it is told, and answers with a status, an error, or what a function says."""

    def __init__(self, device: str = "/dev/nvme0n1", status: int = 0, error: int = 0) -> None:
        super().__init__(Path(device))
        self.status, self.error = status, error
        self.calls: list[tuple[int, bytes]] = []
        self.answers: Callable[[int, bytes], None] = lambda _number, _argument: None

    def _device_ioctl(self, number: int, argument: bytearray) -> int:
        self.calls.append((number, bytes(argument)))
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.answers(number, bytes(argument))
        return self.status

    def heard(self, kind: type[Structure]) -> Any:
        ((_number, argument),) = self.calls
        return kind.from_buffer_copy(argument)


def pin(key: Any) -> bytes:
    """The PIN; nothing of the buffer behind it is anything."""
    found = bytes(key.key)
    assert not any(found[key.key_len :])
    assert key.key_type == 0
    assert not any(key.align)
    return found[: key.key_len]


CALLS: list[tuple[Callable[[Sed], None], int]] = [
    (lambda drive: drive.take_ownership(PIN), iow(222, Key)),
    (lambda drive: drive.activate(PIN), iow(223, Activate)),
    (lambda drive: drive.set_admin(PIN, NEW), iow(224, NewPassword)),
    (lambda drive: drive.check_admin(PIN), iow(237, RangeStatus)),
    (lambda drive: drive.unlock(PIN, 3), iow(221, LockUnlock)),
    (lambda drive: drive.lock(PIN, 3), iow(221, LockUnlock)),
    (lambda drive: drive.revert(PIN), iow(226, Key)),
    (lambda drive: drive.revert_by_psid(PIN), iow(232, Key)),
]


@pytest.mark.parametrize(("call", "number"), CALLS)
def test_numbers_and_sizes_are_the_headers(call: Callable[[Sed], None], number: int) -> None:
    drive = Heard()
    call(drive)
    *before, (told, argument) = drive.calls
    assert told == number
    assert len(argument) == number >> 16 & 0x3FFF
    is_switched = number == iow(221, LockUnlock)
    assert [first for first, _argument in before] == ([iow(239, Discover)] if is_switched else [])


def test_the_installed_header_says_the_same(tmp_path: Path) -> None:
    """What a C compiler makes of it; of an older one, what it has."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/linux/sed-opal.h").exists():
        pytest.skip("no C compiler, or no kernel headers")
    wanted = {
        "IOC_OPAL_TAKE_OWNERSHIP": iow(222, Key),
        "IOC_OPAL_ACTIVATE_LSP": iow(223, Activate),
        "IOC_OPAL_SET_PW": iow(224, NewPassword),
        "IOC_OPAL_GET_LR_STATUS": iow(237, RangeStatus),
        "IOC_OPAL_LOCK_UNLOCK": iow(221, LockUnlock),
        "IOC_OPAL_REVERT_TPR": iow(226, Key),
        "IOC_OPAL_PSID_REVERT_TPR": iow(232, Key),
        "IOC_OPAL_DISCOVERY": iow(239, Discover),
        "NVME_IOCTL_ADMIN_CMD": iow(0x41, Passthrough, "N", read=True),
    }
    shown = "".join(f'#ifdef {name}\nprintf("{name} %lu\\n", (unsigned long) {name});\n#endif\n' for name in wanted)
    headers = "".join(
        f"#include <{name}>\n" for name in ("stdio.h", "sys/ioctl.h", "linux/sed-opal.h", "linux/nvme_ioctl.h")
    )
    (tmp_path / "numbers.c").write_text(f"{headers}int main(void) {{\n{shown}return 0; }}\n")
    subprocess.run([compiler, "-o", tmp_path / "numbers", tmp_path / "numbers.c"], check=True)
    told = subprocess.run([tmp_path / "numbers"], capture_output=True, text=True, check=True).stdout.split()
    found = dict(zip(told[::2], map(int, told[1::2]), strict=True))
    assert len(found) >= 7
    assert found == {name: wanted[name] for name in found}


def test_ownership_goes_as_the_header_has_it() -> None:
    drive = Heard()
    drive.take_ownership(PIN)
    key = drive.heard(Key)
    assert (key.lr, pin(key)) == (0, PIN)


def test_activation_names_one_range_and_no_single_user() -> None:
    drive = Heard()
    drive.activate(b"short")
    told = drive.heard(Activate)
    assert (told.sum, told.num_lrs, list(told.lr), pin(told.key)) == (0, 1, [1] + [0] * 8, b"short")


def test_admins_pins_go_into_their_places() -> None:
    drive = Heard()
    drive.set_admin(PIN, NEW)
    told = drive.heard(NewPassword)
    assert (pin(told.session.opal_key), pin(told.new_user_pw.opal_key)) == (PIN, NEW)
    assert (told.session.who, told.session.sum, told.new_user_pw.who, told.new_user_pw.sum) == (0, 0, 0, 0)


def test_checking_admin_reads_range_1() -> None:
    drive = Heard()
    drive.check_admin(PIN)
    told = drive.heard(RangeStatus)
    assert (told.session.opal_key.lr, told.session.who, pin(told.session.opal_key)) == (1, 0, PIN)
    assert (told.range_start, told.range_length, told.rle, told.wle, told.l_state) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("call", "state"), [(Sed.unlock, 2), (Sed.lock, 4)])  # enum opal_lock_state
def test_unlocking_and_locking_say_which_range_and_how(call: Callable[[Sed, bytes, int], None], state: int) -> None:
    drive = Heard()
    call(drive, PIN, 3)
    _discovery, (_number, argument) = drive.calls
    told = LockUnlock.from_buffer_copy(argument)
    assert (told.session.opal_key.lr, told.l_state, told.flags, pin(told.session.opal_key)) == (3, state, 0, PIN)


@pytest.mark.parametrize("send", [True, False])
def test_security_commands_are_nvmes(send: bool) -> None:
    drive = Heard()
    seen: list[bytes] = []

    def answers(_number: int, argument: bytes) -> None:
        told = Passthrough.from_buffer_copy(argument)
        if send:
            seen.append(ctypes.string_at(told.addr, told.data_len))
        else:
            ctypes.memmove(told.addr, b"answer", 6)

    drive.answers = answers
    if send:
        drive.send(1, 0x1234, b"x" * 512)
        assert seen == [b"x" * 512]
    else:
        assert drive.receive(1, 0x1234, 512) == b"answer".ljust(512, b"\0")
    told = drive.heard(Passthrough)
    assert drive.calls[0][0] == iow(0x41, Passthrough, "N", read=True)
    assert (told.opcode, told.flags, told.nsid) == (0x81 if send else 0x82, 0, 0)
    assert (told.data_len, told.cdw10, told.cdw11) == (512, 1 << 24 | 0x1234 << 8, 512)
    assert (told.metadata, told.metadata_len, told.cdw12, told.result) == (0, 0, 0, 0)
    assert told.timeout_ms >= 1000


def test_discovery_of_a_sata_drive_goes_through_the_kernel() -> None:
    drive = Heard("/dev/sda")

    def answers(_number: int, argument: bytes) -> None:
        told = Discover.from_buffer_copy(argument)
        data = recorded("crucial-mx500")
        assert told.size == 2048
        ctypes.memmove(told.data, data, len(data))

    drive.answers = answers
    found = drive.discover()
    assert drive.calls[0][0] == iow(239, Discover)
    assert found is not None
    assert found.com_id == 0x0888


def test_discovery_of_an_nvme_drive_asks_the_drive_itself() -> None:
    """While it connects again, the kernel answers EOPNOTSUPP to what is asked of it about Opal."""
    drive = Heard("/dev/nvme0n1")

    def answers(number: int, argument: bytes) -> None:
        if number != iow(0x41, Passthrough, "N", read=True):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        data = recorded("wd-sn730")
        ctypes.memmove(Passthrough.from_buffer_copy(argument).addr, data, len(data))

    drive.answers = answers
    found = drive.discover()
    assert found is not None
    assert found.com_id == 0x7FFE


@pytest.mark.parametrize("status", [0x4001, 0x4002, 0x0002, 0x6002])
def test_an_nvme_drive_without_security_commands_is_no_tcg_drive(status: int) -> None:
    assert Heard(status=status).discover() is None


@pytest.mark.parametrize("status", [0x0006, 0x4006, 0x0286, 0x4007])
def test_an_nvme_drive_that_fails_is_not_called_one_without_tcg(status: int) -> None:
    with pytest.raises(DriveFailed, match=f"NVMe status {status:#06x}"):
        Heard(status=status).discover()


@pytest.mark.parametrize("device", ["/dev/sda", "/dev/nvme0n1"])
@pytest.mark.parametrize("error", [errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_knows_no_such_question_is_no_tcg_drive(device: str, error: int) -> None:
    assert Heard(device, error=error).discover() is None


@pytest.mark.parametrize("device", ["/dev/sda", "/dev/nvme0n1"])
@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.ENOMEM])
def test_a_disk_that_fails_is_not_called_one_without_tcg(device: str, error: int) -> None:
    with pytest.raises(DriveFailed, match="discovery"):
        Heard(device, error=error).discover()


@pytest.mark.parametrize("error", [errno.ENODEV, errno.ENXIO, errno.ENOENT])
@pytest.mark.parametrize(
    "call",
    [*(call for call, _ in CALLS), lambda d: d.discover(), lambda d: d.check_sid(PIN), lambda d: d.set_sid(PIN, NEW)],
)
def test_a_drive_that_goes_away_is_told(call: Callable[[Sed], object], error: int) -> None:
    with pytest.raises(TargetRefused, match="the drive is gone") as caught:
        call(Heard(error=error))
    assert "/dev/nvme0n1" in caught.value.message


@pytest.mark.parametrize("gone_after", range(1, 7))
def test_a_drive_that_goes_away_in_a_session_is_told(tmp_path: Path, gone_after: int) -> None:
    class Leaving(EmulatedSed):
        asked = 0

        def _device_ioctl(self, number: int, argument: bytearray) -> int:
            self.asked += 1
            if self.asked > gone_after:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            return super()._device_ioctl(number, argument)

    machine = Machine(tmp_path)
    with pytest.raises(TargetRefused, match="the drive is gone"):
        Leaving(machine.drive).set_sid(machine.drive.state.identity.msid, NEW)


@pytest.mark.parametrize(("status", "kind", "said"), [
    (0x01, SecretRefused, "does not take it"),
    (0x12, SecretRefused, "no try is left until power goes"),
    (0x03, DriveFailed, "status 0x03"), (0x0C, DriveFailed, "status 0x0c"), (0x3F, DriveFailed, "status 0x3f"),
])  # fmt: skip
@pytest.mark.parametrize("call", [call for call, _ in CALLS])
def test_what_a_drive_answers_is_told(
    call: Callable[[Sed], None], status: int, kind: type[SecretRefused], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        call(Heard(status=status))
    told = f"{caught.value.message} {caught.value.hint}"
    assert PIN.decode() not in told
    assert NEW.decode() not in told
    assert caught.value.hint


@pytest.mark.parametrize("length", [0, 33, 256, 300])
@pytest.mark.parametrize(
    "call",
    [
        lambda drive, bad: drive.take_ownership(bad),
        lambda drive, bad: drive.activate(bad),
        lambda drive, bad: drive.set_admin(bad, NEW),
        lambda drive, bad: drive.set_admin(PIN, bad),
        lambda drive, bad: drive.check_admin(bad),
        lambda drive, bad: drive.unlock(bad, 1),
        lambda drive, bad: drive.lock(bad, 1),
        lambda drive, bad: drive.revert(bad),
        lambda drive, bad: drive.revert_by_psid(bad),
        lambda drive, bad: drive.check_sid(bad),
        lambda drive, bad: drive.set_sid(bad, NEW),
        lambda drive, bad: drive.set_sid(PIN, bad),
    ],
)
def test_a_pin_that_no_drive_can_have_costs_no_try(call: Callable[[Sed, bytes], None], length: int) -> None:
    drive = Heard()
    with pytest.raises(SecretRefused, match=f"expected 1 to 32 bytes, found {length}") as caught:
        call(drive, b"\xa5" * length)
    assert not drive.calls
    assert "\xa5" not in str(caught.value)


def test_wrong_pins_and_lockout_of_the_emulated_drive(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    drive = EmulatedSed(machine.drive)
    drive.take_ownership(PIN)
    drive.check_sid(PIN)
    with pytest.raises(SecretRefused):
        drive.take_ownership(NEW)
    for _ in range(5):
        with pytest.raises(SecretRefused):
            drive.check_sid(NEW)
    with pytest.raises(SecretRefused, match="no try is left"):
        drive.check_sid(PIN)
    machine.drive.power_cycle()
    drive = EmulatedSed(machine.drive)
    drive.check_sid(PIN)
    drive.activate(PIN)
    drive.set_admin(PIN, NEW)
    drive.check_admin(NEW)
    for call in (drive.check_admin, lambda bad: drive.unlock(bad, 1), drive.revert, drive.revert_by_psid):
        with pytest.raises(SecretRefused):
            call(b"wrong")
    assert drive.discover().activated  # type: ignore[union-attr]


def test_a_locked_out_drive_takes_nobody(tmp_path: Path) -> None:
    machine = Machine(tmp_path, (Fault.LOCKOUT,))
    drive = EmulatedSed(machine.drive)
    with pytest.raises(SecretRefused, match="no try is left"):
        drive.take_ownership(PIN)
    with pytest.raises(SecretRefused, match="no try is left"):
        drive.check_sid(machine.drive.state.identity.msid)


def test_sid_of_what_is_no_nvme_drive_is_refused() -> None:
    drive = Heard("/dev/sda")
    drive.answers = lambda _number, argument: ctypes.memmove(
        Discover.from_buffer_copy(argument).data, recorded("crucial-mx500"), 512
    )
    for call in (lambda: drive.check_sid(PIN), lambda: drive.set_sid(PIN, NEW), lambda: drive.receive(1, 1, 512)):
        with pytest.raises(TargetRefused, match="expected an NVMe drive"):
            call()
    # Asked what it is, and nothing else.
    assert {number for number, _ in drive.calls} == {iow(239, Discover)}


def test_sid_of_what_is_no_tcg_drive_is_refused() -> None:
    with pytest.raises(DriveFailed, match="expected a TCG drive, found none"):
        Heard(status=0x4001).check_sid(PIN)


# Real block devices and files


def test_a_file_is_no_drive(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(8192))
    assert Sed(file).discover() is None
    with pytest.raises(DriveFailed, match="Inappropriate ioctl"):
        Sed(file).take_ownership(PIN)


def test_a_file_named_like_a_drive_is_none_either(tmp_path: Path) -> None:
    (tmp_path / "nvme0n1").write_bytes(bytes(8192))
    assert Sed(tmp_path / "nvme0n1").discover() is None


def test_nothing_there_is_gone(tmp_path: Path) -> None:
    for call in (lambda d: d.discover(), lambda d: d.check_admin(PIN), lambda d: d.read(0)):
        with pytest.raises(TargetRefused, match="the drive is gone"):
            call(Sed(tmp_path / "sda"))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A loop device."""
    file = tmp_path / "disk"
    file.write_bytes(b"first".ljust(4096, b".") + b"second".ljust(4096, b"."))
    done = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")
    yield Path(done.stdout.strip())
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_loop_device_is_no_drive(loop: Path) -> None:
    assert Sed(loop).discover() is None
    assert Sed(loop).read(4096) == b"second".ljust(4096, b".")


def test_reads_are_raw_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"first".ljust(4096, b".") + b"second".ljust(4096, b"."))
    assert Sed(file).read(4096) == b"second".ljust(4096, b".")
    assert Sed(file).read(0, 8192) == file.read_bytes()
    with pytest.raises(DriveFailed, match="ends before byte"):
        Sed(file).read(8192)


@pytest.mark.parametrize(("error", "locked"), [
    (errno.ENODATA, True), (errno.EACCES, True), (errno.EPERM, True), (errno.EIO, False), (errno.ENODEV, False),
])  # fmt: skip
def test_what_a_locked_range_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, locked: bool) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(4096))

    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("appliance.drive.sed.os.preadv", refuse)
    if locked:
        assert Sed(file).read(0) is None
    else:
        with pytest.raises(TargetRefused if error == errno.ENODEV else DriveFailed, match=r"reading at 0|is gone"):
            Sed(file).read(0)


def test_a_file_that_may_not_be_opened_is_not_called_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the drive's own answer to a read says that it is locked."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("appliance.drive.sed.os.open", refuse)
    with pytest.raises(DriveFailed, match="Permission denied"):
        Sed(tmp_path / "disk").read(0)


def test_locked_reads_of_the_emulated_drive(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    drive = machine.boot()
    assert drive.sed.read(DATA_OFFSET) == bytes(4096)
    host = EmulatedSed(machine.drive).host
    host.set_sid_pin(host.msid(), b"sid")
    host.activate(b"sid")
    host.set_range(b"sid", 1, DATA_OFFSET // 512, 64)
    machine.drive.power_cycle()
    assert machine.boot().sed.read(DATA_OFFSET) is None
    machine.boot().sed.unlock(b"sid", 1)
    assert machine.boot().sed.read(DATA_OFFSET) is not None
    machine.boot().sed.lock(b"sid", 1)
    assert machine.boot().sed.read(DATA_OFFSET) is None


def test_the_number_of_a_pin_is_the_drives() -> None:
    assert sed.MAX_PIN_BYTES == 32
    assert struct.calcsize("=BBB5x256s") == sizeof(Key)
