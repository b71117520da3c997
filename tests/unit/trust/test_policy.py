"""Only forward, unless the recovery role ordered one step back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import custody
from custody.errors import (
    AirgapError,
    BundleMalformed,
    BundleRevoked,
    InputInvalid,
    RolledBack,
    SignatureRejected,
    TrustRejected,
    VerifierTooOld,
)
from custody.trust import root as roots
from custody.trust.chain import Carried, Trust, believe
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.policy import (
    ORDER_TYPE,
    Accepted,
    Offer,
    Order,
    parse_order,
    require_not_older,
    require_not_revoked,
    require_readable,
)
from custody.trust.revocations import Revocations
from custody.trust.root import Person, Root
from custody.trust.statement import Identity

DIGEST = "ab" * 32
ACCEPTED = Accepted("stable", 5, 2)
ORDER = Order("stable", 5, 2, 4, DIGEST, "5 answers nonsense")
ALICE, BOB, CAROL = (PrivateKey.generate() for _ in range(3))


def offer(**changes: Any) -> Offer:
    fields = {
        "name": "x", "channel": "stable", "version": 5, "security_epoch": 2, "digest": "sha256",
        "lock_sha256": "0" * 64, "lowest_revocation": 0, "lowest_verifier": "0.1.0", "source_date_epoch": 0,
    }  # fmt: skip
    return Offer(Identity.model_validate({**fields, **changes}), DIGEST)


@pytest.fixture(scope="module")
def trust() -> Trust:
    persons = (
        Person("alice", ("builder", "root"), (ALICE.public,)),
        Person("bob", ("approver", "recovery"), (BOB.public,)),
        Person("carol", ("recovery",), (CAROL.public,)),
    )
    root = Root(1, persons, {"root": 1, "builder": 1, "approver": 1, "recovery": 2})
    envelope = Envelope(roots.PAYLOAD_TYPE, root.payload(), {}).signed_by(ALICE)
    return believe(Carried({1: envelope.dump()}), root.fingerprint)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"version": 6}, ""),
        ({"version": 4}, "expected version 5 or newer, found 4"),
        ({"version": 6, "security_epoch": 1}, "expected security epoch 2 or newer, found 1"),
        ({"version": 4, "security_epoch": 3}, "expected version 5 or newer, found 4"),
        ({"version": 6, "channel": "beta"}, "expected channel stable, found beta"),
    ],
)
def test_only_forward(changes: dict[str, Any], says: str) -> None:
    if not says:
        assert require_not_older(offer(**changes), ACCEPTED, minimum=None) is False
    else:
        with pytest.raises(RolledBack, match=says):
            require_not_older(offer(**changes), ACCEPTED, minimum=1)


def test_one_version_is_one_bundle() -> None:
    known = dataclasses.replace(ACCEPTED, statement_digest=DIGEST)
    require_not_older(offer(), known, minimum=None)
    other = dataclasses.replace(known, statement_digest="cd" * 32)
    with pytest.raises(RolledBack, match="version 5 was accepted here with another Statement"):
        require_not_older(offer(), other, minimum=None)
    require_not_older(offer(), other, minimum=None, order=ORDER)
    require_not_older(offer(version=6), other, minimum=None)


def test_a_host_that_remembers_nothing_asks_for_the_lowest_version() -> None:
    with pytest.raises(InputInvalid, match="lowest version"):
        require_not_older(offer(), Accepted(), minimum=None)
    with pytest.raises(RolledBack, match="version 6 or newer"):
        require_not_older(offer(), Accepted(), minimum=6)
    assert require_not_older(offer(), Accepted(), minimum=5) is False


def test_an_order_lets_one_host_go_back_once() -> None:
    older = offer(version=4, security_epoch=1)
    assert require_not_older(older, ACCEPTED, minimum=None, order=ORDER) is True
    with pytest.raises(RolledBack, match="used before"):
        require_not_older(older, ACCEPTED, minimum=None, order=ORDER, used=(ORDER.digest,))


@pytest.mark.parametrize(
    "change",
    [{"channel": "beta"}, {"from_version": 6}, {"from_security_epoch": 1}, {"statement_digest": "0" * 64}],
)
def test_an_order_for_something_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RolledBack, match="the downgrade order is for"):
        require_not_older(offer(version=4), ACCEPTED, minimum=None, order=dataclasses.replace(ORDER, **change))


def test_an_order_does_not_change_the_channel() -> None:
    with pytest.raises(RolledBack, match="channel"):
        require_not_older(offer(version=4, channel="beta"), ACCEPTED, minimum=None, order=ORDER)


def signed(payload: bytes, *keys: PrivateKey, kind: str = ORDER_TYPE) -> bytes:
    envelope = Envelope(kind, payload, {})
    for key in keys:
        envelope = envelope.signed_by(key)
    return envelope.dump()


def test_orders_are_signed_by_recovery(trust: Trust) -> None:
    assert parse_order(signed(ORDER.payload(), BOB, CAROL), trust, "order") == ORDER


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (signed(ORDER.payload(), BOB), SignatureRejected),
        (signed(ORDER.payload(), ALICE, BOB), SignatureRejected),
        (signed(ORDER.payload(), BOB, CAROL, kind="text/plain"), TrustRejected),
        (signed(b'{"_type":"airgap-downgrade"}', BOB, CAROL), TrustRejected),
        (signed(b"[]", BOB, CAROL), TrustRejected),
        (signed(ORDER.payload().replace(b'{"_type"', b'{"_note":1,"_type"'), BOB, CAROL), TrustRejected),
        (signed(ORDER.payload().replace(b'"from_version":5', b'"from_version":true'), BOB, CAROL), TrustRejected),
        (b"", BundleMalformed),
    ],
)
def test_other_orders_are_refused(trust: Trust, data: bytes, kind: type[AirgapError]) -> None:
    with pytest.raises(kind):
        parse_order(data, trust, "order")


def test_a_root_without_recovery_gives_no_orders() -> None:
    persons = (Person("alice", ("builder", "root"), (ALICE.public,)), Person("bob", ("approver",), (BOB.public,)))
    root = Root(1, persons, {"root": 1, "builder": 1, "approver": 1})
    envelope = Envelope(roots.PAYLOAD_TYPE, root.payload(), {}).signed_by(ALICE)
    trust = believe(Carried({1: envelope.dump()}), root.fingerprint)
    with pytest.raises(TrustRejected, match="no threshold for recovery"):
        parse_order(signed(ORDER.payload(), BOB), trust, "order")


def test_a_revoked_bundle_is_refused_and_so_is_a_list_that_was_taken_away() -> None:
    require_not_revoked(offer(), Revocations())
    require_not_revoked(offer(lowest_revocation=2), Revocations(2))
    with pytest.raises(BundleRevoked, match="leaks prompts"):
        require_not_revoked(offer(), Revocations(1, {}, {DIGEST: "leaks prompts"}))
    with pytest.raises(TrustRejected, match="number 2 or higher, found 1"):
        require_not_revoked(offer(lowest_revocation=2), Revocations(1))


@pytest.mark.parametrize(("wanted", "fine"), [(custody.VERSION, True), ("0.0.9", True), ("99.0", False), ("x", False)])
def test_a_bundle_names_the_lowest_verifier(wanted: str, fine: bool) -> None:
    if fine:
        require_readable(offer(lowest_verifier=wanted).identity)
    else:
        with pytest.raises(VerifierTooOld):
            require_readable(offer(lowest_verifier=wanted).identity)
