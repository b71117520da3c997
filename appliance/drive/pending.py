"""What a host writes down about a drive: the change that was begun, and whether a volume was made.

A killed change needs its secrets to go on: they lie on the host's own disk, under the volume's passphrase, from before
the drive hears of the first one until nothing is left to do. AES-256-GCM under scrypt (RFC 7914: N 2^17, r 8, p 1; 128
MiB); a wrong passphrase opens nothing. Only a volume that is being made may be formatted, whatever reads as blank.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from appliance.drive.escrow import Secrets
from custody.atomic import remove, write_whole
from custody.errors import InputInvalid, SecretRefused
from custody.lock import alone

FOLDER = Path("/var/lib/airgap/drive")
OWN, ROTATE = "own", "rotate"
_WHAT = (OWN, ROTATE)
_MAGIC = b"airgap-pending-1\n"
_SALT_BYTES, _NONCE_BYTES = 16, 12
_COST = {"n": 1 << 17, "r": 8, "p": 1}


class Known(StrEnum):
    """What this host knows of a drive's volume: nothing, that it holds nothing yet, or that it was made."""

    UNKNOWN = ""
    MAKING = "making"
    MADE = "made"


@dataclass(frozen=True)
class Change:
    """One change of a drive's secrets.

    Attributes:
        what: `OWN` or `ROTATE`.
        number: of the escrow that ends it.
        old: what was in force; None when the drive was nobody's.
        new: what will be.
    """

    what: str
    number: int
    old: Secrets | None
    new: Secrets


@dataclass(frozen=True)
class Pending:
    """The files of one drive."""

    serial: str
    folder: Path = field(default_factory=lambda: FOLDER)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have no other airgap change drives meanwhile.

        Raises:
            AlreadyRunning: another one does.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.folder, "another airgap that changes drives"):
            yield

    @property
    def volume(self) -> Known:
        """What is known of the volume.

        Raises:
            InputInvalid: not what was written here.
        """
        try:
            return Known(self._volume.read_text().strip())
        except FileNotFoundError:
            return Known.UNKNOWN
        except ValueError as error:
            raise InputInvalid(
                f"{self._volume}: expected `making` or `made`, found something else", "ls -la"
            ) from error

    def note(self, volume: Known) -> None:
        """Write down how far the volume is, durably."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._volume, f"{volume}\n".encode(), mode=0o600)

    def forget(self) -> None:
        """The drive is as it left the factory: no change, no volume."""
        for what in _WHAT:
            self.end(what)
        remove(self._volume)

    @property
    def _volume(self) -> Path:
        return self.folder / f"{self.serial}.volume"

    @property
    def what(self) -> str:
        """The change that was begun and not ended: `own`, `rotate`, or empty."""
        return next((what for what in _WHAT if self.file(what).exists()), "")

    def file(self, what: str) -> Path:
        """Where it lies. Its name tells the kinds apart: taking over formats, rotating must not."""
        return self.folder / f"{self.serial}.{what}"

    def write(self, change: Change, passphrase: str) -> None:
        """Keep a change under the passphrase."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        sealed = AESGCM(_key(passphrase, salt)).encrypt(nonce, json.dumps(asdict(change)).encode(), _MAGIC)
        write_whole(self.file(change.what), _MAGIC + salt + nonce + sealed, mode=0o600)

    def read(self, what: str, passphrase: str) -> Change:
        """The change of this kind that was begun.

        Raises:
            SecretRefused: another passphrase, or the file was altered.
            InputInvalid: not such a file.
        """
        file = self.file(what)
        data = file.read_bytes()
        if not data.startswith(_MAGIC):
            raise InputInvalid(f"{file}: expected a change that was begun, found something else", "ls -la")
        data = data.removeprefix(_MAGIC)
        salt, nonce = data[:_SALT_BYTES], data[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
        try:
            text = AESGCM(_key(passphrase, salt)).decrypt(nonce, data[_SALT_BYTES + _NONCE_BYTES :], _MAGIC)
        except (InvalidTag, ValueError):
            hint = "type the one with which the change was begun; the escrow's planned copy holds the new secrets"
            raise SecretRefused(f"{file}: the passphrase does not open it", hint) from None
        content = json.loads(text)
        if (content["what"], content["new"]["serial"]) != (what, self.serial):
            raise InputInvalid(
                f"{file}: expected the {what} of {self.serial}, found another change: renamed?", "ls -la"
            )
        old = Secrets(**content["old"]) if content["old"] else None
        return Change(what, content["number"], old, Secrets(**content["new"]))

    def end(self, what: str) -> None:
        """The change of this kind is complete; a power cut does not bring it back."""
        remove(self.file(what))


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_COST).derive(passphrase.encode())
