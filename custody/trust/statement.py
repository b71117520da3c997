"""The Statement: what signers vouch for, one line of meaning for every byte of `sealed/`.

An in-toto Statement v1 in RFC 8785 bytes. Its one subject is `SHA256SUMS`; the predicate binds the bundle's
identity and, for every file, path, mode, size, flat digest and the root of the tree over its leaves. In a bundle of
profile `cnsa` the subject is `SHA384SUMS`, and SHA-384 is what every file is compared with; the SHA-256 beside it is
the name under which the file's makers know it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)  # fmt: skip

from custody.errors import BundleMalformed
from custody.trust import canonical
from custody.trust.profile import algorithm_of, hexdigest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:airgap:bundle:v1"
LIMIT_BYTES = 32 << 20
#: Where the SBOM and the provenance of what was built lie, below `sealed/`.
SBOM_FOLDER = "sbom/"
FACTS = "facts.txt"

#: Of one path below `sealed/`.
PATH_LIMIT_BYTES = 512
_PATH = re.compile(rf"[A-Za-z0-9._+~%@=/-]{{1,{PATH_LIMIT_BYTES}}}")

Algorithm = Literal["sha256", "sha384"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Sha384 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{96}$")]
Count = Annotated[int, Field(ge=0, le=canonical.LARGEST)]
Positive = Annotated[int, Field(ge=1, le=canonical.LARGEST)]
#: A shell reads it, too: nothing that JSON escapes.
Text = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[ !#-\[\]-~]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Digested(_Strict):
    """Something with a digest, or two in a bundle whose digest is SHA-384."""

    path: str
    sha256: Sha256
    sha384: Sha384 | None = None

    @property
    def algorithm(self) -> Algorithm:
        """What it is compared with."""
        return "sha256" if self.sha384 is None else "sha384"

    @property
    def digest(self) -> str:
        """Of the whole file."""
        return self.sha384 or self.sha256

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return content if self.sha384 else {key: value for key, value in content.items() if key != "sha384"}


class Entry(_Digested):
    """One file below `sealed/` (all but the list of digests itself).

    Attributes:
        path: relative, forward slashes.
        mode: "0644" or "0755".
        sha256, sha384: of the whole file.
        leaf_root: RFC 6962 tree over the file's leaves.
    """

    mode: Literal["0644", "0755"]
    size_bytes: Count
    leaf_root: Sha256 | Sha384


class Identity(_Strict):
    """Which bundle this is."""

    name: Text
    channel: Text
    version: Positive
    security_epoch: Positive
    digest: Algorithm
    base: None = None
    lock_sha256: Sha256
    lowest_revocation: Count
    lowest_verifier: Text
    source_date_epoch: Count

    @property
    def id(self) -> str:
        """Name and version, as folders are called."""
        return f"{self.name}-{self.version}"


class StatementTarget(_Strict):
    """The host that the bundle is for."""

    distribution: Text
    release: Text
    architecture: Text
    python: Text
    kernel: Text
    driver: Text | None


class Document(_Digested):
    """An SBOM or a provenance, named once more for readers who look for no other file."""


class Predicate(_Strict):
    """What the signers say about the list of digests."""

    bundle: Identity
    target: StatementTarget
    sbom: tuple[Document, ...] = ()
    files: tuple[Entry, ...]


class Subject(_Strict):
    """The one subject."""

    name: Literal["SHA256SUMS", "SHA384SUMS"]
    digest: Annotated[dict[Algorithm, Sha256 | Sha384], Field(min_length=1, max_length=1)]


class Statement(_Strict):
    """A whole Statement."""

    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicateType: Literal["urn:airgap:bundle:v1"]
    predicate: Predicate

    @property
    def algorithm(self) -> Algorithm:
        """Of every digest that counts."""
        return self.predicate.bundle.digest

    @property
    def sums_name(self) -> str:
        """Where the list of digests lies, below `sealed/`."""
        return sums_name(self.algorithm)

    @property
    def sums_digest(self) -> str:
        """Digest of that list."""
        return self.subject[0].digest[self.algorithm]

    @cached_property
    def digest(self) -> str:
        """Of its bytes, with the bundle's algorithm: the name under which it is approved, revoked and gone back to."""
        return hexdigest(self.algorithm, self.dump())

    def dump(self) -> bytes:
        """Canonical bytes: what is signed. What `parse` has read gives just the bytes that were read."""
        return canonical.dump(self.model_dump(mode="json", by_alias=True))


def sums_name(algorithm: str) -> str:
    """What coreutils' users call a list of such digests."""
    return f"{algorithm.upper()}SUMS"


def make(predicate: Predicate, sums_digest: str) -> Statement:
    """A Statement over a finished `sealed/`."""
    algorithm = predicate.bundle.digest
    check_paths(entry.path for entry in predicate.files)
    statement = Statement.model_validate(
        {
            "_type": STATEMENT_TYPE,
            "subject": (Subject.model_validate({"name": sums_name(algorithm), "digest": {algorithm: sums_digest}}),),
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )
    _check_sense(statement, "the Statement")
    return statement


def parse(data: bytes, name: str) -> Statement:
    """Read a Statement.

    Raises:
        BundleMalformed: not canonical, unknown or missing fields, a path outside the grammar, two paths alike,
            digests of another algorithm than the bundle's, or `sbom` differs from what `files` has below `sbom/`.
    """
    content = canonical.parse(data, name, LIMIT_BYTES)
    try:
        statement = Statement.model_validate_json(data)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleMalformed(f"{name}: {where}: {first['msg']}") from error
    if statement.model_dump(mode="json", by_alias=True) != content:
        raise BundleMalformed(f"{name}: a field is left out, or is there with nothing in it")
    paths = [entry.path for entry in statement.predicate.files]
    check_paths(paths)
    if paths != sorted(paths):
        raise BundleMalformed(f"{name}: files are not sorted by path")
    _check_sense(statement, name)
    return statement


def documents(files: Iterable[Entry]) -> tuple[Document, ...]:
    """What `sbom` holds for these files, in their order."""
    return tuple(
        Document(path=e.path, sha256=e.sha256, sha384=e.sha384) for e in files if e.path.startswith(SBOM_FOLDER)
    )


def _check_sense(statement: Statement, name: str) -> None:
    algorithm, predicate, subject = statement.algorithm, statement.predicate, statement.subject[0]
    roots = {algorithm_of(entry.leaf_root) for entry in predicate.files}
    kinds = {entry.algorithm for entry in predicate.files} | roots | {*subject.digest}
    if kinds != {algorithm} or subject.name != statement.sums_name or algorithm_of(statement.sums_digest) != algorithm:
        raise BundleMalformed(f"{name}: expected {algorithm} and {statement.sums_name} throughout, found others")
    if predicate.sbom != documents(predicate.files):
        raise BundleMalformed(f"{name}: sbom does not name just the files below {SBOM_FOLDER}, in order, as files does")


def check_paths(paths: Iterable[str]) -> None:
    """Hold paths to the bundle's grammar.

    Raises:
        BundleMalformed: characters outside the list, a component that is empty or starts with `-` or `.`, two
            paths alike but for case, or a file where another path has a folder.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        if not _PATH.fullmatch(path) or any(not part or part[0] in "-." for part in parts):
            raise BundleMalformed(f"{path!r}: not a path that a bundle may hold")
        folded = path.casefold()
        if folded in seen:
            raise BundleMalformed(f"{path}: differs from {seen[folded]} at most in case")
        seen[folded] = path
        for n in range(1, len(parts)):
            folders["/".join(parts[:n]).casefold()] = path
    for folded in seen.keys() & folders.keys():
        raise BundleMalformed(f"{seen[folded]}: is a file, and a folder for {folders[folded]}")


def facts(identity: Identity, target: StatementTarget) -> bytes:
    """`facts.txt`: what a shell wants to know of the Statement, a fact a line."""
    lines = {
        "format": "1",
        "bundle": identity.name,
        "channel": identity.channel,
        "version": identity.version,
        "security_epoch": identity.security_epoch,
        "base": "",
        "source_date_epoch": identity.source_date_epoch,
        "lowest_revocation": identity.lowest_revocation,
        "lowest_verifier": identity.lowest_verifier,
        "distribution": target.distribution,
        "release": target.release,
        "architecture": target.architecture,
        "python": target.python,
        "kernel": target.kernel,
        "driver": target.driver or "",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items()).encode()


def sums(entries: Iterable[Entry]) -> bytes:
    """The one spelling of their list: digest, two blanks, path; sorted by path."""
    return "".join(f"{e.digest}  {e.path}\n" for e in sorted(entries, key=lambda e: e.path)).encode()
