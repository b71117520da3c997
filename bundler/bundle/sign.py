"""Put signatures beside what they are over: a bundle's Statement.

A signer's machine reads the whole bundle first: nobody signs bytes that differ from the Statement.
"""

from __future__ import annotations

from pathlib import Path

from bundler.bundle.read import FolderSource, read_envelope, unsigned_statement
from bundler.bundle.trustfolder import TrustFolder
from custody.atomic import write_whole
from custody.errors import BundleMalformed, SecretRefused, TrustRejected
from custody.lock import alone
from custody.report import Reporter
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
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
    believed = TrustFolder(trust).trust()
    root, keyid = believed.root, key.public.keyid
    if keyid not in root.keys_by_id():
        raise TrustRejected(f"key {keyid[:16]}: no person of {trust} holds it", f"see airgap trust show {trust}")
    if keyid in believed.revocations.keys:
        raise TrustRejected(
            f"key {keyid[:16]}: revoked: {believed.revocations.keys[keyid]}", f"see airgap trust show {trust}"
        )
    person = root.person_of(keyid)
    if not {"builder", "approver"} & set(person.roles):
        raise TrustRejected(f"{person.name}: is neither builder nor approver", f"see airgap trust show {trust}")
    statement, payload = unsigned_statement(folder)
    verify_unsigned(FolderSource(folder), statement, reporter)
    carried = folder / "carrier" / "trust"
    first = carried / "1.root.json"
    if first.exists() and _payload(first) != _payload(trust / "1.root.json"):
        raise TrustRejected(f"{first}: another root than {trust}", "sign with the root that the bundle carries")
    envelope = read_envelope(folder, payload)
    if envelope.payload != payload:
        raise BundleMalformed(f"{folder}/carrier/statement.dsse.json: is over another Statement than statement.json")
    if dry_run:
        return person.name
    signed = envelope.signed_by(key)
    files = {carried / name: data for name, data in TrustFolder(trust).files().items()}
    files[folder / "carrier" / "sig" / f"{keyid}.sig"] = signed.signatures[keyid]
    files[folder / "carrier" / "statement.dsse.json"] = signed.dump()  # last: what is in it lies beside it
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return person.name


def _payload(path: Path) -> bytes:
    return Envelope.parse(path.read_bytes(), str(path)).payload
