"""The one form in which something leaves a site: signed with the host's key, then encrypted to a named key.

Encryption is CMS AuthEnvelopedData (RFC 5083, 5084: AES-256-GCM) to a P-384 key (RFC 5753: ephemeral ECDH, SHA-384),
made by openssl and opened by it with nothing but the private key. Files are new, whole, and readable by their owner
alone.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from custody._run import run
from custody.errors import AirgapError, InputInvalid, TargetRefused
from custody.trust.keys import PublicKey


def read_recipient(file: Path) -> PublicKey:
    """The public key in a file that `airgap keys new` made.

    Raises:
        InputInvalid: unreadable or not such a file.
    """
    try:
        return PublicKey.from_text(file.read_text())
    except (OSError, UnicodeDecodeError, AirgapError) as error:
        raise InputInvalid(
            f"{file}: expected a public key of `airgap keys new`: {error}", "ask for NAME.pub"
        ) from error


def encrypt(data: bytes, to: PublicKey) -> bytes:
    """CMS in DER that only the holder of the private key opens."""
    with tempfile.TemporaryDirectory(prefix="airgap-") as folder:
        certificate = Path(folder) / "recipient.pem"
        certificate.write_bytes(_wrapper(to))
        return run(
            ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-gcm",
             "-recip", certificate, "-keyopt", "ecdh_kdf_md:sha384", "-keyid"],
            stdin=data,
        ).stdout  # fmt: skip


def _wrapper(to: PublicKey) -> bytes:
    """A certificate around the key, because openssl takes nothing else; only the key in it matters."""
    key = load_der_public_key(to.der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, to.keyid[:16])])
    year = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key, 1, year, year.replace(year=9999))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384())
    return signed.public_bytes(Encoding.PEM)


def require_new(path: Path) -> None:
    """Refuse a path that is taken.

    Raises:
        TargetRefused: something is there.
    """
    if os.path.lexists(path):
        raise TargetRefused(f"{path}: exists already", "choose another name; nothing is overwritten")


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, mode 0600; it is there whole or not at all.

    Raises:
        TargetRefused: something is there already.
    """
    require_new(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        require_new(path)
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
