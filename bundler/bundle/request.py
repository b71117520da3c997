"""Signing in another room: a request goes there, a signature comes back.

A request comes in one of two forms. *Whole*: it carries the Statement and the lock, so that the machine in the other
room counts and hashes them itself. *By digest*: it carries what they came to, all of it said by the machine that wrote
it; then nothing is signed before somebody gives the request's own digest as a second machine found it, from its own
copy of the bundle. The same bundle gives the same request, byte for byte. Formats: `docs/design/trust.md`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bundler.bundle.read import FolderSource
from bundler.bundle.sign import Base, look
from bundler.bundle.summary import Difference, Plain, Summary, lines, summarize
from bundler.bundle.trustfolder import TrustFolder
from custody.errors import BundleMalformed, DigestMismatch, InputInvalid, SignatureRejected
from custody.lock import alone
from custody.report import Reporter
from custody.trust import canonical
from custody.trust import statement as statements
from custody.trust.envelope import pae
from custody.trust.keys import DigestSigner, PublicKey, digest
from custody.trust.profile import hexdigest
from custody.trust.statement import Sha256, Sha384, Statement
from custody.trust.verify import verify_unsigned

#: A Statement of 32 MiB and a lock; as long as an envelope may be.
LIMIT_BYTES = 64 << 20
SIGNATURE_LIMIT_BYTES = 8 << 10
#: Statement and lock travel with the request when neither is larger: about 550 payload files.
SMALL_BYTES = 256 << 10

_AGAIN = "make it anew with: airgap sign BUNDLE --export FILE --trust FOLDER"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Request(_Strict):
    """What goes into the other room.

    Attributes:
        statement, lock: their text in the whole form; null by digest.
    """

    type_: Annotated[Literal["airgap-signing-request"], Field(alias="_type")]
    schema_version: Literal[1]
    payload_type: Literal["application/vnd.in-toto+json"]
    pae_sha384: Sha384
    statement_digest: Sha256 | Sha384
    summary: Summary
    signed_by: tuple[Plain, ...]
    difference: Difference | None
    statement: str | None
    lock: str | None

    def dump(self) -> bytes:
        """Canonical bytes."""
        return canonical.dump(self.model_dump(mode="json", by_alias=True))


class Signature(_Strict):
    """What comes back; `sig` is base64 of the signature."""

    type_: Annotated[Literal["airgap-signature"], Field(alias="_type")]
    schema_version: Literal[1]
    keyid: Sha256
    pae_sha384: Sha384
    sig: Annotated[str, StringConstraints(max_length=6200)]

    def dump(self) -> bytes:
        """Canonical bytes."""
        return canonical.dump(self.model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class Opened:
    """A request that holds together. Only `open_request` makes one.

    Attributes:
        statement: None in a request by digest.
        digest: of the request's bytes, with the bundle's algorithm; what is read aloud.
    """

    request: Request
    statement: Statement | None
    digest: str

    def require(self, expected: str | None) -> None:
        """Refuse another request than the one that a second machine wrote.

        Args:
            expected: the digest that this machine printed; without it a request by digest is refused too.

        Raises:
            DigestMismatch: it is another request.
            InputInvalid: nothing to compare a request by digest with.
        """
        if expected is None and self.statement is None:
            raise InputInvalid(
                "the request carries no Statement: expected its digest from a second machine, found none",
                "export it there too, from that machine's own copy of the bundle; then --request-digest HEX",
            )
        if expected not in (None, self.digest):
            raise DigestMismatch(f"request: expected the digest {expected}, found {self.digest}", "do not sign it")

    def lines(self, base: Base | None) -> list[str]:
        """For people: what is asked for, then what of it this machine has not seen for itself.

        Args:
            base: an older bundle that lies here; the request must be whole.
        """
        difference = self.request.difference
        if base is not None:
            if self.statement is None:
                raise InputInvalid("--base: the request holds no Statement to compare", "export it with --whole")
            difference = base.against(self.statement)
        shown = lines(self.request.summary, self.request.statement_digest, self.request.signed_by, difference)
        shown.append(f"to sign:   sha384 {self.request.pae_sha384}")
        if self.statement is None:
            return [*shown, "on trust:  every line above; the request carries no Statement"]
        said = "who has signed" + (", base and difference" if base is None and difference is not None else "")
        return [*shown, f"on trust:  {said}; the rest was counted here, from the Statement itself"]


def export_request(
    folder: Path, trust: Path, reporter: Reporter, *, base: Path | None = None, whole: bool = False
) -> Request:
    """Write down what somebody in another room needs to see and sign; every byte of the bundle is read first.

    Args:
        base: an older bundle to compare with.
        whole: carry Statement and lock, however large.

    Raises:
        IntegrityFailure: the bundle is not what its Statement says.
        InputInvalid: too large to carry whole.
    """
    with alone(folder, "another signer"):
        shown = look(folder, TrustFolder(trust).trust().root, trust, base)
        verify_unsigned(FolderSource(folder), shown.statement, reporter)
    payload = shown.envelope.payload
    carries = whole or max(len(payload), len(shown.lock)) <= SMALL_BYTES
    request = Request.model_validate(
        {
            "_type": "airgap-signing-request",
            "schema_version": 1,
            "payload_type": statements.PAYLOAD_TYPE,
            "pae_sha384": shown.pae_sha384,
            "statement_digest": shown.statement_digest,
            "summary": shown.summary,
            "signed_by": shown.signed_by,
            "difference": shown.difference,
            "statement": payload.decode() if carries else None,
            "lock": shown.lock.decode() if carries else None,
        }
    )
    if len(request.dump()) > LIMIT_BYTES:
        raise InputInvalid(f"{folder}: the request would be over {LIMIT_BYTES} bytes", "leave out --whole")
    return request


def open_request(data: bytes, name: str) -> Opened:
    """Read a request; a whole one is counted and hashed again.

    Raises:
        BundleMalformed: too long, not canonical, not a request, or it says other than the Statement in it.
        DigestMismatch: its digests are not those of the Statement or lock in it.
    """
    request: Request = _parse(Request, data, name, LIMIT_BYTES, "a signing request")
    number = hexdigest(request.summary.bundle.digest, data)
    if (request.statement is None) != (request.lock is None):
        raise BundleMalformed(f"{name}: expected Statement and lock, or neither", _AGAIN)
    if request.statement is None or request.lock is None:
        return Opened(request, None, number)
    payload = request.statement.encode()
    statement = statements.parse(payload, f"{name}: statement")
    for what, expected, found in (
        ("pae_sha384", request.pae_sha384, digest(pae(request.payload_type, payload)).hex()),
        ("statement_digest", request.statement_digest, statement.digest),
    ):
        if expected != found:
            raise DigestMismatch(f"{name}: {what}: expected {expected}, found {found}", _AGAIN)
    if summarize(statement, request.lock.encode()) != request.summary:
        raise BundleMalformed(f"{name}: summary: is not that of the Statement in it", _AGAIN)
    return Opened(request, statement, number)


def sign_request(opened: Opened, key: DigestSigner, expected: str | None) -> Signature:
    """Sign what a request asks for.

    Args:
        expected: see `Opened.require`, which it goes through.

    Raises:
        SecretRefused: the request is by digest, and the key signs none.
    """
    opened.require(expected)
    request = opened.request
    if request.statement is not None:
        signed = key.sign(pae(request.payload_type, request.statement.encode()))
    else:
        signed = key.sign_digest(bytes.fromhex(request.pae_sha384))
    return Signature.model_validate(
        {
            "_type": "airgap-signature",
            "schema_version": 1,
            "keyid": key.public.keyid,
            "pae_sha384": opened.request.pae_sha384,
            "sig": base64.b64encode(signed).decode(),
        }
    )


@dataclass(frozen=True)
class CarriedSignature:
    """A signature that was made in another room; a `custody.trust.keys.Signer` of that one thing."""

    public: PublicKey
    _pae_sha384: str
    _signature: bytes
    _name: str

    def sign(self, message: bytes) -> bytes:
        """The signature, if it is over `message`.

        Raises:
            SignatureRejected: it is over something else, or false.
        """
        found = digest(message).hex()
        if found != self._pae_sha384:
            raise SignatureRejected(
                f"{self._name}: is over sha384 {self._pae_sha384}, this bundle is {found}",
                "attach it to the bundle that it was made for",
            )
        if not self.public.verifies(self._signature, message):
            raise SignatureRejected(f"{self._name}: the signature of key {self.public.keyid[:16]} is false", _AGAIN)
        return self._signature


def open_signature(data: bytes, name: str, trust: Path) -> CarriedSignature:
    """Read a signature file.

    Raises:
        BundleMalformed: too long, not canonical, not a signature.
        SignatureRejected: of a key that nobody of this root holds.
    """
    carried: Signature = _parse(Signature, data, name, SIGNATURE_LIMIT_BYTES, "a signature")
    keys = TrustFolder(trust).trust().root.keys_by_id()
    if carried.keyid not in keys:
        raise SignatureRejected(
            f"{name}: key {carried.keyid[:16]}: no person of {trust} holds it", f"see airgap trust show {trust}"
        )
    try:
        signature = base64.b64decode(carried.sig, validate=True)
    except binascii.Error as error:
        raise BundleMalformed(f"{name}: sig: {error}", _AGAIN) from error
    return CarriedSignature(keys[carried.keyid], carried.pae_sha384, signature, name)


def _parse(model: type[Any], data: bytes, name: str, limit_bytes: int, what: str) -> Any:
    canonical.parse(data, name, limit_bytes)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleMalformed(f"{name}: not {what}: {where}: {first['msg']}", _AGAIN) from error
