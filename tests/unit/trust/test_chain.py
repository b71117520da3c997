"""Roots follow one another by the signatures of both; what was revoked stays revoked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from custody.errors import AirgapError, BundleMalformed, SignatureRejected, TrustRejected
from custody.trust import canonical
from custody.trust import revocations as lists
from custody.trust import root as roots
from custody.trust.chain import Carried, Kept, Trust, believe
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.revocations import Revocations
from custody.trust.root import Person, Root

ALICE, BOB, CAROL, DORA, MALLORY = (PrivateKey.generate() for _ in range(5))
THRESHOLDS = {"root": 2, "builder": 1, "approver": 1}


def person(name: str, *roles: str, key: PrivateKey) -> Person:
    return Person(name, tuple(sorted(roles)), (key.public,))


ALICE_, BOB_ = person("alice", "root", "builder", key=ALICE), person("bob", "root", "approver", key=BOB)
CAROL_, DORA_ = person("carol", "root", key=CAROL), person("dora", "root", "builder", key=DORA)
ONE = Root(1, (ALICE_, BOB_, CAROL_), THRESHOLDS)
TWO = Root(2, (BOB_, CAROL_, DORA_), THRESHOLDS)  # alice leaves, dora comes
THREE = Root(3, (BOB_, CAROL_, DORA_), {**THRESHOLDS, "root": 3})
PINNED = ONE.fingerprint


def signed(root: Root, *keys: PrivateKey) -> bytes:
    return _sign(Envelope(roots.PAYLOAD_TYPE, root.payload(), {}), keys)


def listed(content: Revocations, *keys: PrivateKey) -> bytes:
    return _sign(Envelope(lists.PAYLOAD_TYPE, content.payload(), {}), keys)


def _sign(envelope: Envelope, keys: tuple[PrivateKey, ...]) -> bytes:
    for key in keys:
        envelope = envelope.signed_by(key)
    return envelope.dump()


FIRST = signed(ONE, ALICE, BOB)
SECOND = signed(TWO, ALICE, BOB, CAROL)
THIRD = signed(THREE, BOB, CAROL, DORA)


def test_the_newest_root_is_reached_from_any_pinned_one() -> None:
    carried = Carried({1: FIRST, 2: SECOND, 3: THIRD})
    for root in (ONE, TWO, THREE):
        trust = believe(carried, root.fingerprint)
        assert trust.root == THREE
        assert trust.kept.fingerprints[0] == root.fingerprint
        assert trust.kept.root == THIRD


@pytest.mark.parametrize(
    ("carried", "kind", "reason"),
    [
        ({}, TrustRejected, "no root"),
        ({1: signed(ONE, ALICE)}, SignatureRejected, r"2 root\(s\), found 1"),
        ({1: FIRST, 3: THIRD}, TrustRejected, "2.root.json: missing"),
        ({1: FIRST, 2: signed(TWO, CAROL, DORA)}, SignatureRejected, "judged by root 1"),
        ({1: FIRST, 2: signed(TWO, ALICE, BOB)}, SignatureRejected, "judged by root 2"),
        ({1: FIRST, 2: signed(TWO, DORA, MALLORY)}, SignatureRejected, "judged by root 1"),
        ({1: FIRST, 2: signed(ONE, ALICE, BOB)}, TrustRejected, "expected version 2, found 1"),
        ({1: FIRST, 2: THIRD}, TrustRejected, "expected version 2, found 3"),
        ({2: FIRST}, TrustRejected, "1.root.json: missing"),
        ({1: FIRST, 2: b"{}"}, BundleMalformed, "2.root.json"),
        ({1: FIRST, 2: listed(Revocations(1), ALICE, BOB)}, BundleMalformed, "payload type"),
    ],
)
def test_chains_with_a_weak_link_are_refused(carried: dict[int, bytes], kind: type[AirgapError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        believe(Carried(carried), PINNED)


def test_another_fingerprint_is_refused() -> None:
    with pytest.raises(TrustRejected, match="expected the fingerprint 0000") as refused:
        believe(Carried({1: FIRST}), "0" * 64)
    assert "compare with the paper" in refused.value.hint


def test_a_bundle_without_a_root_is_one_that_nobody_has_signed() -> None:
    with pytest.raises(TrustRejected, match=f"expected the fingerprint {PINNED}, found no root$") as refused:
        believe(Carried({}), PINNED)
    assert refused.value.hint == "nobody has signed it: airgap sign BUNDLE --key KEY --trust FOLDER"


def test_a_machine_that_remembers_a_root_goes_on_from_there() -> None:
    kept = believe(Carried({1: FIRST, 2: SECOND}), PINNED).kept
    older = believe(Carried({1: FIRST}), PINNED, kept)
    assert older.root == TWO  # an older medium does not take a root back
    newer = believe(Carried({2: SECOND, 3: THIRD}), PINNED, kept)
    assert (newer.root, len(newer.kept.fingerprints)) == (THREE, 3)
    paper = THREE.fingerprint
    assert believe(Carried({2: SECOND, 3: THIRD}), paper, kept).root == THREE
    with pytest.raises(TrustRejected, match="expected the fingerprint"):
        believe(Carried({1: FIRST}), paper, kept)


def test_a_machine_begins_where_it_was_pinned_whatever_is_typed() -> None:
    pinned = Kept(fingerprints=(PINNED,))
    assert believe(Carried({1: FIRST, 2: SECOND}), TWO.fingerprint, pinned).kept.fingerprints == (
        PINNED,
        TWO.fingerprint,
    )
    with pytest.raises(TrustRejected, match=f"expected the fingerprint {PINNED}"):
        believe(Carried({2: SECOND}), TWO.fingerprint, pinned)


def test_a_medium_without_roots_leaves_what_is_remembered() -> None:
    kept = believe(Carried({1: FIRST}), PINNED).kept
    assert believe(Carried({}), PINNED, kept).kept == kept


def test_an_older_list_leaves_the_one_that_is_remembered() -> None:
    more = Revocations(2, {**LOST.keys, DORA.public.keyid: "stolen"})
    kept = believe(Carried({1: FIRST}, listed(more, BOB, CAROL)), PINNED).kept
    assert believe(Carried({1: FIRST}, listed(LOST, BOB, CAROL)), PINNED, kept).kept == kept


def test_lists_have_numbers_and_digests() -> None:
    assert Revocations(canonical.LARGEST).number == canonical.LARGEST
    with pytest.raises(TrustRejected, match=r"'x': expected 64 hexadecimal digits$"):
        Revocations(1, {"x": "lost"})
    with pytest.raises(TrustRejected, match=r"'x': expected 64 or 96 hexadecimal digits$"):
        Revocations(1, {}, {"x": "nonsense"})


def test_a_fork_is_refused() -> None:
    kept = believe(Carried({1: FIRST, 2: SECOND}), PINNED).kept
    other = signed(Root(2, (ALICE_, BOB_, DORA_), THRESHOLDS), ALICE, BOB)
    with pytest.raises(TrustRejected, match=r"of this version|have this version"):
        believe(Carried({1: FIRST, 2: other}), PINNED, kept)
    with pytest.raises(TrustRejected, match=r"of this version|have this version"):
        believe(Carried({1: FIRST, 2: other, 3: THIRD}), PINNED, kept)


LOST = Revocations(1, {ALICE.public.keyid: "token lost"})


def test_revocations_are_signed_numbered_and_only_grow() -> None:
    first = believe(Carried({1: FIRST}, listed(LOST, BOB, CAROL)), PINNED)
    assert first.revocations == LOST
    again = believe(Carried({1: FIRST}), PINNED, first.kept)
    assert again.revocations == LOST  # taken away from the medium, and still known
    more = Revocations(2, {**LOST.keys, DORA.public.keyid: "left"}, {"0" * 64: "answers nonsense"})
    second = believe(Carried({1: FIRST}, listed(more, BOB, CAROL)), PINNED, first.kept)
    assert second.revocations == more
    older = believe(Carried({1: FIRST}, listed(LOST, BOB, CAROL)), PINNED, second.kept)
    assert older.revocations == more


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (listed(Revocations(3, {}), BOB, CAROL), TrustRejected, "revoked in list 1"),
        (listed(Revocations(2, {}, {ALICE.public.keyid: "x"}), ALICE, BOB), TrustRejected, "revoked in list 1"),
        (listed(Revocations(1, {BOB.public.keyid: "no"}), BOB, CAROL), TrustRejected, "another list with number 1"),
        (listed(Revocations(2, LOST.keys), BOB), SignatureRejected, "found 1"),
        (listed(Revocations(2, LOST.keys), ALICE, BOB), SignatureRejected, "found 1"),  # a revoked key has no say
        (listed(Revocations(2, {**LOST.keys, BOB.public.keyid: "x"}), BOB, CAROL), SignatureRejected, "found 1"),
        (listed(Revocations(2, LOST.keys), MALLORY, DORA), SignatureRejected, "found 0"),
        (b"[]", BundleMalformed, "revocations.json"),
        (FIRST, BundleMalformed, "payload type"),
    ],
)
def test_lists_that_shrink_or_lack_persons_are_refused(data: bytes, kind: type[AirgapError], reason: str) -> None:
    first = believe(Carried({1: FIRST}, listed(LOST, BOB, CAROL)), PINNED)
    with pytest.raises(kind, match=reason):
        believe(Carried({1: FIRST}, data), PINNED, first.kept)


def test_a_revoked_key_cannot_bring_in_a_new_root() -> None:
    kept = believe(Carried({1: FIRST}, listed(LOST, BOB, CAROL)), PINNED).kept
    stolen = signed(TWO, ALICE, BOB, DORA)  # alice's key was found by somebody; carol has not signed
    with pytest.raises(SignatureRejected, match="judged by root 1"):
        believe(Carried({1: FIRST, 2: stolen}), PINNED, kept)
    assert believe(Carried({1: FIRST, 2: SECOND}), PINNED, kept).root == TWO


@pytest.mark.parametrize(
    "make",
    [
        lambda: Revocations(-1),
        lambda: Revocations(10**15),
        lambda: Revocations(True),
        lambda: Revocations(1, {"x": "y"}),
        lambda: Revocations(1, {"0" * 64: ""}),
        lambda: Revocations(1, {}, {"0" * 64: "a\nb"}),
    ],
)
def test_senseless_lists_are_void(make: Callable[[], Revocations]) -> None:
    with pytest.raises(TrustRejected):
        make()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"number":1}',
        b'{"keys":[],"number":1,"statements":{}}',
        Revocations(1).payload().replace(b'"number":1', b'"number":2'),
        Revocations(1).payload().replace(b'{"_type"', b'{"_note":1,"_type"'),
        Revocations(0).payload(),
    ],
)
def test_lists_have_one_spelling(payload: bytes) -> None:
    with pytest.raises(TrustRejected):
        Revocations.parse(payload, "list")


def test_only_believe_makes_a_trust() -> None:
    with pytest.raises(TypeError, match="makes a Trust"):
        Trust(ONE, Revocations(), Kept(), object())
