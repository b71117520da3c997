"""The second copy of a drive's secrets: encrypted to the site's escrow key, written before the drive hears of them.

Secrets leave in the one form in which something leaves a site (`appliance.outgoing`): DSSE by the host's key inside CMS
for the escrow key. The header's backup, too large for that, lies beside in CMS alone; its digest is among the secrets.
openssl and the private key open both: docs/how-to/recover-a-drive.md. Each set of secrets has its number; an older one
stays until a person removes it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from appliance import hostkey, outgoing
from custody.atomic import write_whole
from custody.errors import AirgapError, InputInvalid, SecretRefused
from custody.secret import read_secret
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey, PublicKey

FOLDER = Path("/var/lib/airgap/escrow")
PAYLOAD_TYPE = "application/vnd.airgap.escrow+json"
_SCHEMA = 1
_PLANNED = "-planned"


@dataclass(frozen=True)
class Secrets:
    """All that opens one drive and its volume.

    Attributes:
        serial: the drive's.
        model: the drive's.
        sid: SID's PIN; may revert the drive.
        admin: Admin1's PIN; may change ranges, users and locks.
        psid: from the label, if the site gave it; reverts the drive whoever owns it.
        passphrase: opens the volume; empty in an escrow, where the recovery key does.
        recovery_key: the volume's other passphrase.
        header_sha256: of the header's backup; empty before there is one.
        number: of the copy that they were read from; 0: from none.
    """

    serial: str
    model: str
    sid: str
    admin: str
    psid: str = ""
    passphrase: str = ""
    recovery_key: str = ""
    header_sha256: str = ""
    number: int = 0

    def __repr__(self) -> str:
        return f"Secrets(serial={self.serial!r}, …)"


@dataclass(frozen=True)
class Escrow:
    """Where the copies lie, who signs them, and who may read them."""

    signer: PrivateKey
    recipient: PublicKey
    folder: Path = FOLDER

    @staticmethod
    def to(public_key: str) -> Escrow | None:
        """The escrow of a host for this key (SPKI, base64); None without one.

        Raises:
            InputInvalid: it is no key.
        """
        if not public_key:
            return None
        try:
            recipient = PublicKey.from_text(public_key)
        except AirgapError as error:
            raise InputInvalid("escrow key: expected SPKI in base64, found something else", "NAME.pub") from error
        return Escrow(hostkey.load_or_make(), recipient)

    def plan(self, secrets: Secrets, number: int) -> Path:
        """Write a copy before the drive hears of the secrets; returns the file, `SERIAL-NUMBER-planned.cms`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._last(secrets.serial), f"{number}\n".encode(), mode=0o600)
        return self._write(secrets, f"{secrets.serial}-{number:04}{_PLANNED}.cms", number)

    def complete(self, secrets: Secrets, number: int, header: bytes) -> Path:
        """Write the copy that ends a change, `SERIAL-NUMBER.cms` and `SERIAL-NUMBER.header.cms`; returns the first.

        Args:
            header: the backup of the volume's header.
        """
        name = f"{secrets.serial}-{number:04}"
        self._keep(f"{name}.header.cms", header)
        digest = hashlib.sha256(header).hexdigest()
        file = self._write(replace(secrets, header_sha256=digest), f"{name}.cms", number)
        for _number, copy in copies(secrets.serial, self.folder):
            if copy.stem.endswith(_PLANNED):
                copy.unlink()
        return file

    def _write(self, secrets: Secrets, name: str, number: int) -> Path:
        content = {"schema": f"airgap.escrow/{_SCHEMA}", **asdict(replace(secrets, passphrase="", number=number))}
        signed = Envelope(PAYLOAD_TYPE, json.dumps(content).encode(), {}).signed_by(self.signer).dump()
        return self._keep(name, signed)

    def _keep(self, name: str, data: bytes) -> Path:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.folder / name, outgoing.encrypt(data, self.recipient), mode=0o600)
        return self.folder / name

    def next_number(self, serial: str, known: int = 0) -> int:
        """One more than the highest there was: copies are carried off, and their numbers must not come again.

        Args:
            known: a number that somebody brought back; this host may be younger than its drive.
        """
        last = self._last(serial)
        kept = int(last.read_text()) if last.exists() else 0
        return 1 + max([known, kept, *(number for number, _file in copies(serial, self.folder))])

    def _last(self, serial: str) -> Path:
        """Where the last number is kept."""
        return self.folder / f"{serial}.last"


def copies(serial: str, folder: Path = FOLDER) -> list[tuple[int, Path]]:
    """The copies of a drive's secrets that lie here, oldest first."""
    pattern = re.compile(rf"{re.escape(serial)}-(\d{{4,}})(?:{_PLANNED})?\.cms")
    found = [(pattern.fullmatch(file.name), file) for file in folder.glob("*.cms")] if folder.is_dir() else []
    return sorted((int(match[1]), file) for match, file in found if match)


def read_opened(file: Path, serial: str) -> Secrets:
    """Secrets out of an escrow that somebody opened: the DSSE envelope, or the JSON in it.

    Raises:
        SecretRefused: readable by others, or not secret files at all.
        InputInvalid: not an escrow, or another drive's.
    """
    try:
        content = json.loads(read_secret(file), object_pairs_hook=_pairs)
        if "payloadType" in content:
            content = json.loads(base64.b64decode(content["payload"], validate=True), object_pairs_hook=_pairs)
        if content.pop("schema") != f"airgap.escrow/{_SCHEMA}" or "number" not in content:
            raise ValueError("schema")
        found = TypeAdapter(Secrets).validate_python(content)
    except SecretRefused:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        # Not `from error`: its words may quote a PIN.
        raise InputInvalid(
            f"{file}: expected an opened escrow, found something else ({type(error).__name__})",
            "docs/how-to/recover-a-drive.md: openssl cms -decrypt",
        ) from None
    if found.serial != serial:
        raise InputInvalid(f"{file}: expected the secrets of drive {serial}, found those of {found.serial}", "")
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that names nothing twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found
