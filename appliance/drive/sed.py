"""One self-encrypting drive, through the ioctls of the Linux kernel (include/uapi/linux/sed-opal.h, 6.12).

One method, one command of the drive; the kernel speaks TCG Opal, and `tcg` does for SID. PINs travel in a buffer of
this process and nowhere else. Decides nothing: who may be asked what, and when, is `own`, `rotate` and `erase`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

from appliance.drive import discovery, tcg
from appliance.drive.discovery import Discovery
from custody.errors import DriveFailed, SecretRefused, TargetRefused

#: A drive keeps no more of a PIN (Opal SSC 2.02, C_PIN.PIN is max_bytes_32).
MAX_PIN_BYTES = 32
_MAX_KEY_BYTES = 256  # OPAL_KEY_MAX
_MAX_RANGES = 9  # OPAL_MAX_LRS
_ADMIN1 = 0  # enum opal_user
_BUFFER_BYTES = 2048
PAGE_BYTES = 4096
_PROTOCOL, _DISCOVERY_COM_ID = 1, 1

#: ioctl numbers of 'p', and the sizes of what they take.
_LOCK_UNLOCK, _TAKE_OWNERSHIP, _ACTIVATE_LSP, _SET_PW, _REVERT_TPR = (
    (221, 280), (222, 264), (223, 280), (224, 544), (226, 264),
)  # fmt: skip
_PSID_REVERT_TPR, _GET_LR_STATUS, _DISCOVERY = (232, 264), (237, 304), (239, 16)
_READ_WRITE, _LOCKED = 0x02, 0x04  # OPAL_RW, OPAL_LK

#: What a read of a locked block ends with.
LOCKED = (errno.ENODATA, errno.EACCES, errno.EPERM)
#: NVMe admin passthrough (include/uapi/linux/nvme_ioctl.h) and the two commands.
_NVME_ADMIN, _SECURITY_SEND, _SECURITY_RECEIVE = 0xC0484E41, 0x81, 0x82
_NVME_TIMEOUT_MS = 60_000
#: Statuses of a controller that has no such command, or not this protocol (NVMe 2.0, figure 97).
_NVME_UNKNOWN = (0x01, 0x02)

#: Status codes of methods (TCG Storage Core 2.01, table 166) that say "not with this PIN".
_NOT_AUTHORIZED, _LOCKED_OUT = 0x01, 0x12


class Sed:
    """A drive behind a block device.

    Raises, from every method:
        SecretRefused: the drive does not take the PIN; it counts the try.
        DriveFailed: it answered with another error, or not at all.
    """

    def __init__(self, device: Path) -> None:
        self.device = device

    def discover(self) -> Discovery | None:
        """What the drive says of itself; None when it is no TCG drive.

        An NVMe drive is asked itself: while it reconnects, the kernel says that it never heard of Opal.
        """
        try:
            if self.device.name.startswith("nvme"):
                return discovery.parse(self.receive(_PROTOCOL, _DISCOVERY_COM_ID, _BUFFER_BYTES))
            return discovery.parse(self._discovery_of_kernel())
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise self._failed("discovery", error) from error

    def take_ownership(self, pin: bytes) -> None:
        """Give SID its first PIN; refused unless SID still has the one that everybody can read."""
        self._call("taking ownership", _TAKE_OWNERSHIP, _key(pin))

    def check_sid(self, pin: bytes) -> None:
        """Refuse a PIN that is not SID's; changes nothing."""
        _key(pin)  # what no drive can have as a PIN costs no try
        self._as_sid("opening a session as SID", lambda com_id: tcg.check_sid(self, com_id, pin))

    def set_sid(self, old: bytes, new: bytes) -> None:
        """Change SID's PIN."""
        for pin in (old, new):
            _key(pin)
        self._as_sid("changing SID's PIN", lambda com_id: tcg.set_sid(self, com_id, old, new))

    def activate(self, sid: bytes) -> None:
        """Activate the Locking SP: Admin1 gets SID's PIN. Without effect when it is active."""
        ranges = struct.pack(f"=IB{_MAX_RANGES}s2x", 0, 1, b"\1")
        self._call("activating the Locking SP", _ACTIVATE_LSP, _key(sid) + ranges)

    def set_admin(self, old: bytes, new: bytes) -> None:
        """Change Admin1's PIN."""
        self._call("changing Admin1's PIN", _SET_PW, _session(old) + _session(new))

    def check_admin(self, pin: bytes) -> None:
        """Refuse a PIN that is not Admin1's; changes nothing."""
        self._call("reading range 1 as Admin1", _GET_LR_STATUS, _session(pin, locking_range=1) + bytes(32))

    def unlock(self, admin: bytes, locking_range: int) -> None:
        """Open a range for reading and writing, as Admin1."""
        self._set_state(f"unlocking range {locking_range}", admin, locking_range, _READ_WRITE)

    def lock(self, admin: bytes, locking_range: int) -> None:
        """Close a range for reading and writing, as Admin1."""
        self._set_state(f"locking range {locking_range}", admin, locking_range, _LOCKED)

    def revert(self, sid: bytes) -> None:
        """Back to the factory, as SID: every media key is new, what was written is noise."""
        self._call("reverting as SID", _REVERT_TPR, _key(sid))

    def revert_by_psid(self, psid: bytes) -> None:
        """Back to the factory with the PIN on the label, whoever owns the drive."""
        self._call("reverting as PSID", _PSID_REVERT_TPR, _key(psid))

    def read(self, offset_bytes: int, length_bytes: int = PAGE_BYTES) -> bytes | None:
        """Raw bytes past every cache; None when the drive refuses them because they are locked.

        Args:
            offset_bytes: a multiple of 4096; so is the length.
        """
        # An anonymous map is aligned as O_DIRECT wants it.
        with mmap.mmap(-1, length_bytes) as page:
            try:
                handle = os.open(self.device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
            except OSError as error:
                raise self._failed("opening", error) from error
            try:
                if os.preadv(handle, [page], offset_bytes) != length_bytes:
                    raise DriveFailed(f"{self.device}: ends before byte {offset_bytes + length_bytes}", "lsblk")
                return page[:]
            except OSError as error:
                if error.errno in LOCKED:
                    return None
                raise self._failed(f"reading at {offset_bytes}", error) from error
            finally:
                os.close(handle)

    def send(self, protocol: int, com_id: int, data: bytes) -> None:
        """Security Send, of whole blocks; NVMe alone."""
        self._security(_SECURITY_SEND, protocol, com_id, bytearray(data))

    def receive(self, protocol: int, com_id: int, length_bytes: int) -> bytes:
        """Security Receive; NVMe alone."""
        data = bytearray(length_bytes)
        self._security(_SECURITY_RECEIVE, protocol, com_id, data)
        return bytes(data)

    def _set_state(self, what: str, admin: bytes, locking_range: int, state: int) -> None:
        # Of a session that ended with the drive's power, Linux keeps the numbers, and goes on with them in this command
        # alone (block/sed-opal.c, opal_lock_unlock, 6.12); a discovery forgets them.
        argument = _session(admin, locking_range) + struct.pack("=IH2x", state, 0)
        try:
            self._discovery_of_kernel()
        except OSError as error:
            raise self._failed(what, error) from error
        self._call(what, _LOCK_UNLOCK, argument)

    def _discovery_of_kernel(self) -> bytes:
        buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        self._ioctl(_DISCOVERY, bytearray(struct.pack("=QQ", ctypes.addressof(buffer), _BUFFER_BYTES)))
        return buffer.raw

    def _as_sid(self, what: str, action: Callable[[int], None]) -> None:
        found = self.discover()
        if found is None:
            raise DriveFailed(f"{self.device}, {what}: expected a TCG drive, found none", "airgap drive list")
        try:
            action(found.com_id)
        except tcg.Refused as error:
            raise self._refused(what, error.status) from None
        except OSError as error:
            raise self._failed(what, error) from error

    def _call(self, what: str, command: tuple[int, int], argument: bytes) -> None:
        try:
            status = self._ioctl(command, bytearray(argument))
        except OSError as error:
            raise self._failed(what, error) from error
        if status:
            raise self._refused(what, status)

    def _refused(self, what: str, status: int) -> SecretRefused | DriveFailed:
        if status in (_NOT_AUTHORIZED, _LOCKED_OUT):
            hint = "compare it with the escrow; a drive takes few wrong PINs before it wants a power cycle"
            found = "the drive does not take it" if status == _NOT_AUTHORIZED else "no try is left until power goes"
            return SecretRefused(f"{self.device}, {what}: expected the right PIN, found that {found}", hint)
        return DriveFailed(
            f"{self.device}, {what}: the drive answered with status {status:#04x}",
            "dmesg | tail; then power the drive off and on and run the same command again",
        )

    def _security(self, opcode: int, protocol: int, com_id: int, data: bytearray) -> None:
        """One Security command, `struct nvme_passthru_cmd`."""
        if not self.device.name.startswith("nvme"):
            raise TargetRefused(
                f"{self.device}: expected an NVMe drive, found another", "PINs of SID change there alone"
            )
        buffer = (ctypes.c_char * len(data)).from_buffer(data)
        request = bytearray(struct.pack(
            "=BB2xI8xQQII6III", opcode, 0, 0, 0, ctypes.addressof(buffer), 0, len(data),
            protocol << 24 | com_id << 8, len(data), 0, 0, 0, 0, _NVME_TIMEOUT_MS, 0,
        ))  # fmt: skip
        status = self._device_ioctl(_NVME_ADMIN, request)
        if status:
            raise OSError(
                errno.EOPNOTSUPP if status & 0x7FF in _NVME_UNKNOWN else errno.EIO, f"NVMe status {status:#06x}"
            )

    def _ioctl(self, command: tuple[int, int], argument: bytearray) -> int:
        number, size = command
        if len(argument) != size:
            raise AssertionError(f"ioctl {number}: {len(argument)} bytes, not {size}")
        return self._device_ioctl(1 << 30 | size << 16 | ord("p") << 8 | number, argument)

    def _device_ioctl(self, number: int, argument: bytearray) -> int:
        # Reading is enough for root; a disk closed after writing would be news for udev, which reads all of it again.
        handle = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status: int = fcntl.ioctl(handle, number, argument, True)
            return status
        finally:
            os.close(handle)

    def _failed(self, what: str, error: OSError) -> DriveFailed | TargetRefused:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
            return TargetRefused(f"{self.device}, {what}: the drive is gone", "lsblk")
        return DriveFailed(f"{self.device}, {what}: {error.strerror}", "dmesg | tail")


def _key(pin: bytes, locking_range: int = 0) -> bytes:
    """`struct opal_key`: range, length, kind (included), the PIN."""
    if not 0 < len(pin) <= MAX_PIN_BYTES:
        raise SecretRefused(
            f"a PIN: expected 1 to {MAX_PIN_BYTES} bytes, found {len(pin)}", "compare it with the escrow"
        )
    return struct.pack(f"=BBB5x{_MAX_KEY_BYTES}s", locking_range, len(pin), 0, pin)


def _session(pin: bytes, locking_range: int = 0) -> bytes:
    """`struct opal_session_info`: no single user mode, Admin1, the key."""
    return struct.pack("=II", 0, _ADMIN1) + _key(pin, locking_range)
