"""Keys: one curve, one encoding, a passphrase of some length."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)  # fmt: skip

from custody.errors import InputInvalid, SecretRefused, TrustRejected
from custody.trust import keys
from custody.trust.keys import PrivateKey, PublicKey
from custody.trust.profile import MLDSA_SCHEME, P384_SCHEME

PASSPHRASE = b"correct horse battery staple"


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))


def test_a_key_survives_its_file_and_signs() -> None:
    key = PrivateKey.generate()
    again = PrivateKey.load(key.dump(PASSPHRASE), PASSPHRASE, "alice.key")
    assert again.public == key.public
    assert key.public.verifies(again.sign(b"it"), b"it")
    assert not key.public.verifies(again.sign(b"it"), b"other")
    assert not key.public.verifies(b"", b"it")
    assert repr(key) == f"PrivateKey({key.public.keyid[:16]})"


def test_a_key_of_ml_dsa_survives_its_file_and_signs() -> None:
    key = PrivateKey.generate(MLDSA_SCHEME)
    again = PrivateKey.load(key.dump(PASSPHRASE), PASSPHRASE, "alice-pq.key")
    assert again.public == key.public
    assert key.public.scheme == MLDSA_SCHEME
    signature = again.sign(b"it")
    assert len(signature) == 4627
    assert key.public.verifies(signature, b"it")
    assert not key.public.verifies(signature, b"other")
    assert not key.public.verifies(signature + b"x", b"it")
    with pytest.raises(SecretRefused, match="signs no digest"):
        again.sign_digest(b"x" * 48)


def test_key_files_that_are_refused() -> None:
    key = PrivateKey.generate()
    with pytest.raises(SecretRefused, match="at least 15"):
        key.dump(b"fourteen chars")
    assert PrivateKey.load(key.dump(b"fifteen, exact."), b"fifteen, exact.", "alice.key").public == key.public
    with pytest.raises(SecretRefused, match="does not open"):
        PrivateKey.load(key.dump(PASSPHRASE), b"another passphrase", "alice.key")
    plain = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(SecretRefused, match="encrypted PKCS#8"):
        PrivateKey.load(plain, PASSPHRASE, "alice.key")
    for other in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(SecretRefused, match="P-384"):
            PrivateKey.load(pem(other), PASSPHRASE, "alice.key")


def test_a_scheme_that_no_profile_knows_makes_no_key() -> None:
    with pytest.raises(InputInvalid, match=r"ed25519: expected the scheme ecdsa-p384-sha384 or ml-dsa-87"):
        PrivateKey.generate("ed25519")


def test_a_public_key_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    key = PrivateKey.generate()
    public = key.public
    monkeypatch.setattr(keys, "load_der_public_key", None)
    assert public.scheme == P384_SCHEME
    assert public.verifies(key.sign(b"it"), b"it")


def test_public_keys_that_are_refused() -> None:
    with pytest.raises(TrustRejected, match="SubjectPublicKeyInfo"):
        PublicKey(b"x")
    for other in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(TrustRejected, match="P-384"):
            PublicKey(other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def test_the_text_of_a_public_key() -> None:
    key = PrivateKey.generate().public
    text = base64.b64encode(key.der).decode()
    assert PublicKey.from_text(text) == PublicKey.from_text(f"{text}\n") == key
    for wrong in ("", text[:-1], f"{text[:8]}-{text[8:]}", f"{text[:8]}\n{text[8:]}", f"é{text}", text[4:]):
        with pytest.raises(TrustRejected, match="public key"):
            PublicKey.from_text(wrong)


def test_a_digest_is_signed_as_its_message_is() -> None:
    key = PrivateKey.generate()
    sha384 = hashlib.sha384(b"it").digest()
    assert key.public.verifies(key.sign_digest(sha384), b"it")
    assert key.public.verifies_digest(key.sign(b"it"), sha384)
    assert not key.public.verifies_digest(key.sign(b"other"), sha384)
    outside = load_der_public_key(key.public.der)
    assert isinstance(outside, ec.EllipticCurvePublicKey)
    outside.verify(key.sign(b"it"), b"it", ec.ECDSA(hashes.SHA384()))
