"""Signing keys: ECDSA P-384 with SHA-384 (DER signatures), and ML-DSA-87 (FIPS 204, pure, without context).

They lie in PKCS#8 under a passphrase, or wherever a `Signer` has them. A public key has several encodings that mean one
key; all but one are refused (named curve, uncompressed point, SubjectPublicKeyInfo), so that a key has one id: the
SHA-256 of those DER bytes. An id is a name: the root holds the keys themselves.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)  # fmt: skip

from custody.errors import InputInvalid, SecretRefused, TrustRejected
from custody.trust.profile import MLDSA_SCHEME, P384_SCHEME

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
        der: SubjectPublicKeyInfo of ML-DSA-87, or of P-384 with named curve and uncompressed point.
    """

    der: bytes

    def __post_init__(self) -> None:
        if self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != self.der:
            raise TrustRejected("public key: expected the named-curve, uncompressed encoding, found another one")

    @staticmethod
    def from_text(text: str) -> PublicKey:
        """The key in the text of a `NAME.pub`: its bytes in base64 (RFC 4648, section 4), with or without a newline.

        Raises:
            TrustRejected: something else.
        """
        try:
            return PublicKey(base64.b64decode(text.strip(), validate=True))
        except ValueError as error:  # binascii.Error, and text that is not ASCII
            raise TrustRejected(f"public key: not base64: {error}") from error

    @cached_property
    def _key(self) -> ec.EllipticCurvePublicKey | MLDSA87PublicKey:
        try:
            key = load_der_public_key(self.der)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TrustRejected(f"public key: not a SubjectPublicKeyInfo: {error}") from error
        if isinstance(key, MLDSA87PublicKey):
            return key
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
            return key
        raise TrustRejected("public key: expected ECDSA on curve P-384 or ML-DSA-87, found something else")

    @property
    def keyid(self) -> str:
        """SHA-256 of the DER bytes, lower-case hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def scheme(self) -> str:
        """How it signs: one of `custody.trust.profile`'s schemes."""
        return MLDSA_SCHEME if isinstance(self._key, MLDSA87PublicKey) else P384_SCHEME

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` over `message` is this key's."""
        if not isinstance(self._key, MLDSA87PublicKey):
            return self.verifies_digest(signature, digest(message))
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def verifies_digest(self, signature: bytes, sha384: bytes) -> bool:
        """The same for a message of which only the SHA-384 is known, and a P-384 key."""
        assert isinstance(self._key, ec.EllipticCurvePublicKey)
        try:
            self._key.verify(signature, sha384, _DIGEST)
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """A key that signs, wherever it lies: in a file, on a token, in another room."""

    @property
    def public(self) -> PublicKey:
        """The other half."""

    def sign(self, message: bytes) -> bytes:
        """Signature over `message`."""


class DigestSigner(Signer, Protocol):
    """A key at hand: one of P-384 also signs what it knows by digest alone."""

    def sign_digest(self, sha384: bytes) -> bytes:
        """DER signature over the message with this SHA-384.

        Raises:
            SecretRefused: a key of another scheme.
        """


@dataclass(frozen=True)
class PrivateKey:
    """A key in memory that signs, out of a file. Its `repr` holds nothing secret."""

    _key: ec.EllipticCurvePrivateKey | MLDSA87PrivateKey

    @staticmethod
    def generate(scheme: str = P384_SCHEME) -> PrivateKey:
        """A new key.

        Raises:
            InputInvalid: a scheme that no profile knows.
        """
        if scheme == MLDSA_SCHEME:
            return PrivateKey(MLDSA87PrivateKey.generate())
        if scheme == P384_SCHEME:
            return PrivateKey(ec.generate_private_key(ec.SECP384R1()))
        raise InputInvalid(f"{scheme}: expected the scheme {P384_SCHEME} or {MLDSA_SCHEME}")

    @staticmethod
    def load(pem: bytes, passphrase: bytes, name: str) -> PrivateKey:
        """Open an encrypted PKCS#8 key.

        Raises:
            SecretRefused: wrong passphrase, no encryption, or a key of another kind. Says nothing of the contents.
        """
        if b"ENCRYPTED PRIVATE KEY" not in pem:
            raise SecretRefused(f"{name}: expected an encrypted PKCS#8 key", "make one with: airgap keys new")
        try:
            key = load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError) as error:
            raise SecretRefused(f"{name}: the passphrase does not open this key", "try again") from error
        if isinstance(key, MLDSA87PrivateKey):
            return PrivateKey(key)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
            raise SecretRefused(f"{name}: expected an ECDSA P-384 or ML-DSA-87 key", "make one with: airgap keys new")
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
        """Signature over `message`."""
        if isinstance(self._key, MLDSA87PrivateKey):
            return self._key.sign(message)
        return self.sign_digest(digest(message))

    def sign_digest(self, sha384: bytes) -> bytes:
        """DER signature over the message with this SHA-384."""
        if isinstance(self._key, MLDSA87PrivateKey):
            raise SecretRefused(
                "ML-DSA-87 signs no digest: expected the Statement itself", "export the request with --whole"
            )
        return self._key.sign(sha384, _DIGEST)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.keyid[:16]})"
