"""A host without a kernel: the emulated drive behind what the kernel's ioctls and cryptsetup would do with it.

Everything that is ours runs as it is: the ioctls' structures are unpacked here byte by byte. cryptsetup is some lines
that send the drive what cryptsetup 2.7 sends, and keep a header of their own in the drive's blocks.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.drive import own
from appliance.drive.drive import Drive
from appliance.drive.escrow import Escrow, Secrets, read_opened
from appliance.drive.luks import Header, Luks, Mode
from appliance.drive.pending import OWN, Known, Pending
from appliance.drive.sed import Sed
from custody.errors import SecretRefused
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey
from tests.opal_drive import uids
from tests.opal_drive.client import InProcess, MethodError, OpalHost
from tests.opal_drive.drive import AccessDenied
from tests.opal_drive.drive import Drive as Emulated
from tests.opal_drive.faults import Fault, model
from tests.opal_drive.media import Media
from tests.opal_drive.power import Power, PowerCut
from tests.opal_drive.state import MemoryStore

SERIAL = "OPAL0001"
SIZE_BYTES = 16 << 20
DATA_OFFSET = 1 << 20
ADMIN1 = uids.admin(1)
_RANGE = 1
_HEADER_BYTES = 8192


class EmulatedSed(Sed):
    """The kernel: block/sed-opal.c, as far as it is asked."""

    def __init__(self, drive: Emulated) -> None:
        super().__init__(Path("/dev/nvme9n1"))
        self.drive = drive
        self.host = OpalHost(InProcess(drive))
        self._is_stale = False

    def _device_ioctl(self, number: int, argument: bytearray) -> int:
        if number == 0xC0484E41:
            return self._admin(bytes(argument))
        assert (number >> 30, number >> 8 & 0xFF, number >> 16 & 0x3FFF) == (1, ord("p"), len(argument))
        number &= 0xFF
        if number == 221 and self._is_stale:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._is_stale = False
        try:
            return self._opal(number, bytes(argument))
        except MethodError as error:
            return int(error.status)
        except PowerCut:  # the session's numbers stay, once they were told, and one command does not forget them
            self._is_stale = self.drive.power.steps[-1] != "StartSession"
            raise

    def _admin(self, given: bytes) -> int:
        """NVMe Security Send and Receive, as `struct nvme_passthru_cmd` has them."""
        opcode, address, length = given[0], *struct.unpack_from("=Q4xI", given, 24)
        protocol_com_id, size = struct.unpack_from("=II", given, 40)
        assert length == size
        protocol, com_id = protocol_com_id >> 24, protocol_com_id >> 8 & 0xFFFF
        if opcode == 0x81:
            self.drive.tper.send(protocol, com_id, ctypes.string_at(address, length))
        else:
            data = self.drive.tper.receive(protocol, com_id, length)
            ctypes.memmove(address, data, min(len(data), length))
        return 0

    def _opal(self, number: int, given: bytes) -> int:
        host = self.host
        match number:
            case 222:
                host.set_sid_pin(host.msid(), _pin(given))
            case 223:
                if self.drive.state.active:
                    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
                host.activate(_pin(given))
            case 224:
                who, old = _session(given)
                target, new = _session(given[272:])
                host.set_pin(who, old, target, new)
            case 237:
                who, pin = _session(given)
                with host.start(uids.LOCKING_SP, who, pin) as session:
                    session.get(uids.locking_range(given[8]), 3, 8)
            case 221:
                who, pin = _session(given)
                host.lock(who, pin, given[8], locked=struct.unpack_from("=I", given, 272)[0] == 4)
            case 226:
                host.revert(uids.SID, _pin(given))
            case 232:
                host.revert(uids.PSID, _pin(given))
            case 239:
                address, size = struct.unpack("=QQ", given)
                ctypes.memmove(address, self.drive.tper.receive(1, 1, size), size)
            case _:  # 241, IOC_OPAL_SET_SID_PW, too: Linux 6.12 defines it and does not know it
                raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return 0

    def read(self, offset_bytes: int, length_bytes: int = 4096) -> bytes | None:
        size = self.drive.model.block_bytes
        try:
            return self.drive.read(offset_bytes // size, length_bytes // size)
        except AccessDenied:
            return None


def _pin(key: bytes) -> bytes:
    """The PIN of a `struct opal_key`."""
    assert key[2] == 0
    return key[8 : 8 + key[1]]


def _session(info: bytes) -> tuple[bytes, bytes]:
    """Authority and PIN of a `struct opal_session_info`."""
    single_user, who = struct.unpack_from("=II", info)
    assert single_user == 0
    return (uids.user(who) if who else ADMIN1), _pin(info[8:])


class EmulatedLuks(Luks):
    """What cryptsetup does to the drive, and a header in its first blocks that opens by passphrases."""

    def __init__(self, drive: Emulated) -> None:
        super().__init__(Path("/dev/nvme9n1"))
        self.drive = drive
        self.host = OpalHost(InProcess(drive))
        self.opened: dict[str, bytes] = {}

    def format(self, mode: Mode, passphrase: str, admin_pin: str = "") -> None:
        user_pin = os.urandom(16).hex().encode()
        self._store({"mode": "", "slots": {}})  # what was there is gone before the PIN is asked for
        if mode is not Mode.LUKS:
            admin = admin_pin.encode()
            try:
                self.host.generate_key(admin, _RANGE)
                self.host.lock(ADMIN1, admin, _RANGE, locked=False)
                self.host.set_range(admin, _RANGE, *self._span())
                self.host.add_user(admin, 1, user_pin, _RANGE)
                self.host.lock(uids.user(1), user_pin, _RANGE, locked=True)
            except MethodError as error:
                raise SecretRefused("the Admin PIN", "") from error
        self._store({"mode": str(mode), "slots": {"0": _sealed(passphrase, user_pin)}})

    def add(self, known: str, new: str, slot: int) -> None:
        header = self._load()
        assert str(slot) not in header["slots"]
        header["slots"][str(slot)] = _sealed(new, self._key(known))
        self._store(header)

    def remove(self, slot: int) -> None:
        header = self._load()
        del header["slots"][str(slot)]
        self._store(header)

    def check(self, passphrase: str, slot: int | None = None) -> None:
        self._key(passphrase, slot)

    def open(self, passphrase: str, mapper: str) -> None:
        pin = self._key(passphrase)
        if self._load()["mode"] != Mode.LUKS:
            self.host.lock(uids.user(1), pin, _RANGE, locked=False)
        self.opened[mapper] = pin

    def close(self, mapper: str) -> None:
        self.host.lock(uids.user(1), self.opened.pop(mapper), _RANGE, locked=True)

    def backup(self) -> bytes:
        return self._read()

    def restore(self, backup: bytes) -> None:
        self.drive.write(0, backup)

    @property
    def exists(self) -> bool:
        return bool(self._load()["mode"])

    def header(self) -> Header:
        found = self._load()
        opal = found["mode"] != Mode.LUKS
        offset = self._span()[0] * self.drive.model.block_bytes
        return Header(Mode(found["mode"]), offset, _RANGE if opal else None, tuple(map(int, found["slots"])))

    def _span(self) -> tuple[int, int]:
        """First block and number of blocks of the data, on the boundaries that the drive's ranges have."""
        unit, size = self.drive.model.alignment_blocks, self.drive.model.block_bytes
        first = -(-(DATA_OFFSET // size) // unit) * unit
        return first, (SIZE_BYTES // size - first) // unit * unit

    def _key(self, passphrase: str, slot: int | None = None) -> bytes:
        for number, sealed in self._load()["slots"].items():
            if slot is None or int(number) == slot:
                data = bytes.fromhex(sealed)
                try:
                    return AESGCM(_kdf(passphrase)).decrypt(data[:12], data[12:], None)
                except InvalidTag:
                    continue
        raise SecretRefused("the passphrase", "")

    def _read(self) -> bytes:
        return self.drive.read(0, _HEADER_BYTES // self.drive.model.block_bytes)

    def _load(self) -> dict[str, Any]:
        text = self._read().rstrip(b"\0")
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            return {"mode": "", "slots": {}}
        return found

    def _store(self, header: dict[str, Any]) -> None:
        """As LUKS2 keeps its metadata: whole, the old or the new; a cut comes before or after."""
        data = json.dumps(header).encode().ljust(_HEADER_BYTES, b"\0")
        power, self.drive.power = self.drive.power, Power()
        self.drive.write(0, data)
        self.drive.power = power
        power.step("header")


def _kdf(passphrase: str) -> bytes:
    return hashlib.sha256(passphrase.encode()).digest()


def _sealed(passphrase: str, key: bytes) -> str:
    nonce = os.urandom(12)
    return (nonce + AESGCM(_kdf(passphrase)).encrypt(nonce, key, None)).hex()


def take_over(drive: Drive, mode: Mode, wanted: own.Wanted, passphrase: str) -> None:
    """What `volume.prepare` does with a drive that holds nothing; the file system is left out."""
    drive.pending.note(Known.MAKING)
    own.own(drive, mode, wanted, passphrase)
    drive.say("making the file system")
    drive.pending.note(Known.MADE)
    drive.say("ending the change")
    drive.pending.end(OWN)


class CutReporter(SilentReporter):
    """Loses power right before a step that was told."""

    def __init__(self, power: Power) -> None:
        self._power = power
        self.notes: list[str] = []

    def step(self, text: str) -> None:
        self._power.step(f"told: {text}")

    def note(self, text: str) -> None:
        self.notes.append(text)


class Machine:
    """A host with the emulated drive, a disk of its own (a folder), and the site's escrow key, which lies elsewhere."""

    def __init__(self, folder: Path, faults: tuple[Fault, ...] = ()) -> None:
        self.folder = folder
        made = model(faults, SIZE_BYTES)
        self.power = Power()
        self.image = folder / "drive.img"
        self.drive = Emulated(MemoryStore(), Media(self.image, made), made, serial=SERIAL, power=self.power)
        self.drive.suffer(faults)
        self.escrow_key = PrivateKey.generate()
        self.host_key = PrivateKey.generate()

    def boot(self) -> Drive:
        """What the host's code reaches after a start; nothing of an earlier run is in memory."""
        return Drive(
            SERIAL, "Emulated", "airgap-data", EmulatedSed(self.drive), EmulatedLuks(self.drive),
            Escrow(self.host_key, self.escrow_key.public, self.folder / "escrow"),
            Pending(SERIAL, self.folder / "pending"), CutReporter(self.power),
        )  # fmt: skip

    def power_cycle(self) -> Drive:
        """Off and on, for drive and host alike."""
        self.power.cut_after = None
        self.power.steps.clear()
        self.drive.power_cycle()
        return self.boot()

    @property
    def psid(self) -> str:
        """The PIN on the label."""
        return self.drive.state.identity.psid.decode()

    def escrowed(self) -> list[Secrets]:
        """Every set of secrets that the holder of the escrow key can read, with openssl and that key alone."""
        files = sorted((self.folder / "escrow").glob("*.cms"))
        return [self._open(file) for file in files if not file.name.endswith(".header.cms")]

    def decrypt(self, file: Path) -> bytes:
        """What the holder of the escrow key reads."""
        key = self.folder / "escrow.key"
        if not key.exists():
            pem = self.escrow_key._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            key.write_bytes(pem)
        argv = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(file), "-inkey", str(key)]
        return subprocess.run(argv, capture_output=True, check=True).stdout

    def _open(self, file: Path) -> Secrets:
        opened = self.folder / "opened.json"
        opened.touch(mode=0o600)
        opened.write_bytes(self.decrypt(file))
        try:
            return read_opened(opened, SERIAL)
        finally:
            opened.unlink()
