"""LUKS2 headers through cryptsetup: made, opened, their keys added and removed.

Secrets go by standard input and memory files, never by arguments. Slots have a meaning: an even one holds a passphrase,
an odd one the recovery key, so that a change adds the other slot of a pair before it removes the old one.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from custody._run import run
from custody.errors import IntegrityFailure, ProgramMissing, SecretRefused

#: What our headers name, and nothing else; LUKS2 authenticates nothing, so a header is read before it is believed.
CIPHER = "aes-xts-plain64"
KDF = "argon2id"
MAX_MEMORY_KIB = 256 * 1024
LABEL = "airgap-data"

PASSPHRASE_SLOTS = (0, 2)
RECOVERY_SLOTS = (1, 3)

#: Where a passphrase is refused.
TYPE_AGAIN = "type it again; if it is lost, the escrow's recovery key opens it: docs/how-to/recover-a-drive.md"
#: cryptsetup's exit status for "no permission": the passphrase or PIN is wrong.
_NO_PERMISSION = 2
_TIMEOUT_S = 300
#: Before 2.7.3, --hw-opal-only aborts beside any token and fails on blocks of 4096 bytes.
_OPAL_FROM = (2, 7, 3)
_BOTH_FROM = (2, 7, 0)
_KDF_FLAGS = ("--pbkdf", KDF, "--pbkdf-memory", str(MAX_MEMORY_KIB))
#: What cryptsetup writes into the header of an Opal volume (LUKS2 requirements).
_OPAL_REQUIREMENT = "opal"


class Mode(StrEnum):
    """Who encrypts: dm-crypt, the drive, or both, the one above the other."""

    LUKS = "luks"
    OPAL = "opal"
    BOTH = "opal+luks"


#: The segment that each mode's header has (LUKS2 on-disk format 1.1.3, section 3.3).
SEGMENTS = {Mode.LUKS: "crypt", Mode.OPAL: "hw-opal", Mode.BOTH: "hw-opal-crypt"}
_FLAGS = {Mode.LUKS: [], Mode.OPAL: ["--hw-opal-only"], Mode.BOTH: ["--hw-opal"]}


@dataclass(frozen=True)
class Header:
    """What matters of a header.

    Attributes:
        mode: who encrypts.
        data_offset: byte where the data begin.
        locking_range: the drive's range that holds them; None without Opal.
        slots: numbers of the key slots in use.
        data_bytes: how many bytes they have; None: up to the end of the disk.
    """

    mode: Mode
    data_offset: int
    locking_range: int | None
    slots: tuple[int, ...]
    data_bytes: int | None = None


class Luks:
    """The volume on one device."""

    def __init__(self, device: Path) -> None:
        self.device = device

    def format(self, mode: Mode, passphrase: str, admin_pin: str = "") -> None:
        """Write a header with the passphrase in slot 0; everything on the device is lost.

        Args:
            admin_pin: Admin1's, and proven: a wrong one destroys the header that is there before it fails.
        """
        words = ["luksFormat", "--type", "luks2", *_FLAGS[mode], *_KDF_FLAGS, "--label", LABEL, "--key-slot", "0"]
        if mode is not Mode.OPAL:
            words += ["--cipher", CIPHER, "--key-size", "512"]
        # The PIN without a line end: it would belong to it.
        self._run(words, {"--key-file": passphrase}, stdin=admin_pin.encode())

    def add(self, known: str, new: str, slot: int) -> None:
        """Put a passphrase into a free slot."""
        words = ["luksAddKey", *_KDF_FLAGS, "--new-key-slot", str(slot)]
        self._run(words, {"--key-file": known, "--new-keyfile": new})

    def remove(self, slot: int) -> None:
        """Destroy a slot, without a passphrase: see that another one opens first."""
        self._run(["luksKillSlot"], {}, str(slot))

    def check(self, passphrase: str, slot: int | None = None) -> None:
        """Refuse a passphrase that does not open the header, or this slot of it; nothing is opened.

        Raises:
            SecretRefused: it does not.
        """
        where = [] if slot is None else ["--key-slot", str(slot)]
        self._run(["open", "--type", "luks2", "--test-passphrase", *where], {"--key-file": passphrase})

    def takes(self, passphrase: str, slot: int | None = None) -> bool:
        """Whether a passphrase opens the header, or this slot of it; nothing is opened."""
        try:
            self.check(passphrase, slot)
        except SecretRefused:
            return False
        return True

    def open(self, passphrase: str, mapper: str) -> None:
        """Make the plain device appear.

        Raises:
            SecretRefused: the passphrase is wrong.
        """
        self._run(["open", "--type", "luks2"], {"--key-file": passphrase}, mapper)

    def close(self, mapper: str) -> None:
        """Make it vanish; the drive locks the range."""
        run(["cryptsetup", "close", mapper])

    def erase(self) -> None:
        """Destroy every key slot of a header without Opal: what they opened stays noise."""
        self._run(["luksErase"], {})

    def backup(self) -> bytes:
        """The header with its key slots; nothing of the data."""
        with tempfile.TemporaryDirectory(prefix="airgap-", dir="/run") as folder:
            file = Path(folder) / "header"
            run(["cryptsetup", "luksHeaderBackup", "--header-backup-file", file, self.device])
            return file.read_bytes()

    def restore(self, backup: bytes) -> None:
        """Write such a backup back: raw bytes from the device's first on, durable when this returns."""
        with self.device.open("r+b", buffering=0) as disk:
            at = 0
            while at < len(backup):
                at += disk.write(backup[at : at + (1 << 20)])
            os.fsync(disk.fileno())

    @property
    def exists(self) -> bool:
        """Whether there is a LUKS header at all, whoever made it."""
        return run(["cryptsetup", "isLuks", self.device], ok=(0, 1)).returncode == 0

    def header(self) -> Header:
        """Read the header.

        Raises:
            IntegrityFailure: it is not one that we write.
        """
        found = json.loads(run(["cryptsetup", "luksDump", "--dump-json-metadata", self.device]).text)
        segments = list(found["segments"].values())
        mode = {name: mode for mode, name in SEGMENTS.items()}.get(segments[0]["type"]) if len(segments) == 1 else None
        if mode is None or not _is_ours(found, segments[0]):
            raise IntegrityFailure(
                f"{self.device}: expected a LUKS2 header with one {CIPHER} segment and {KDF} keys, found another: "
                "it was altered, or made by something else",
                f"cryptsetup luksDump {self.device}",
            )
        return Header(
            mode=mode,
            data_offset=int(segments[0]["offset"]),
            locking_range=segments[0].get("opal_segment_number"),
            slots=tuple(sorted(map(int, found["keyslots"]))),
            data_bytes=None if segments[0].get("size", "dynamic") == "dynamic" else int(segments[0]["size"]),
        )

    def _run(self, words: Sequence[str], secrets: Mapping[str, str], *last: str, stdin: bytes = b"") -> None:
        """Run cryptsetup; each secret lies in a file that exists in memory alone, named by its option."""
        with ExitStack() as stack:
            handles: list[int] = []
            options: list[str] = []
            for option, secret in secrets.items():
                handles.append(os.memfd_create("airgap", os.MFD_CLOEXEC))
                stack.callback(os.close, handles[-1])
                os.write(handles[-1], secret.encode())
                options += [option, f"/dev/fd/{handles[-1]}"]
            line = ["cryptsetup", *words, "--batch-mode", *options, str(self.device), *last]
            done = run(line, stdin=stdin, ok=(0, _NO_PERMISSION), timeout_s=_TIMEOUT_S, pass_fds=handles)
        if done.returncode == _NO_PERMISSION:
            raise SecretRefused(f"{self.device}: the passphrase does not open it", TYPE_AGAIN)


def require(mode: Mode) -> None:
    """Refuse a mode that the installed cryptsetup cannot do, or does wrong.

    Raises:
        ProgramMissing: it is too old.
    """
    needed = {Mode.LUKS: (2, 0, 0), Mode.BOTH: _BOTH_FROM, Mode.OPAL: _OPAL_FROM}[mode]
    told = run(["cryptsetup", "--version"]).text
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", told)
    found = tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if found < needed:
        raise ProgramMissing(
            f"cryptsetup: expected {'.'.join(map(str, needed))} or newer for {mode}, found {told or 'nothing'}",
            "storage.mode: luks, or a newer distribution",
        )


def _is_ours(found: dict[str, Any], segment: dict[str, Any]) -> bool:
    cipher = None if segment["type"] == SEGMENTS[Mode.OPAL] else CIPHER
    slots = found["keyslots"].values()
    return (
        segment.get("encryption") == cipher
        and set(found["config"].get("requirements", {}).get("mandatory", ())) <= {_OPAL_REQUIREMENT}
        and all(slot["type"] == "luks2" and slot["area"].get("encryption") == CIPHER for slot in slots)
        and all(slot["kdf"]["type"] == KDF and slot["kdf"]["memory"] <= MAX_MEMORY_KIB for slot in slots)
    )
