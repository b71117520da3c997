"""Roots: persons are counted, keys have one spelling, what makes no sense is void."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from custody.errors import BundleMalformed, SignatureRejected, TrustRejected
from custody.trust import canonical
from custody.trust.envelope import Envelope, pae
from custody.trust.keys import PrivateKey, PublicKey
from custody.trust.profile import MLDSA_SCHEME, PROFILES
from custody.trust.root import Person, Root

ALICE, ALICE_TOO, BOB = (PrivateKey.generate() for _ in range(3))
THRESHOLDS = {"root": 1, "builder": 1, "approver": 1}


def root(*persons: Person, thresholds: dict[str, int] | None = None) -> Root:
    default = (
        Person("alice", ("root", "builder"), (ALICE.public, ALICE_TOO.public)),
        Person("bob", ("approver",), (BOB.public,)),
    )
    return Root(1, persons or default, thresholds or THRESHOLDS)


def test_pae_is_that_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_payload_survives_parsing_and_binds_the_flat_twin() -> None:
    payload = root().payload()
    assert Root.parse(payload, "root").payload() == payload
    assert hashlib.sha384(root().flat()).hexdigest().encode() in payload


CNSA = PROFILES["cnsa"]
ALICE_PQ, BOB_PQ = PrivateKey.generate(MLDSA_SCHEME), PrivateKey.generate(MLDSA_SCHEME)


def cnsa(*more: Person) -> Root:
    persons = (
        Person("alice", ("root", "builder"), (ALICE.public, ALICE_TOO.public, ALICE_PQ.public)),
        Person("bob", ("root", "approver"), (BOB.public, BOB_PQ.public)),
        *more,
    )
    return Root(1, persons, {"root": 1, "builder": 1, "approver": 1}, CNSA)


def test_cnsa_counts_whoever_signed_with_both_schemes() -> None:
    root = cnsa()
    assert Root.parse(root.payload(), "root").payload() == root.payload()
    assert len(root.fingerprint) == 96
    ids = {
        name: key.public.keyid for name, key in (("p384", ALICE), ("too", ALICE_TOO), ("pq", ALICE_PQ), ("bob", BOB))
    }
    assert root.persons_with("root", frozenset({ids["p384"], ids["pq"], ids["bob"]})) == ("alice",)
    assert root.persons_with("root", frozenset({ids["p384"], ids["too"]})) == ()
    assert root.persons_with("root", frozenset({ids["pq"]})) == ()


def test_who_signed_with_one_scheme_of_two_is_named() -> None:
    carol = PrivateKey.generate()
    dora = Person("dora", ("root",), (carol.public, PrivateKey.generate(MLDSA_SCHEME).public))
    keyids = frozenset({ALICE.public.keyid, BOB_PQ.public.keyid, carol.public.keyid})
    with pytest.raises(SignatureRejected) as refused:
        cnsa(dora).require("root", keyids, "it")
    assert refused.value.message == (
        "it: expected signatures of 1 root(s), found 0 (nobody; alice signed without ml-dsa-87;"
        " bob signed without ecdsa-p384-sha384; dora signed without ml-dsa-87)"
    )
    with pytest.raises(SignatureRejected, match=r"found 0 \(nobody; bob signed without ecdsa-p384-sha384\)$"):
        cnsa(dora).require("approver", keyids, "it")


@pytest.mark.parametrize(
    ("role", "next_command"),
    [
        ("root", "airgap trust sign FOLDER --key KEY"),
        ("builder", "airgap sign BUNDLE --key KEY --trust FOLDER"),
        ("approver", "airgap sign BUNDLE --key KEY --trust FOLDER"),
        ("recovery", "airgap trust order FOLDER BUNDLE --from-version N --reason TEXT --out ORDER --key KEY"),
    ],
)
def test_who_has_to_sign_is_told_with_what(role: str, next_command: str) -> None:
    carol = Person("carol", ("recovery",), (PrivateKey.generate().public,))
    with pytest.raises(SignatureRejected) as refused:
        root(*root().persons, carol, thresholds={**THRESHOLDS, "recovery": 1}).require(role, frozenset(), "it")
    assert refused.value.hint == f"sign it with: {next_command}"


def test_keys_lead_to_their_persons() -> None:
    found = {key.keyid: cnsa().person_of(key.keyid).name for key in (ALICE.public, ALICE_PQ.public, BOB.public)}
    assert found == {ALICE.public.keyid: "alice", ALICE_PQ.public.keyid: "alice", BOB.public.keyid: "bob"}


def test_a_key_of_another_profile_voids_a_root() -> None:
    with pytest.raises(TrustRejected, match="person carol: profile p384 knows no ml-dsa-87"):
        root(Person("carol", ("root",), (ALICE_PQ.public,)))


def test_a_person_without_both_keys_holds_no_role_of_cnsa() -> None:
    lonely = Person("carol", ("recovery",), (PrivateKey.generate().public,))
    with pytest.raises(TrustRejected, match=r"and 0 persons hold that role with keys of .* and ml-dsa-87"):
        replace(cnsa(lonely), thresholds={"root": 1, "builder": 1, "approver": 1, "recovery": 1})


def test_two_keys_of_one_person_count_once() -> None:
    two = root(thresholds={**THRESHOLDS, "builder": 1})
    both = frozenset({ALICE.public.keyid, ALICE_TOO.public.keyid})
    assert two.persons_with("builder", both) == ("alice",)


def test_threshold_of_two_is_not_met_by_one_person_with_two_keys() -> None:
    persons = (
        Person("alice", ("root", "builder"), (ALICE.public, ALICE_TOO.public)),
        Person("carol", ("builder",), (PrivateKey.generate().public,)),
        Person("bob", ("approver",), (BOB.public,)),
    )
    both = frozenset({ALICE.public.keyid, ALICE_TOO.public.keyid})
    with pytest.raises(SignatureRejected, match=r"expected signatures of 2 builder\(s\), found 1"):
        root(*persons, thresholds={**THRESHOLDS, "builder": 2}).require("builder", both, "it")


@pytest.mark.parametrize(
    ("persons", "reason"),
    [
        (
            (Person("a", ("root", "builder"), (ALICE.public,)), Person("b", ("approver",), (ALICE.public,))),
            "is under a and b$",
        ),
        ((Person("a", ("root", "builder", "approver"), (ALICE.public,)),), "builder and approver"),
        ((Person("a", ("builder", "approver"), (ALICE.public,)),), "builder and approver"),
        (
            (Person("a", ("root", "builder"), (ALICE.public,)),),
            "threshold for approver is 1, and 0 persons hold that role$",
        ),
        ((Person("A", ("root",), (ALICE.public,)),), "lower-case"),
        ((Person("a", ("king",), (ALICE.public,)),), "roles are some of"),
        ((Person("a", ("root", "root"), (ALICE.public,)),), "each once"),
        ((Person("a", (), (ALICE.public,)),), "roles are some of"),
        ((Person("a", ("root",), (ALICE.public,)), Person("a", ("root",), (BOB.public,))), "two persons have one name"),
    ],
)
def test_senseless_roots_are_void(persons: tuple[Person, ...], reason: str) -> None:
    with pytest.raises(TrustRejected, match=reason):
        root(*persons)


@pytest.mark.parametrize(
    ("thresholds", "reason"),
    [
        ({"root": 2}, "threshold for root is 2, and 1 persons"),
        ({"root": 0}, "threshold for root is 0"),
        ({"recovery": 1}, "threshold for recovery is 1, and 0 persons"),
        ({"king": 1}, "unknown role"),
    ],
)
def test_thresholds_that_nobody_can_meet_are_void(thresholds: dict[str, int], reason: str) -> None:
    with pytest.raises(TrustRejected, match=reason):
        root(thresholds={**THRESHOLDS, **thresholds})


def test_thresholds_are_named_but_that_of_recovery_may_be_missing() -> None:
    with pytest.raises(TrustRejected, match="threshold for approver is 0"):
        root(thresholds={"root": 1, "builder": 1})
    carol = Person("carol", ("recovery",), (PrivateKey.generate().public,))
    assert root(*root().persons, carol).thresholds == THRESHOLDS
    assert root(*root().persons, carol, thresholds={**THRESHOLDS, "recovery": 1}).thresholds["recovery"] == 1


def test_the_largest_version_is_one() -> None:
    assert Root(canonical.LARGEST, root().persons, THRESHOLDS).version == canonical.LARGEST


@pytest.mark.parametrize("version", [0, -1, canonical.LARGEST + 1])
def test_versions_count_from_one(version: int) -> None:
    with pytest.raises(TrustRejected, match="expected 1 or more"):
        Root(version, root().persons, THRESHOLDS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("persons"), "not a root"),
        (lambda c: c.update(version="1"), "expected an integer"),
        (lambda c: c.update(version=True), "expected an integer"),
        (lambda c: c["thresholds"].update(root=1.5), "expected an integer"),
        (lambda c: c["persons"][0]["keys"][0].update(public="eA=="), "SubjectPublicKeyInfo"),
        (lambda c: c["persons"][0]["keys"][0].update(keyid="0" * 64), "contradict"),
        (lambda c: c["persons"].reverse(), "contradict"),
        (lambda c: c.update(flat_sha384="0" * 64), "contradict"),
        (lambda c: c.update(more=1), "unknown fields"),
    ],
)
def test_roots_have_one_spelling(change: Callable[[dict[str, Any]], object], reason: str) -> None:
    content = json.loads(root().payload())
    change(content)
    with pytest.raises(TrustRejected, match=reason):
        Root.parse(canonical.dump(content), "root")


def test_a_key_has_one_encoding() -> None:
    key = load_der_public_key(BOB.public.der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3046301006072a8648ce3d020106052b81040022033200")
    with pytest.raises(TrustRejected, match=r"uncompressed|SubjectPublicKeyInfo"):
        PublicKey(head + point)


@pytest.mark.parametrize("data", [b'{"a": 1}', b'{"a":1,"a":1}', b'{"b":1,"a":1}', b"{", b'{"a":9007199254740993}'])
def test_envelopes_have_one_spelling(data: bytes) -> None:
    with pytest.raises(BundleMalformed):
        Envelope.parse(data, "envelope")
