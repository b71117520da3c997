"""Signing keys: ECDSA P-384 with SHA-384, DER signatures, PKCS#8 under a passphrase, or wherever a `Signer` has them.

A public key has several encodings that mean one key; all but one are refused (named curve, uncompressed point,
SubjectPublicKeyInfo), so that a key has one id: the SHA-256 of those DER bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)  # fmt: skip

from custody.errors import SecretRefused, TrustRejected

SCHEME = "ecdsa-p384-sha384"
#: Short passphrases fall to guessing on whatever hardware the finder owns (NIST SP 800-63B: at least 15 alone).
PASSPHRASE_MIN_CHARS = 15
_DIGEST = ec.ECDSA(Prehashed(hashes.SHA384()))


def digest(message: bytes) -> bytes:
    """What ECDSA here is computed over: SHA-384 of the message."""
    return hashlib.sha384(message).digest()


@dataclass(frozen=True)
class PublicKey:
    """A key that can check signatures.

    Attributes:
        der: SubjectPublicKeyInfo, named curve P-384, uncompressed point.
    """

    der: bytes

    def __post_init__(self) -> None:
        try:
            key = load_der_public_key(self.der)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TrustRejected(f"public key: not a SubjectPublicKeyInfo: {error}") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise TrustRejected("public key: expected ECDSA on curve P-384, found something else")
        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != self.der:
            raise TrustRejected("public key: expected the named-curve, uncompressed encoding, found another one")

    @property
    def keyid(self) -> str:
        """SHA-256 of the DER bytes, lower-case hex."""
        return hashlib.sha256(self.der).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` (DER) over `message` is this key's."""
        return self.verifies_digest(signature, digest(message))

    def verifies_digest(self, signature: bytes, sha384: bytes) -> bool:
        """The same for a message of which only the SHA-384 is known."""
        key = load_der_public_key(self.der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, sha384, _DIGEST)
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """A key that signs, wherever it lies: in a file, on a token, in another room."""

    @property
    def public(self) -> PublicKey:
        """The other half."""

    def sign(self, message: bytes) -> bytes:
        """DER signature over `message`."""


class DigestSigner(Signer, Protocol):
    """A key at hand: it also signs what it knows by digest alone."""

    def sign_digest(self, sha384: bytes) -> bytes:
        """DER signature over the message with this SHA-384."""


@dataclass(frozen=True)
class PrivateKey:
    """A key in memory that signs, out of a file. Its `repr` holds nothing secret."""

    _key: ec.EllipticCurvePrivateKey

    @staticmethod
    def generate() -> PrivateKey:
        """A new key."""
        return PrivateKey(ec.generate_private_key(ec.SECP384R1()))

    @staticmethod
    def load(pem: bytes, passphrase: bytes, name: str) -> PrivateKey:
        """Open an encrypted PKCS#8 key.

        Raises:
            SecretRefused: wrong passphrase, no encryption, or not a P-384 key. Says nothing of the contents.
        """
        if b"ENCRYPTED PRIVATE KEY" not in pem:
            raise SecretRefused(f"{name}: expected an encrypted PKCS#8 key", "make one with: airgap keys new")
        try:
            key = load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError) as error:
            raise SecretRefused(f"{name}: the passphrase does not open this key", "try again") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
            raise SecretRefused(f"{name}: expected an ECDSA P-384 key", "make one with: airgap keys new")
        return PrivateKey(key)

    def dump(self, passphrase: bytes) -> bytes:
        """Encrypted PKCS#8 PEM (PBES2, AES-256-CBC)."""
        if len(passphrase) < PASSPHRASE_MIN_CHARS:
            raise SecretRefused(
                f"passphrase: {len(passphrase)} characters, at least {PASSPHRASE_MIN_CHARS} expected",
                "use a longer one",
            )
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))

    @property
    def public(self) -> PublicKey:
        """The other half."""
        return PublicKey(self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, message: bytes) -> bytes:
        """DER signature over `message`."""
        return self.sign_digest(digest(message))

    def sign_digest(self, sha384: bytes) -> bytes:
        """DER signature over the message with this SHA-384."""
        return self._key.sign(sha384, _DIGEST)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.keyid[:16]})"
