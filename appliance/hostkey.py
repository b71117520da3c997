"""The host's own signing key: says that something came from this host, and nothing else.

ECDSA P-384, made on first use, PKCS#8 without a passphrase in a file of root's: whoever is root on the host can sign as
the host. `airgap status` shows its id, which a factory writes down when it sees the host.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from custody.errors import SecretRefused
from custody.secret import read_secret
from custody.trust.keys import PrivateKey

FILE = Path("/var/lib/airgap/host.key")


def load(file: Path = FILE) -> PrivateKey:
    """The key that is there.

    Raises:
        SecretRefused: missing, readable by others, or not a P-384 key.
    """
    try:
        key = load_pem_private_key(read_secret(file).encode(), None)
    except (ValueError, TypeError) as error:
        raise SecretRefused(f"{file}: expected a PKCS#8 key without a passphrase", f"ls -la {file}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise SecretRefused(f"{file}: expected an ECDSA P-384 key", f"ls -la {file}")
    return PrivateKey(key)


def load_or_make(file: Path = FILE) -> PrivateKey:
    """The key, made if there is none; a file that is there and broken is never overwritten."""
    if os.path.lexists(file):
        return load(file)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    try:
        file.hardlink_to(part)  # the first of two that make one wins
    except FileExistsError:
        pass
    finally:
        part.unlink()
    return load(file)
