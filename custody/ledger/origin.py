"""Who a log is: its name, and the one key that signs its checkpoints.

The key is Ed25519, PKCS#8 without a passphrase, in a file of the log's owner: whoever is that user can sign as the
log. What he rewrites is seen when a checkpoint that left the host earlier is compared; docs/design/ledger.md says so
to the reader too.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from custody.atomic import write_whole
from custody.errors import InputInvalid, SecretRefused, TargetRefused
from custody.ledger.note import NAME, LogKey, LogSigner
from custody.secret import read_secret

#: Files of a log that say who it is.
KEY, VKEY, PEM = "log.key", "log.vkey", "log.pem"


def make(folder: Path, name: str) -> LogSigner:
    """Begin a log: a folder and a key that nobody had before.

    Raises:
        InputInvalid: the name is not an origin.
        TargetRefused: there is a log already.
    """
    if not NAME.fullmatch(name):
        raise InputInvalid(f"origin {name!r}: expected visible ASCII without blank and +", "site-7.example/custody")
    if os.path.lexists(folder / VKEY):
        raise TargetRefused(f"{folder}: has a log already", "a log is never begun anew; name another folder")
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    if os.path.lexists(folder / KEY):  # of a run that was stopped before the name was written
        signer = LogSigner(name, _load_key(folder / KEY))
    else:
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_whole(folder / KEY, pem, mode=0o600)
        signer = LogSigner(name, key)
    write_whole(folder / PEM, signer.public.pem)
    write_whole(folder / VKEY, f"{signer.public.vkey}\n".encode())
    return signer


def load(folder: Path) -> LogSigner:
    """The key of a log that is there.

    Raises:
        InputInvalid: no log is there.
        SecretRefused: the key is missing, readable by others, or not the log's.
    """
    public = load_public(folder)
    signer = LogSigner(public.name, _load_key(folder / KEY))
    if signer.public != public:
        raise SecretRefused(f"{folder / KEY}: expected the key that {VKEY} names, found another one", "")
    return signer


def load_public(folder: Path) -> LogKey:
    """The name and public key of a log.

    Raises:
        InputInvalid: no log is there.
    """
    if not (folder / VKEY).exists():
        raise InputInvalid(f"{folder}: expected a log, found none ({VKEY})", "check the path")
    return read_public(folder / VKEY)


def read_public(file: Path) -> LogKey:
    """A log's key out of a file, as C2SP tools take it.

    Raises:
        InputInvalid: it is none.
    """
    try:
        return LogKey.parse(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"{file}: expected a log's key: {error}", "take log.vkey of the log") from error


def _load_key(file: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(read_secret(file).encode(), None)
    except (ValueError, TypeError) as error:
        raise SecretRefused(f"{file}: expected a PKCS#8 key without a passphrase", f"ls -la {file}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SecretRefused(f"{file}: expected an Ed25519 key", f"ls -la {file}")
    return key
