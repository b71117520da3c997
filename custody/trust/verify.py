"""Verification: the one place where a `VerifiedBundle` is made.

The order is fixed: roots and revocations (`read_trust`); the envelope's bytes before anything in them is parsed;
the thresholds, counting persons; the Statement; the list of files; then every leaf. There is no network code
here, and no parameter that leaves a step out. What needs a machine's memory (versions) is `policy`'s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from custody.errors import BundleMalformed, DigestMismatch, SignatureRejected, TrustRejected, printable
from custody.report import Reporter
from custody.trust import statement as statements
from custody.trust.chain import Carried, Kept, Trust, believe
from custody.trust.envelope import LIMIT_BYTES, Envelope
from custody.trust.leaves import LEAF_BYTES, digest_bytes, leaf_count, split, tree_root
from custody.trust.policy import Offer, require_not_revoked, require_readable
from custody.trust.profile import hexdigest
from custody.trust.revocations import LIMIT_BYTES as LIST_LIMIT_BYTES
from custody.trust.revocations import Revocations
from custody.trust.root import LIMIT_BYTES as ROOT_LIMIT_BYTES
from custody.trust.root import Root
from custody.trust.statement import Entry, Statement

#: Hashing scales to this many threads on common builders; reading is the limit beyond.
_THREADS = 4
_SUMS_LIMIT_BYTES = 32 << 20
_SIGNATURE_LIMIT_BYTES = 8 << 10  # ML-DSA-87: 4627
_MADE_HERE = object()
#: What may come after sealing, and nothing else; a shell's extended regular expression too.
CARRIER = re.compile(
    r"statement(\.dsse)?\.json|sig/[0-9a-f]{64}\.sig|trust/([1-9][0-9]{0,3}\.root|revocations)\.(json|flat)"
)
_ROOT = re.compile(r"trust/([1-9][0-9]{0,3})\.root\.json")
_AGAIN = "do not use this copy; fetch the medium again from where it was made"


@dataclass(frozen=True)
class Found:
    """One thing below `sealed/`: a regular file, or something that is refused.

    Attributes:
        kind: "file", or what else it is ("link", "socket", ...).
        mode: permission bits.
    """

    path: str
    kind: str
    mode: int
    size_bytes: int

    @property
    def shown(self) -> str:
        """The path for people, in one line."""
        return printable(self.path)


class Source(Protocol):
    """A bundle lying somewhere, unverified."""

    name: str

    def carrier(self, path: str, limit_bytes: int) -> bytes:
        """A file below `carrier/`; raises BundleMalformed when absent, not regular or too long."""

    def carrier_listing(self) -> Iterable[Found]:
        """Everything below `carrier/` but folders."""

    def listing(self) -> Iterable[Found]:
        """Everything below `sealed/` but folders."""

    def open(self, path: str) -> BinaryIO:
        """A file below `sealed/`, without following links; raises BundleMalformed when it is not there."""


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle whose Statement enough persons signed, and a reader that yields checked bytes only.

    Attributes:
        builders, approvers: names of the persons whose signatures counted.
        statement: what they signed.
        trust: what it was judged with.
    """

    statement: Statement
    trust: Trust
    builders: tuple[str, ...]
    approvers: tuple[str, ...]
    source: Source
    _token: object

    def __post_init__(self) -> None:
        if self._token is not _MADE_HERE:
            raise TypeError("only custody.trust.verify makes a VerifiedBundle")

    @property
    def offer(self) -> Offer:
        """As policy wants it."""
        return _offer(self.statement)

    def entries(self, below: str = "") -> tuple[Entry, ...]:
        """Entries whose path starts with `below`, sorted by path."""
        return tuple(e for e in self.statement.predicate.files if e.path.startswith(below))

    def entry(self, path: str) -> Entry:
        """The entry of one path; raises BundleMalformed when the Statement has none."""
        for entry in self.statement.predicate.files:
            if entry.path == path:
                return entry
        raise BundleMalformed(f"{path}: the Statement of {self.source.name} names no such file")

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of a file, leaf by leaf, each checked before it is yielded.

        Raises:
            DigestMismatch: at the first leaf that differs; names file and leaf.
        """
        return _chunks(self.source, entry)

    def leaves(self, entry: Entry) -> list[bytes]:
        """Digest of every 1 MiB of a file, as signed; a payload file is not read for it."""
        if entry.size_bytes > LEAF_BYTES and not entry.path.startswith("data/"):
            whole, size = _whole(self.source, entry), LEAF_BYTES
            return [_digest(entry, whole[i : i + size]) for i in range(0, len(whole), size)]
        return _leaves(self.source, entry)

    def read(self, path: str, limit_bytes: int = 16 << 20) -> bytes:
        """A small file, whole."""
        entry = self.entry(path)
        if entry.size_bytes > limit_bytes:
            raise BundleMalformed(f"{path}: {entry.size_bytes} bytes, at most {limit_bytes} expected")
        return b"".join(self.chunks(entry))


def leaf_path(path: str) -> str:
    """Where the leaves of a payload file (`data/...`) lie below `sealed/`."""
    return f"leaves/{path.removeprefix('data/')}.leaves"


def read_trust(source: Source, pinned: str, kept: Kept = Kept()) -> Trust:  # noqa: B008 -- frozen
    """The newest root and revocations, from what is carried and what this machine remembers.

    Args:
        pinned: fingerprint of a root that this machine, or its operator's paper, believes.

    Raises:
        IntegrityFailure: one of its kinds, for the first thing that is not as signed.
    """
    roots, revocations = {}, None
    for found in source.carrier_listing():
        if found.kind == "file" and (match := _ROOT.fullmatch(found.path)):
            roots[int(match[1])] = source.carrier(found.path, ROOT_LIMIT_BYTES)
        elif found.path == "trust/revocations.json":
            revocations = source.carrier(found.path, LIST_LIMIT_BYTES)
    trust = believe(Carried(roots, revocations), pinned, kept)
    # Of all that is carried, not of the newest alone: an auditor's script begins with the root that its paper names.
    for version, data in sorted(roots.items()):
        name = f"{version}.root"
        root = Root.parse(Envelope.parse(data, f"{name}.json").payload, f"{name}.json")
        if root.version != version:
            raise TrustRejected(f"{name}.json: expected version {version}, found {root.version}", _AGAIN)
        _require_twin(source, name, root.flat())
    if revocations is not None:
        carried = Revocations.parse(Envelope.parse(revocations, "revocations.json").payload, "revocations.json")
        _require_twin(source, "revocations", carried.flat())
    return trust


def verify_statement(source: Source, trust: Trust) -> VerifiedBundle:
    """Verify signatures and the list of files; leaves are checked as they are read.

    Raises:
        IntegrityFailure: one of its kinds, for the first thing that is not as signed.
    """
    name = source.name
    envelope = Envelope.parse(source.carrier("statement.dsse.json", LIMIT_BYTES), "carrier/statement.dsse.json")
    if envelope.payload_type != statements.PAYLOAD_TYPE:
        raise SignatureRejected(
            f"carrier/statement.dsse.json: payload type {envelope.payload_type!r} is not a Statement's"
        )
    known = envelope.signers(trust.root.keys_by_id(), "carrier/statement.dsse.json")
    revoked = known & frozenset(trust.revocations.keys)
    what = name + "".join(f" (key {keyid[:16]} is revoked)" for keyid in sorted(revoked))
    builders = trust.root.require("builder", known - revoked, what)
    approvers = trust.root.require("approver", known - revoked, what)
    for keyid, signature in envelope.signatures.items():
        if source.carrier(f"sig/{keyid}.sig", _SIGNATURE_LIMIT_BYTES) != signature:
            raise SignatureRejected(f"carrier/sig/{keyid}.sig: differs from the signature in statement.dsse.json")
    if source.carrier("statement.json", statements.LIMIT_BYTES) != envelope.payload:
        raise SignatureRejected("carrier/statement.json: differs from the payload of statement.dsse.json")
    statement = statements.parse(envelope.payload, "carrier/statement.json")
    carried = list(source.carrier_listing())
    documents = {found.path for found in carried}
    for found in carried:
        if found.kind != "file" or not CARRIER.fullmatch(found.path):
            raise BundleMalformed(f"carrier/{found.shown}: not a {found.kind} that may lie here", _AGAIN)
        if found.mode & 0o7000:
            raise BundleMalformed(f"carrier/{found.path}: setuid, setgid or sticky", _AGAIN)
        if found.path.endswith(".flat") and f"{found.path[:-5]}.json" not in documents:
            raise BundleMalformed(f"carrier/{found.path}: the twin of nothing", _AGAIN)
        if found.path.startswith("sig/") and found.path[4:-4] not in envelope.signatures:
            raise SignatureRejected(f"carrier/{found.path}: is not in statement.dsse.json", _AGAIN)
    require_readable(statement.predicate.bundle)
    if statement.algorithm != trust.root.profile.algorithm:
        raise TrustRejected(
            f"{name}: root {trust.root.version} has profile {trust.root.profile.name}: expected digest"
            f" {trust.root.profile.algorithm}, found {statement.algorithm}",
            "name that profile in the manifest, and lock, build and sign anew",
        )
    require_not_revoked(_offer(statement), trust.revocations)
    _check_listing(source, statement)
    bundle = VerifiedBundle(statement, trust, builders, approvers, source, _MADE_HERE)
    if bundle.read(statements.FACTS) != statements.facts(statement.predicate.bundle, statement.predicate.target):
        raise BundleMalformed(f"sealed/{statements.FACTS}: does not say what the Statement says", _AGAIN)
    return bundle


def verify_bundle(source: Source, trust: Trust, reporter: Reporter) -> VerifiedBundle:
    """Verify everything: signatures, the list of files, and every byte of every file.

    Raises:
        IntegrityFailure: one of its kinds, for the first thing that is not as signed.
    """
    bundle = verify_statement(source, trust)
    check_contents(bundle, bundle.entries(), reporter)
    return bundle


def verify_unsigned(source: Source, statement: Statement, reporter: Reporter) -> None:
    """Compare a bundle with its own Statement, whoever signed it: what a signer's machine does first.

    Raises:
        IntegrityFailure: one of its kinds, for the first thing that differs.
    """
    _check_listing(source, statement)
    _check_contents(source, statement.predicate.files, reporter)


def check_contents(bundle: VerifiedBundle, entries: Iterable[Entry], reporter: Reporter) -> None:
    """Read files of a verified bundle to their end.

    Raises:
        DigestMismatch: a leaf differs.
    """
    _check_contents(bundle.source, entries, reporter)


def _check_contents(source: Source, entries: Iterable[Entry], reporter: Reporter) -> None:
    """Read files to their end, largest first, on several threads.

    Raises:
        DigestMismatch: a leaf differs.
    """
    # Leaf files are covered by their own flat digests and are read here before their users.
    ordered = sorted(entries, key=lambda e: (not e.path.startswith("leaves/"), -e.size_bytes))
    with (
        reporter.meter("verify", sum(e.size_bytes for e in ordered)) as meter,
        ThreadPoolExecutor(_THREADS) as pool,
    ):

        def check(entry: Entry) -> None:
            for chunk in _chunks(source, entry):
                meter.advance(len(chunk))

        tasks = [pool.submit(check, entry) for entry in ordered]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _offer(statement: Statement) -> Offer:
    return Offer(statement.predicate.bundle, statement.digest)


def _digest(entry: Entry, data: bytes) -> bytes:
    return hashlib.new(entry.algorithm, data).digest()


def _require_twin(source: Source, name: str, flat: bytes) -> None:
    if source.carrier(f"trust/{name}.flat", ROOT_LIMIT_BYTES) != flat:
        raise BundleMalformed(f"carrier/trust/{name}.flat: not the flat twin of {name}.json", _AGAIN)


def _check_listing(source: Source, statement: Statement) -> None:
    wanted = {entry.path: entry for entry in statement.predicate.files}
    name, algorithm = statement.sums_name, statement.algorithm
    with source.open(name) as stream:
        listed = stream.read(_SUMS_LIMIT_BYTES + 1)
    found_digest = hexdigest(algorithm, listed)
    if found_digest != statement.sums_digest:
        raise DigestMismatch(
            f"sealed/{name}: expected {algorithm} {statement.sums_digest}, found {found_digest}",
            "the list was changed: fetch the medium again from where it was made",
        )
    if listed != statements.sums(wanted.values()):
        raise BundleMalformed(f"sealed/{name}: does not list the files of the Statement")
    problems = []
    seen = set()
    for found in source.listing():
        seen.add(found.path)
        if found.kind != "file":
            problems.append(f"sealed/{found.shown}: expected a regular file, found a {found.kind}")
        elif found.mode & 0o7000:
            problems.append(f"sealed/{found.shown}: setuid, setgid or sticky")
        elif found.path == name:
            continue
        elif found.path not in wanted:
            problems.append(f"sealed/{found.shown}: extra, nobody signed it")
        elif found.size_bytes != wanted[found.path].size_bytes:
            entry = wanted[found.path]
            problems.append(f"sealed/{found.path}: expected {entry.size_bytes} bytes, found {found.size_bytes}")
    problems += [f"sealed/{path}: missing" for path in wanted.keys() - seen]
    if problems:
        raise BundleMalformed("\n".join(sorted(problems)), _AGAIN)


def _chunks(source: Source, entry: Entry) -> Iterator[bytes]:
    if entry.size_bytes > LEAF_BYTES and not entry.path.startswith("data/"):
        return iter((_whole(source, entry),))
    return _checked(source, entry, _leaves(source, entry))


def _leaves(source: Source, entry: Entry) -> list[bytes]:
    size = digest_bytes(entry.algorithm)
    if entry.size_bytes <= LEAF_BYTES:
        # One chunk: its only leaf is the flat digest.
        leaves = [bytes.fromhex(entry.digest)] if entry.size_bytes else []
        where = "the Statement"
    else:
        where = leaf_path(entry.path)
        with source.open(where) as stream:
            data = stream.read(leaf_count(entry.size_bytes) * size + 1)
        leaves = split(data, entry.algorithm)
    found = tree_root(leaves, entry.algorithm).hex()
    if len(leaves) != leaf_count(entry.size_bytes) or found != entry.leaf_root:
        raise DigestMismatch(
            f"{where}: expected the leaves of {entry.path} with root {entry.leaf_root},"
            f" found {found if all(len(x) == size for x in leaves) else 'broken leaves'}",
            "the leaf file was changed: fetch the medium again from where it was made",
        )
    return leaves


def _whole(source: Source, entry: Entry) -> bytes:
    """A file that has no leaf file of its own (a leaf file, for one): checked by its flat digest."""
    if entry.size_bytes > _SUMS_LIMIT_BYTES:
        raise BundleMalformed(f"sealed/{entry.path}: {entry.size_bytes} bytes, at most {_SUMS_LIMIT_BYTES} expected")
    with source.open(entry.path) as stream:
        data = stream.read(entry.size_bytes + 1)
    found = hexdigest(entry.algorithm, data)
    if found != entry.digest:
        raise DigestMismatch(f"sealed/{entry.path}: expected {entry.algorithm} {entry.digest}, found {found}", _AGAIN)
    return data


def _checked(source: Source, entry: Entry, leaves: list[bytes]) -> Iterator[bytes]:
    with source.open(entry.path) as stream:
        for number, leaf in enumerate(leaves):
            chunk = stream.read(LEAF_BYTES)
            if _digest(entry, chunk) != leaf:
                raise DigestMismatch(
                    f"sealed/{entry.path}: leaf {number} of {len(leaves)} (bytes {number * LEAF_BYTES} to"
                    f" {number * LEAF_BYTES + len(chunk)}): expected {leaf.hex()},"
                    f" found {_digest(entry, chunk).hex()}",
                    "the file was changed or the medium is damaged: burn it again and verify before it travels",
                )
            yield chunk
        if stream.read(1):
            raise DigestMismatch(f"sealed/{entry.path}: longer than the {entry.size_bytes} bytes that were signed")
