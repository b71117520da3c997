"""What is fuzzed: a parser by name, and bytes that it accepts, to begin with.

A parser may accept or raise `AirgapError`; anything else is a finding. What it accepts has one spelling.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey

from custody.errors import AirgapError
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.note import LogSigner, Note
from custody.ledger.proof import Growth, Proof
from custody.ledger.segment import Reading, spans
from custody.ledger.tree import EMPTY_ROOT, Frontier, leaf_hash
from custody.trust import canonical, root, statement
from custody.trust.chain import Carried, believe
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey, PublicKey
from custody.trust.leaves import split
from custody.trust.policy import ORDER_TYPE, Order, parse_order
from custody.trust.profile import PROFILES
from custody.trust.revocations import PAYLOAD_TYPE as LIST_TYPE
from custody.trust.revocations import Revocations
from custody.trust.root import Person, Root
from custody.trust.statement import Entry, Identity, Predicate, StatementTarget

#: The same keys in every run, so that a corpus stays worth something.
ALICE, BOB = (PrivateKey(ec.derive_private_key(n, ec.SECP384R1())) for n in (2, 3))
ALICE_PQ, BOB_PQ = (PrivateKey(MLDSA87PrivateKey.from_seed_bytes(bytes([n]) * 32)) for n in (2, 3))
ROOT = Root(
    1,
    (
        Person("alice", ("builder", "recovery", "root"), (ALICE.public,)),
        Person("bob", ("approver", "root"), (BOB.public,)),
    ),
    {"root": 2, "builder": 1, "approver": 1, "recovery": 1},
)
_CNSA = Root(
    1,
    (
        Person("alice", ("builder", "root"), (ALICE.public, ALICE_PQ.public)),
        Person("bob", ("approver", "root"), (BOB.public, BOB_PQ.public)),
    ),
    {"root": 2, "builder": 1, "approver": 1},
    PROFILES["cnsa"],
)
_FIRST = Envelope(root.PAYLOAD_TYPE, ROOT.payload(), {}).signed_by(ALICE).signed_by(BOB).dump()
_SECOND = Envelope(root.PAYLOAD_TYPE, Root(2, ROOT.persons, ROOT.thresholds).payload(), {}).dump()
_PINNED = ROOT.fingerprint
_TRUST = believe(Carried({1: _FIRST}), _PINNED)
_LOG = LogSigner("fuzz", Ed25519PrivateKey.from_private_bytes(bytes(32)))
_HEAD = Checkpoint("fuzz", 1, leaf_hash(b"{}"))
_SIGNED = _HEAD.signed_by(_LOG).dump()
_LIST = Revocations(1, {"0" * 64: "lost"}, {"1" * 64: "nonsense"})
_ORDER = Order("stable", 2, 1, 1, "0" * 64, "2 answers nonsense")
_ENTRY = Entry(path="data/files/a", mode="0644", size_bytes=1, sha256="0" * 64, leaf_root="0" * 64)
_ENTRY_384 = Entry(
    path="sbom/a", mode="0644", size_bytes=1, sha256="0" * 64, sha384="0" * 96, leaf_root="0" * 96
)  # fmt: skip
_STATEMENT, _STATEMENT_384 = (
    statement.make(
        Predicate(
            bundle=Identity(
                name="a", channel="stable", version=1, security_epoch=1, digest=entry.algorithm, lock_sha256="0" * 64,
                lowest_revocation=0, lowest_verifier="0.1.0", source_date_epoch=1,
            ),
            target=StatementTarget(
                distribution="debian", release="trixie", architecture="amd64", python="3.13", kernel="6.12", driver=None
            ),
            sbom=statement.documents((entry,)),
            files=(entry,),
        ),
        entry.leaf_root,
    )
    for entry in (_ENTRY, _ENTRY_384)
)  # fmt: skip


def _canonical(data: bytes) -> None:
    assert canonical.dump(canonical.parse(data, "fuzz", 1 << 20)) == data


def _envelope(data: bytes) -> None:
    found = Envelope.parse(data, "fuzz")
    assert found.dump() == data
    found.signers(ROOT.keys_by_id(), "fuzz")


def _root(data: bytes) -> None:
    assert Root.parse(data, "fuzz").payload() == data


def _next_root(data: bytes) -> None:
    """No input may bring in a second root: nobody has signed one."""
    assert believe(Carried({1: _FIRST, 2: data}), _PINNED).root.version == 1


def _revocations(data: bytes) -> None:
    assert Revocations.parse(data, "fuzz").payload() == data


def _list(data: bytes) -> None:
    """No input may revoke anything."""
    assert believe(Carried({1: _FIRST}, data), _PINNED).revocations.number == 0


def _statement(data: bytes) -> None:
    assert statement.parse(data, "fuzz").dump() == data


def _order(data: bytes) -> None:
    parse_order(data, _TRUST, "fuzz")


def _key(data: bytes) -> None:
    assert PublicKey(data).der == data


def _note(data: bytes) -> None:
    found = Note.parse(data, "fuzz")
    assert found.dump() == data
    found.require(_LOG.public, "fuzz")


def _checkpoint(data: bytes) -> None:
    """No input but the log's own is a checkpoint of the log."""
    assert open_checkpoint(data, _LOG.public, "fuzz")[0] == _HEAD


def _proof(data: bytes) -> None:
    found = Proof.parse(data, "fuzz")
    assert found.dump() == data
    found.verify(b"{}", _LOG.public, "fuzz")


def _growth(data: bytes) -> None:
    found = Growth.parse(data, "fuzz")
    assert found.dump() == data
    found.verify(Checkpoint("fuzz", 0, EMPTY_ROOT), _LOG.public, "fuzz")


def _segment(data: bytes) -> None:
    reading = Reading(Frontier(), data)
    assert sum(len(group.leaves) for group in reading.groups()) == reading.frontier.size
    assert reading.data[: reading.end] + reading.rest == data
    assert isinstance(reading.is_torn, bool)
    lines = data.split(b"\n")[:-1]
    found = list(spans(data))
    assert len(found) == sum(line.startswith(b"#") for line in lines)
    assert all(not line.startswith(b"#") for at, end in found for line in data[at:end].split(b"\n")[:-1])


def _leaves(data: bytes) -> None:
    assert b"".join(split(data, "sha256")) == data


#: By name: the parser, and what it accepts, or refuses late.
TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "canonical": (_canonical, (b'{"a":[1,"\\u0000",null,true,1.5]}',)),
    "envelope": (_envelope, (_FIRST, Envelope("t", b"x", {}).dump())),
    "root": (_root, (ROOT.payload(), _CNSA.payload())),
    "next_root": (_next_root, (_FIRST, _SECOND)),
    "revocations": (_revocations, (_LIST.payload(),)),
    "list": (_list, (Envelope(LIST_TYPE, _LIST.payload(), {}).dump(),)),
    "statement": (_statement, (_STATEMENT.dump(), _STATEMENT_384.dump())),
    "order": (_order, (Envelope(ORDER_TYPE, _ORDER.payload(), {}).signed_by(ALICE).dump(),)),
    "key": (_key, (ALICE.public.der, ALICE_PQ.public.der)),
    "note": (_note, (_SIGNED,)),
    "checkpoint": (_checkpoint, (_SIGNED,)),
    "proof": (_proof, (Proof(0, (), _SIGNED).dump(), Proof(1, (bytes(32),), _SIGNED).dump())),
    "growth": (_growth, (Growth(0, (), _SIGNED).dump(), Growth(1, (bytes(32),), _SIGNED).dump())),
    "segment": (_segment, (b"{}\n#0 1 " + base64.b64encode(_HEAD.root) + b"\n", b"{}\n{")),
    "leaves": (_leaves, (b"", bytes(64))),
}


def try_one(name: str, data: bytes) -> bool:
    """Feed one input; returns whether it was accepted. What is neither yes nor `AirgapError` comes out as it is."""
    parser, _ = TARGETS[name]
    try:
        parser(data)
    except AirgapError:
        return False
    return True
