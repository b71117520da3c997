"""Put signatures beside what they are over: a bundle's Statement.

A signer's machine shows what it is about to sign, and reads the whole bundle: nobody signs bytes that differ from the
Statement, and the Statement that is signed is the one that was shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle.read import FolderSource, read_envelope, unsigned_statement
from bundler.bundle.summary import Difference, Summary, compare, lines, signers_of, summarize
from bundler.bundle.trustfolder import TrustFolder
from bundler.bundle.write import LOCK_NAME
from bundler.manifest.lock import MAX_BYTES
from custody.atomic import write_whole
from custody.errors import BundleMalformed, InputInvalid, TrustRejected
from custody.lock import alone
from custody.report import Reporter
from custody.trust import statement as statements
from custody.trust.chain import Trust
from custody.trust.envelope import LIMIT_BYTES, Envelope, pae
from custody.trust.keys import Signer, digest
from custody.trust.root import Person, Root
from custody.trust.statement import Statement
from custody.trust.verify import verify_unsigned

_UNCHECKED = ("unchecked, since no --trust was given",)


@dataclass(frozen=True)
class Shown:
    """What is put before a signer, and the bytes that it was made from.

    Attributes:
        envelope: the Statement's, with the signatures so far.
        lock: `sealed/lock.json`.
    """

    statement: Statement
    envelope: Envelope
    lock: bytes
    summary: Summary
    signed_by: tuple[str, ...]
    difference: Difference | None

    @property
    def pae_sha384(self) -> str:
        """What a P-384 key signs, in hex."""
        return digest(pae(self.envelope.payload_type, self.envelope.payload)).hex()

    @property
    def statement_digest(self) -> str:
        """As `airgap build` prints it."""
        return self.statement.digest

    def lines(self) -> list[str]:
        """For people."""
        return lines(self.summary, self.statement_digest, self.signed_by, self.difference)


def sign_bundle(
    folder: Path, key: Signer, trust: Path, reporter: Reporter, *,
    dry_run: bool = False, base: Path | None = None, agree: Callable[[Shown], None] = lambda shown: None,
) -> str:  # fmt: skip
    """Sign a bundle's Statement.

    Args:
        trust: folder with the root; it is put into the bundle's carrier.
        dry_run: check everything, write nothing.
        base: an older bundle to compare with; see `read_base`.
        agree: shows a person what is to be signed, and raises when that is not what they want.

    Returns:
        The person's name.

    Raises:
        TrustRejected: the key belongs to nobody who is builder or approver, or the bundle carries another root.
        IntegrityFailure: the bundle is not what its Statement says.
    """
    with alone(folder, "another signer"):
        believed = TrustFolder(trust).trust()
        person = person_of(believed, key.public.keyid, trust)
        shown = look(folder, believed.root, trust, base)
        agree(shown)
        verify_unsigned(FolderSource(folder), shown.statement, reporter)
        if not dry_run:
            _write(folder, shown.envelope.signed_by(key), key.public.keyid, trust)
    return person.name


def person_of(believed: Trust, keyid: str, trust: Path) -> Person:
    """The builder or approver who holds a key.

    Raises:
        TrustRejected: nobody, or the key was revoked.
    """
    root, hint = believed.root, f"see airgap trust show {trust}"
    if keyid not in root.keys_by_id():
        raise TrustRejected(f"key {keyid[:16]}: no person of {trust} holds it", hint)
    if keyid in believed.revocations.keys:
        raise TrustRejected(f"key {keyid[:16]}: revoked: {believed.revocations.keys[keyid]}", hint)
    person = root.person_of(keyid)
    if not {"builder", "approver"} & set(person.roles):
        raise TrustRejected(f"{person.name}: is neither builder nor approver", hint)
    return person


def look(folder: Path, root: Root, trust: Path, base: Path | None) -> Shown:
    """Read what a signer is shown; the payload is not read for it.

    Raises:
        TrustRejected: the bundle carries another root.
        BundleMalformed: its envelope is over another Statement.
        DigestMismatch: its lock is not the one that the Statement binds.
    """
    first = folder / "carrier" / "trust" / "1.root.json"
    if first.exists() and _payload(first) != _payload(trust / "1.root.json"):
        raise TrustRejected(f"{first}: another root than {trust}", "sign with the root that the bundle carries")
    statement, payload = unsigned_statement(folder)
    envelope = read_envelope(folder, payload)
    name = f"{folder}/carrier/statement.dsse.json"
    if (envelope.payload_type, envelope.payload) != (statements.PAYLOAD_TYPE, payload):
        raise BundleMalformed(f"{name}: is over another Statement than statement.json")
    with FolderSource(folder).open(LOCK_NAME) as stream:
        lock = stream.read(MAX_BYTES + 1)
    difference = read_base(base, root).against(statement) if base is not None else None
    return Shown(statement, envelope, lock, summarize(statement, lock), signers_of(envelope, root, name), difference)


@dataclass(frozen=True)
class Base:
    """An older bundle to compare with, and who of a root has signed it."""

    statement: Statement
    digest: str
    signed_by: tuple[str, ...]

    def against(self, new: Statement) -> Difference:
        """What is new, changed and gone in `new`."""
        return compare(self.statement, self.digest, self.signed_by, new)


def read_base(path: Path, root: Root | None) -> Base:
    """Read an older bundle's Statement.

    Args:
        path: the bundle, or a copy of its `carrier/statement.dsse.json`.
        root: judges its signatures; None: they are not looked at, and that is said.

    Raises:
        BundleMalformed: neither of these.
        SignatureRejected: a signature on it is false.
    """
    if path.is_dir():
        envelope = read_envelope(path, unsigned_statement(path)[1])
    else:
        with path.open("rb") as stream:
            envelope = Envelope.parse(stream.read(LIMIT_BYTES + 1), str(path))
    if envelope.payload_type != statements.PAYLOAD_TYPE:
        raise InputInvalid(f"{path}: not over a Statement", "name a bundle, or its carrier/statement.dsse.json")
    signed_by = signers_of(envelope, root, str(path)) if root is not None else _UNCHECKED
    statement = statements.parse(envelope.payload, str(path))
    return Base(statement, statement.digest, signed_by)


def _write(folder: Path, signed: Envelope, keyid: str, trust: Path) -> None:
    for part in (folder / "carrier").rglob("*.part"):
        part.unlink()  # of a signer who was interrupted
    carrier = folder / "carrier"
    files = {carrier / "trust" / name: data for name, data in TrustFolder(trust).files().items()}
    files[carrier / "sig" / f"{keyid}.sig"] = signed.signatures[keyid]
    files[carrier / "statement.dsse.json"] = signed.dump()  # last: what is in it lies beside it
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)


def _payload(path: Path) -> bytes:
    return Envelope.parse(path.read_bytes(), str(path)).payload
