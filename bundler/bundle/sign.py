"""Put signatures beside what they are over: a bundle's Statement, a root.

A signer's machine reads the whole bundle first: nobody signs bytes that differ from the Statement.
"""

from __future__ import annotations

from pathlib import Path

from bundler.bundle.read import FolderSource, read_envelope, unsigned_statement
from custody.atomic import write_whole
from custody.errors import BundleMalformed, SecretRefused, TrustRejected
from custody.lock import alone
from custody.report import Reporter
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.root import LIMIT_BYTES, Root
from custody.trust.verify import verify_unsigned


def load_key(file: Path, passphrase: bytes) -> PrivateKey:
    """Open a key file; see `PrivateKey.load`."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise SecretRefused(f"{file}: {error.strerror}", "name the .key file that `airgap keys new` made") from error
    return PrivateKey.load(pem, passphrase, str(file))


def sign_bundle(folder: Path, key: PrivateKey, trust: Path, reporter: Reporter, *, dry_run: bool = False) -> str:
    """Sign a bundle's Statement.

    Args:
        trust: folder with the root; it is put into the bundle's carrier.
        dry_run: check everything, write nothing.

    Returns:
        The person's name.

    Raises:
        TrustRejected: the key belongs to nobody who is builder or approver, or the bundle carries another root.
        IntegrityFailure: the bundle is not what its Statement says.
    """
    with alone(folder, "another signer"):
        return _sign_bundle(folder, key, trust, reporter, dry_run)


def _sign_bundle(folder: Path, key: PrivateKey, trust: Path, reporter: Reporter, dry_run: bool) -> str:
    for part in () if dry_run else (folder / "carrier").rglob("*.part"):
        part.unlink()  # of a signer who was interrupted
    root_bytes = _read(trust / "1.root.json")
    root = Root.parse(Envelope.parse(root_bytes, str(trust)).payload, str(trust))
    keyid = key.public.keyid
    if keyid not in root.keys_by_id():
        raise TrustRejected(f"key {keyid[:16]}: no person of {trust} holds it", f"see airgap trust show {trust}")
    person = root.person_of(keyid)
    if not {"builder", "approver"} & set(person.roles):
        raise TrustRejected(f"{person.name}: is neither builder nor approver", f"see airgap trust show {trust}")
    statement, payload = unsigned_statement(folder)
    verify_unsigned(FolderSource(folder), statement, reporter)
    carried = folder / "carrier" / "trust" / "1.root.json"
    if carried.exists() and carried.read_bytes() != root_bytes:
        raise TrustRejected(f"{carried}: another root than {trust}", "sign with the root that the bundle carries")
    envelope = read_envelope(folder, payload)
    if envelope.payload != payload:
        raise BundleMalformed(f"{folder}/carrier/statement.dsse.json: is over another Statement than statement.json")
    if dry_run:
        return person.name
    signed = envelope.signed_by(key)
    beside = {carried: root_bytes, carried.with_name("1.root.flat"): root.flat()}
    for path, data in {**beside, folder / "carrier" / "sig" / f"{keyid}.sig": signed.signatures[keyid]}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    write_whole(folder / "carrier" / "statement.dsse.json", signed.dump())
    return person.name


def add_root_signature(folder: Path, key: PrivateKey) -> str:
    """Sign the root in a folder; returns the person's name.

    Raises:
        TrustRejected: the key belongs to nobody of role root.
    """
    path = folder / "1.root.json"
    with alone(folder, "another signer"):
        envelope = Envelope.parse(_read(path), str(path))
        root = Root.parse(envelope.payload, str(path))
        keyid = key.public.keyid
        if keyid not in root.keys_by_id() or "root" not in root.person_of(keyid).roles:
            raise TrustRejected(f"key {keyid[:16]}: belongs to nobody of role root", f"see airgap trust show {folder}")
        write_whole(path, envelope.signed_by(key).dump())
    return root.person_of(keyid).name


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise TrustRejected(f"{path}: {error.strerror}", "make a root with: airgap trust init FOLDER") from error
