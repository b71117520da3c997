"""The key that hides texts: one an epoch, made here, escrowed to the auditor, erased when the next one is made.

After that only the auditor can tell whether a text was in the epoch, and once he destroys his copies, nobody can. The
escrow is CMS to the auditor's public key (`appliance.outgoing`); the log holds its digest, and
`airgap audit verify` compares (`escrow`), so that it cannot be swapped unseen. openssl opens it. The digest is kept
beside the key: a copy that was damaged since is not told to the log, and ends its epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from appliance import outgoing
from custody.atomic import sync_folder, write_whole
from custody.errors import SecretRefused
from custody.secret import read_secret
from custody.trust.keys import PublicKey

FOLDER = "epochs"
_SCHEMA = "airgap.epoch/1"
_KEY_BYTES = 32
_KEY_FILE = re.compile(r"(\d{6})\.key")


@dataclass(frozen=True)
class Epoch:
    """A key in use. Its `repr` holds nothing secret.

    Attributes:
        number: from 1.
        key: 32 bytes.
        begun_s: when, Unix time by the host's clock.
        escrow_sha256: of the auditor's copy.
    """

    number: int
    key: bytes
    begun_s: float
    escrow_sha256: str

    def __repr__(self) -> str:
        return f"Epoch({self.number})"


class Epochs:
    """The keys of one log, in its folder; only the newest is there."""

    def __init__(self, folder: Path, origin: str, auditor: PublicKey, length_s: float) -> None:
        self._folder, self._origin, self._auditor, self._length_s = folder / FOLDER, origin, auditor, length_s

    def current(self) -> Epoch:
        """The newest key; a new one where there is none, or the auditor's copy is missing or not the one that was made.

        Raises:
            SecretRefused: it is there and cannot be read.
        """
        numbers = self._numbers()
        copy_sha256 = self._copy_sha256(numbers[-1]) if numbers else None
        if copy_sha256 is None:
            return self.make()
        epoch = self._load(numbers[-1], copy_sha256)
        return epoch if epoch.escrow_sha256 == copy_sha256 else self.make()

    def is_due(self, epoch: Epoch) -> bool:
        """Whether the next one is to be made; a clock that goes back makes one, too."""
        return not 0 <= time.time() - epoch.begun_s < self._length_s

    def make(self) -> Epoch:
        """A new key, on the disk with the auditor's copy before it hides anything. The old one stays."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = [*self._numbers(), *(int(file.stem) for file in self._folder.glob("[0-9]*.cms"))]
        number, key = max(taken, default=0) + 1, secrets.token_bytes(_KEY_BYTES)
        begun_s = int(time.time())
        content = {"schema": _SCHEMA, "origin": self._origin, "epoch": number, "begun_s": begun_s, "key": key.hex()}
        escrow = outgoing.encrypt(json.dumps(content).encode(), self._auditor)
        digest = hashlib.sha256(escrow).hexdigest()
        write_whole(self._key(number), json.dumps({**content, "escrow_sha256": digest}).encode(), mode=0o600)
        write_whole(self._escrow(number), escrow, mode=0o640)
        return Epoch(number, key, begun_s, digest)

    def erase_old(self, newest: Epoch) -> None:
        """Erase every local key but the newest; the auditor's copies stay."""
        for number in self._numbers():
            if number != newest.number:
                with self._key(number).open("r+b") as stream:
                    stream.write(os.urandom(os.fstat(stream.fileno()).st_size))
                    stream.flush()
                    os.fsync(stream.fileno())
                self._key(number).unlink()
        sync_folder(self._folder)

    def _load(self, number: int, copy_sha256: str) -> Epoch:
        """A key; older files do not say the digest of the auditor's copy, and that of the copy here is taken."""
        file = self._key(number)
        try:
            content = json.loads(read_secret(file))
            key = bytes.fromhex(content["key"])
            if (content["schema"], content["origin"], content["epoch"]) != (_SCHEMA, self._origin, number):
                raise ValueError
            begun_s, digest = float(content["begun_s"]), str(content.get("escrow_sha256", copy_sha256))
        except (ValueError, KeyError, TypeError):
            # Not `from`: its words may quote the key.
            raise SecretRefused(f"{file}: expected the key of epoch {number} of {self._origin}", "") from None
        return Epoch(number, key, begun_s, digest)

    def _copy_sha256(self, number: int) -> str | None:
        """Of the auditor's copy that lies here; None: there is none, or it cannot be read."""
        try:
            return hashlib.sha256(self._escrow(number).read_bytes()).hexdigest()
        except OSError:
            return None

    def _numbers(self) -> list[int]:
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(found[1]) for file in files if (found := _KEY_FILE.fullmatch(file.name)))

    def _key(self, number: int) -> Path:
        return self._folder / f"{number:06}.key"

    def _escrow(self, number: int) -> Path:
        return self._folder / f"{number:06}.cms"
