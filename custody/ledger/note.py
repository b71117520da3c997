"""Signed notes (C2SP `signed-note`): text, a blank line, and lines that say who signed.

A log signs with Ed25519 (type 0x01), which every tool for such notes knows. Whoever wants a key in a token, or what
CNSA asks for, adds a line of ECDSA P-384 with SHA-384 (type 0xff and a name of ours); tools that do not know it pass
over it. openssl checks both.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from custody.errors import BundleMalformed, InputInvalid, SignatureRejected
from custody.trust.keys import PublicKey, Signer

#: A checkpoint with 64 signatures of the largest kind stays below.
LIMIT_BYTES = 1 << 20
_MAX_SIGNATURES = 64
_ED25519, _UNASSIGNED = b"\x01", b"\xff"
#: Follows 0xff in a key's id, as C2SP wants for types without a number.
_P384_NAME = b"airgap ECDSA-P384-SHA384"
_DASH = "\N{EM DASH}"
#: Visible ASCII without `+`: a part of what C2SP allows, so that no two names look alike.
NAME = re.compile(r"[!-*,-~]{1,255}")


class Verifier(Protocol):
    """A key that a note may be signed with."""

    @property
    def name(self) -> str:
        """Of the key, in the note."""

    @property
    def id(self) -> bytes:
        """Four bytes that find the key among others of its name."""

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether the signature over the text is this key's."""


def _key_id(name: str, kind: bytes, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + key).digest()[:4]


@dataclass(frozen=True)
class LogKey:
    """A log's public key, Ed25519.

    Attributes:
        name: the log's origin.
        raw: 32 bytes (RFC 8032).
    """

    name: str
    raw: bytes

    @staticmethod
    def parse(vkey: str) -> LogKey:
        """Read a C2SP verifier key, `NAME+HASH+KEY`: the hash in hex, the key in base64.

        Raises:
            InputInvalid: not one, or not of Ed25519.
        """
        try:
            name, _hash, encoded = vkey.strip().split("+", 2)
            data = base64.b64decode(encoded, validate=True)
            found = LogKey(name, data[1:])
            if not NAME.fullmatch(name) or data[:1] != _ED25519 or len(data) != 33 or found.vkey != vkey.strip():
                raise ValueError("not as a log's key is written")
        except ValueError as error:  # also of split and base64, whose words help nobody
            raise InputInvalid(
                "log's key: expected one line NAME+HASH+KEY, of Ed25519", "take log.vkey of the log"
            ) from error
        return found

    @property
    def vkey(self) -> str:
        """The key as C2SP tools take it."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.raw).decode()}"

    @property
    def pem(self) -> bytes:
        """The key as openssl takes it."""
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def id(self) -> bytes:
        """Four bytes that find the key among others of its name."""
        return _key_id(self.name, _ED25519, self.raw)

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether the signature over the text is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class PersonKey:
    """A P-384 key of a person, token or collector that countersigns.

    Attributes:
        name: who it is, in the note.
    """

    name: str
    key: PublicKey

    @property
    def id(self) -> bytes:
        """Four bytes that find the key among others of its name."""
        return _key_id(self.name, _UNASSIGNED + _P384_NAME, self.key.der)

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether the signature over the text is this key's."""
        return self.key.verifies(signature, text)


@dataclass(frozen=True)
class Note:
    """A text and its signatures; nothing is verified yet.

    Attributes:
        text: ends with a newline.
        signatures: key name, key id, signature, in the note's order.
    """

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...] = ()

    @staticmethod
    def parse(data: bytes, name: str) -> Note:
        """Read a note.

        Raises:
            BundleMalformed: not one.
        """
        try:
            if len(data) > LIMIT_BYTES:
                raise ValueError(f"{len(data)} bytes, at most {LIMIT_BYTES} expected")
            text, blank, lines = data.decode().rpartition("\n\n")
            if not blank or any(c < " " and c != "\n" for c in text + lines) or not lines.endswith("\n"):
                raise ValueError("expected text, a blank line and signatures")
            rows = lines.removesuffix("\n").split("\n")
            if len(rows) > _MAX_SIGNATURES:
                raise ValueError(f"more than {_MAX_SIGNATURES} signatures")
            return Note(text + "\n", tuple(map(_signature, rows)))
        except ValueError as error:
            raise BundleMalformed(f"{name}: not a signed note: {error}") from error

    def dump(self) -> bytes:
        """The note as text."""
        rows = (f"{_DASH} {n} {base64.b64encode(i + s).decode()}\n" for n, i, s in self.signatures)
        return (self.text + "\n" + "".join(rows)).encode()

    def signed_by(self, key: Verifier, signature: bytes) -> Note:
        """The same with one more signature."""
        return Note(self.text, (*self.signatures, (key.name, key.id, signature)))

    def require(self, key: Verifier, name: str) -> None:
        """Refuse a note that this key has not signed.

        Raises:
            SignatureRejected: no signature of the key, or a false one.
        """
        found = [s for n, i, s in self.signatures if (n, i) == (key.name, key.id)]
        if not found:
            raise SignatureRejected(f"{name}: expected a signature of {key.name} ({key.id.hex()}), found none")
        if not all(key.verifies(signature, self.text.encode()) for signature in found):
            raise SignatureRejected(f"{name}: the signature of {key.name} ({key.id.hex()}) is false")


@dataclass(frozen=True)
class LogSigner:
    """A log's key that signs. Its `repr` holds nothing secret."""

    name: str
    _key: Ed25519PrivateKey

    @property
    def public(self) -> LogKey:
        """The other half."""
        return LogKey(self.name, self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, note: Note) -> Note:
        """The note with the log's signature."""
        return note.signed_by(self.public, self._key.sign(note.text.encode()))

    def __repr__(self) -> str:
        return f"LogSigner({self.name})"


def countersign(note: Note, signers: Iterable[tuple[str, Signer]]) -> Note:
    """The note with a line for each name and P-384 key."""
    for name, signer in signers:
        if not NAME.fullmatch(name):
            raise InputInvalid(f"{name!r}: expected a name of visible ASCII without blank and +", "alice")
        note = note.signed_by(PersonKey(name, signer.public), signer.sign(note.text.encode()))
    return note


def _signature(row: str) -> tuple[str, bytes, bytes]:
    dash, name, encoded = row.split(" ")
    data = base64.b64decode(encoded, validate=True)
    if dash != _DASH or not NAME.fullmatch(name) or len(data) < 5 or base64.b64encode(data).decode() != encoded:
        raise ValueError(f"a signature is {_DASH!r}, a name and base64")
    return name, data[:4], data[4:]
